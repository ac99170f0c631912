import json

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from dermjudge.evaluators.alternative import alternative_annotator
from dermjudge.evaluators.multiplicity import adjust
from dermjudge.evaluators.votes import agree_votes, read_votes
from dermjudge.judge.errors import InputError

WORDS = ["A", "B", "tie"]
EXPERT = pl.col("rater_kind") == "expert"


def ballot(cases=60, raters=4, seed=0, missing=0.2, skew=0.0):
    """Votes of a judge m and experts around a truth; `skew`: share of the judge's votes that take the first option."""
    draw = np.random.default_rng(seed)
    rows = []
    for c in range(cases):
        truth, first = draw.choice(WORDS, p=[0.45, 0.4, 0.15]), draw.choice(WORDS[:2])
        for rater in ("m", *(f"e{r}" for r in range(raters))):
            vote = truth if draw.random() < 0.7 else draw.choice(WORDS)
            if rater == "m" and draw.random() < skew:
                vote = first
            if rater != "m" and draw.random() < missing:
                vote = None
            kind = "judge" if rater == "m" else "expert"
            row = {"case_id": f"c{c}", "rater": rater, "rater_kind": kind, "vote": vote, "shown_first": first}
            rows.append(row | {"system_a": "x", "system_b": "y"})
    return pl.DataFrame(rows)


def wide(frame):
    table = frame.pivot("rater", index="case_id", values="vote")
    return table["m"].to_list(), {r: table[r].to_list() for r in table.columns if r.startswith("e")}


def by_hand(frame):
    """Every statistic item by item."""
    judge, experts = wide(frame)
    pairs = [(m, v) for votes in experts.values() for m, v in zip(judge, votes, strict=True) if v is not None]
    found = {"item.exact": np.mean([m == v for m, v in pairs])}

    def winner(votes):
        counts = sorted(((votes.count(w), w) for w in WORDS), reverse=True)
        return None if not votes or counts[0][0] == counts[1][0] else counts[0][1]

    all_votes = [[votes[i] for votes in experts.values() if votes[i] is not None] for i in range(len(judge))]
    target = [winner(votes) for votes in all_votes]
    kept = [(m, t) for m, t in zip(judge, target, strict=True) if t is not None]
    found["item.majority"] = np.mean([m == t for m, t in kept])
    found["constant.majority"] = max(np.mean([t == w for _, t in kept]) for w in WORDS)
    found["n.majority"] = len(kept)
    own, theirs = [], []
    for name, votes in experts.items():
        rest = [
            winner([v[i] for r, v in experts.items() if r != name and v[i] is not None])
            if votes[i] is not None
            else None
            for i in range(len(judge))
        ]
        use = [i for i in range(len(judge)) if rest[i] is not None]
        own.append(np.mean([judge[i] == rest[i] for i in use]))
        theirs.append(np.mean([votes[i] == rest[i] for i in use]))
    found |= {"loo_judge.match": np.mean(own), "loo_expert.match": np.mean(theirs)}
    found["judge_minus_expert.match"] = np.mean(own) - np.mean(theirs)
    found["loo_rank.judge_beats_expert"] = np.mean([0.5 if a == b else a > b for a, b in zip(own, theirs, strict=True)])
    for name, votes in experts.items():
        both = [(m, v) for m, v in zip(judge, votes, strict=True) if v is not None]
        found[f"kappa.{name}"] = cohen_kappa_score(*zip(*both, strict=True))
    found["item.kappa"] = np.mean([v for k, v in found.items() if k.startswith("kappa.")])
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_the_slow_form(seed):
    frame = ballot(seed=seed)
    found = agree_votes(frame, resamples=64).of("m", "preference")
    expected = by_hand(frame)
    assert found["item.majority"].n == expected.pop("n.majority")
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name
    assert found.counts["majority_ties"] + found["item.majority"].n == 60


def test_alpha_against_krippendorff():
    oracle = pytest.importorskip("krippendorff")
    frame = ballot()
    judge, experts = wide(frame)
    code = {"A": 0.0, "B": 1.0, "tie": 2.0, None: np.nan}
    table = np.array([[code[v] for v in votes] for votes in experts.values()])
    result = agree_votes(frame, resamples=64)
    alone = oracle.alpha(table, level_of_measurement="nominal")
    joined = oracle.alpha(np.vstack([table, [code[v] for v in judge]]), level_of_measurement="nominal")
    assert result.panel[0].results["alpha_nominal"].value == pytest.approx(alone, abs=1e-9)
    found = result.of("m", "preference")
    assert found["item.alpha_without_judge"].value == pytest.approx(alone, abs=1e-9)
    assert found["item.alpha_with_judge"].value == pytest.approx(joined, abs=1e-9)
    assert found["item.alpha_change"].value == pytest.approx(joined - alone, abs=1e-9)


