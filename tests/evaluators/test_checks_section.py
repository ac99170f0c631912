import polars as pl

from dermjudge.evaluators.checks_section import checks_section
from dermjudge.evaluators.markdown import width
from dermjudge.evaluators.ratings import read_panel
from dermjudge.evaluators.votes import read_votes

LEVELS = (0, 1, 2, 3, 4, 5)
EXPERT = pl.col("rater_kind") == "expert"


def section(frame, **options):
    lines = checks_section(read_panel(frame, LEVELS, **options).checks)
    assert all(width(line) <= 120 for line in lines)
    return " ".join(" ".join(lines).split())


def score(frame, where, value):
    return frame.with_columns(pl.when(where).then(value).otherwise(pl.col("score")).alias("score"))


def test_a_clean_table_has_a_summary_only(simulate):
    text = section(simulate(cases=120, missing=0.0, seed=1))
    assert text.startswith(
        "## Data checks 120 cases, 3 systems, 360 items, 2160 ratings by 3 experts, 720 by 1 judge on 2"
    )
    assert text.endswith("Ratings used: independent. Nothing remarkable.")


def test_what_is_remarkable_is_said(simulate):
    frame = simulate(missing=0.0)
    frame = score(frame, EXPERT & (pl.col("case_id") == "c1") & (pl.col("rater") == "e0"), pl.lit(7.0))
    frame = score(frame, (pl.col("dimension") == "d1") & EXPERT & (pl.col("case_id") > "c2"), pl.lit(4.0))
    frame = score(frame, ~EXPERT, pl.lit(3.0))
    frame = score(frame, (pl.col("rater") == "e2") & (pl.col("case_id") == "c5"), None)
    text = section(frame)
    assert "**6 scores outside the scale** 0 to 5 of 1440 rows: 7 (6, experts); not used and not clipped." in text
    assert "**One value only**, so no correlation or kappa: j0 on d0 (180), j0 on d1 (180)." in text
    assert "kappa paradox" in text
    assert "d1: 4 in" in text
    assert "e2 1.7 % (6 of 360)" in text
    assert "More than half of all pairs of items tied" in text
    assert "reproduces others' figures only" in section(frame, keep_out_of_range=True)


def test_stage_identity_and_repeats(simulate):
    frame = simulate(missing=0.0)
    assert "**Only adjudicated ratings** (1080 adjudicated ratings)" in section(
        frame.with_columns(stage=pl.lit("adjudicated"))
    )
    nameless = frame.with_columns(pl.when(EXPERT).then(pl.lit("")).otherwise(pl.col("rater")).alias("rater"))
    text = section(score(nameless, EXPERT & (pl.col("case_id") == "c1"), None))
    assert "**1062 ratings without the expert's name**" in text
    assert "Missing per expert" not in text
    twice = pl.concat([frame.with_columns(repeat=pl.lit(r)) for r in (0, 1)])
    text = section(twice)
    assert "1080 repeated ratings of experts not used" in text
    assert "360 repeated scores of judges averaged" in text


def test_lost_scores_by_reason_and_foreign_names(simulate):
    frame = simulate(missing=0.0).with_columns(state=pl.lit("scored"))
    gone = ~EXPERT & (pl.col("case_id") == "c1")
    frame = score(frame, gone, None).with_columns(
        pl.when(gone).then(pl.lit("refused")).otherwise(pl.col("state")).alias("state"),
        pl.col("dimension").replace("d0", "a|b<script>"),
    )
    frame = score(frame, EXPERT & (pl.col("dimension") != "d1"), pl.lit(2.0))
    text = section(frame)
    assert "Rows of judges without a score, by reason: refused 6." in text
    assert "a\\|b\\<script\\>" in text


def test_many_names_are_counted(simulate):
    text = section(simulate(raters=12))
    assert "and 4 more" in text


def test_votes_are_named_by_their_words():
    rows = [
        {"case_id": f"c{c}", "rater": r, "rater_kind": "expert", "vote": "left" if c else "right"}
        for c in range(30)
        for r in ("e0", "e1")
    ]
    text = " ".join(checks_section(read_votes(pl.DataFrame(rows)).checks))
    assert "left in 96.7 % of 60" in text
    assert "tied" not in text