def test_a_resample_is_the_statistic_of_the_repeated_cases():
    from dermjudge.evaluators.bootstrap import cluster_weights, resample
    from dermjudge.evaluators.vote_cell import VoteCell

    frame = ballot(cases=25)
    panel = read_votes(frame).panel
    drawn = resample([VoteCell(panel, 0, 0).cell], panel.n_clusters, 3, seed=1)[0]
    weights = cluster_weights(panel.n_clusters, 0, 1)
    for b in range(3):
        times = {
            case: int(weights[panel.cluster[list(panel.case).index(c)], b]) for c, case in enumerate(panel.case_ids)
        }
        again = pl.concat(
            frame.filter(pl.col("case_id") == case).with_columns(case_id=pl.lit(f"{case}-{copy}"))
            for case, n in times.items()
            for copy in range(n)
        )
        for name, value in by_hand(again).items():
            if name != "n.majority":
                assert drawn[name][b] == pytest.approx(value, abs=1e-9), name


def test_alternative_test_counts_matches():
    """Item by item, alignment = share of the others who chose the same; the codes' distance must not matter."""
    panel = read_votes(ballot(cases=80)).panel
    x, y = panel.judges[0, :, 0], panel.experts[0]
    p = []
    for j in range(4):
        d = []
        for i in range(len(x)):
            others = [y[i, k] for k in range(4) if k != j and np.isfinite(y[i, k])]
            if others and np.isfinite(y[i, j]):
                f, h = np.mean([x[i] == o for o in others]), np.mean([y[i, j] == o for o in others])
                d.append(float(h >= f) - float(f >= h))
        p.append(stats.ttest_1samp(d, 0.2, alternative="less").pvalue)
    found = alternative_annotator(x, y, match=True)
    assert [t.p_value for t in found.raters] == pytest.approx(p, abs=1e-9)
    relabelled = np.array([0.0, 5.0, 1.0])
    other = alternative_annotator(
        relabelled[x.astype(int)], np.where(np.isfinite(y), relabelled[np.nan_to_num(y).astype(int)], y), match=True
    )
    assert [t.p_value for t in other.raters] == [t.p_value for t in found.raters]
    whole = agree_votes(ballot(cases=80), resamples=64).alternative[0]
    assert [t.p_adjusted for t in whole.raters] == pytest.approx(adjust(p, "by"))
    assert whole.ceiling.keys() == {"loo_judge.match", "loo_expert.match"}


def test_position_bias_is_found_and_ties_do_not_count():
    frame = ballot(cases=300, skew=0.5)
    found = agree_votes(frame, resamples=64).position["preference"]
    assert found["m"].low > 0.6
    assert found["e0"].low < 0.5 < found["e0"].high
    own = frame.filter((pl.col("rater") == "m") & (pl.col("vote") != "tie"))
    assert found["m"].n == own.height
    assert found["m"].value == pytest.approx((own["vote"] == own["shown_first"]).mean())
    same = agree_votes(frame.with_columns(shown_first=pl.lit("A")), resamples=64).position["preference"]["m"]
    assert (same.value, same.reason) == (None, "no vote on options whose order varied")
    assert agree_votes(frame.drop("shown_first"), resamples=64).position == {}


def test_the_first_vote_of_a_judge_counts_and_both_orders_count_for_position():
    frame = ballot(missing=0.0).with_columns(repeat=pl.lit(0))
    swap = {"A": "B", "B": "A"}
    again = frame.filter(~EXPERT).with_columns(
        repeat=pl.lit(1), vote=pl.lit("tie"), shown_first=pl.col("shown_first").replace(swap)
    )
    once, twice = agree_votes(frame, resamples=64), agree_votes(pl.concat([frame, again]), resamples=64)
    assert once.of("m", "preference").results == twice.of("m", "preference").results
    moved = again.with_columns(vote=pl.col("shown_first"))
    position = agree_votes(pl.concat([frame, moved]), resamples=64).position["preference"]["m"]
    assert position.n == once.position["preference"]["m"].n + 60


def test_refusals():
    frame = ballot()
    nameless = frame.with_columns(pl.when(EXPERT).then(pl.lit("")).otherwise(pl.col("rater")).alias("rater"))
    result = agree_votes(nameless, resamples=64)
    found = result.of("m", "preference")
    assert "no identity" in found["item.kappa"].reason
    assert "no identity" in found["loo_rank.judge_beats_expert"].reason
    assert "no identity" in result.alternative[0].reason
    assert found["item.exact"].value is not None
    assert not any(name.startswith("kappa.") for name in found.results)
    result = agree_votes(frame.with_columns(stage=pl.lit("adjudicated")), resamples=64)
    found = result.of("m", "preference")
    for name in ("loo_expert.match", "judge_minus_expert.match", "item.alpha_without_judge", "item.alpha_change"):
        assert found[name].value is None
        assert "adjudicated" in found[name].reason
    assert "adjudicated" in result.panel[0].results["alpha_nominal"].reason
    assert found["item.majority"].value is not None
    json.dumps(result.to_dict(), allow_nan=False)


def test_votes_that_never_vary_and_lonely_experts():
    rows = [("m", "judge"), ("e0", "expert")]
    frame = pl.DataFrame(
        [{"case_id": f"c{c}", "rater": r, "rater_kind": k, "vote": "A"} for c in range(25) for r, k in rows]
    )
    result = agree_votes(frame, resamples=64)
    found = result.of("m", "preference")
    assert found["item.exact"].value == 1
    assert found["item.kappa"].reason == "the votes do not vary"
    assert "two experts" in found["loo_expert.match"].reason
    assert "no item has votes of two experts" in result.panel[0].results["pairs.exact"].reason
    assert "needs 3" in result.alternative[0].reason
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_judge_without_votes():
    frame = ballot().with_columns(pl.when(EXPERT).then(pl.col("vote")).alias("vote"))
    found = agree_votes(frame, resamples=64).of("m", "preference")
    assert all(e.value is None and e.reason for e in found.results.values())


def test_names_of_columns_and_numbers_as_categories():
    frame = ballot(cases=25)
    panel = read_votes(frame).panel
    assert panel.systems == ("x vs y",)
    assert panel.dimensions == ("preference",)
    plain = frame.drop("system_a", "system_b").rename({"vote": "score"})
    assert read_votes(plain).panel.systems == ("all",)
    binary = plain.filter(pl.col("score") != "tie").with_columns((pl.col("score") == "A").cast(pl.Int64).alias("score"))
    votes = read_votes(binary.drop("shown_first"))
    assert votes.categories == ("0", "1")
    use = votes.checks["raters"][0]["level_use"]
    assert use.keys() == {"0", "1"}
    assert sum(use.values()) == votes.checks["raters"][0]["n"]
    assert sum(read_votes(frame).checks["raters"][0]["level_use"].values()) > 0
    padded = frame.with_columns(pl.col("vote") + " ")
    assert read_votes(padded).categories == ("A", "B", "tie")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("vote"), "column vote"),
        (lambda f: f.with_columns(vote=pl.lit(None, pl.String)), "holds no vote"),
        (lambda f: f.with_columns(vote=pl.col("case_id")), "60 categories, more than 25"),
        (lambda f: f.with_columns(pl.when(EXPERT).then(pl.col("vote")).otherwise(pl.lit("a")).alias("vote")), "case"),
        (lambda f: f.with_columns(shown_first=pl.lit("C")), "shown_first holds 'C'"),
        (lambda f: f.filter(~EXPERT), "no expert's vote"),
        (lambda f: pl.concat([f, f.filter(~EXPERT)]), "share their key"),
        (lambda f: f.drop("rater_kind"), "rater_kind"),
    ],
)
def test_wrong_input_is_named(change, message):
    with pytest.raises(InputError, match=message):
        agree_votes(change(ballot()), resamples=64)


def test_unknown_judge_and_few_cases():
    with pytest.raises(InputError, match="no judge 'z'"):
        agree_votes(ballot(), "z")
    found = agree_votes(ballot(cases=15), resamples=64).of("m", "preference")
    assert "15 clusters" in found["item.exact"].reason
    assert (
        agree_votes(ballot(), seed=3, resamples=64).to_dict() == agree_votes(ballot(), seed=3, resamples=64).to_dict()
    )
