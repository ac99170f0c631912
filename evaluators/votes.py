"""Categorical votes, such as "A", "B" or "tie" on pairs of narratives: a judge beside the experts, with a ceiling."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .agreement import DimensionAgreement, PanelAgreement, check_settings
from .alternative import AlternativeTest, alternative_panel
from .bootstrap import Estimate, estimate, few_clusters, point, resample
from .proportions import rate
from .rating_checks import ITEM
from .ratings import Panel, clusters_of_cases, normalise, read_panel, refuse_duplicates
from .vote_cell import VoteCell, VotePanelCell

MOST_CATEGORIES = 25  # more are free text, not categories
NAMELESS = "experts without a name"


@dataclass(frozen=True)
class Votes:
    """Votes as codes of `categories` in a `Panel`; `checks` says what was found on the way, in words of the votes.

    `position`: per dimension and rater, whether each vote for one of the options shown took the first one, and the
    cluster it belongs to; empty without a column shown_first.
    """

    categories: tuple[str, ...]
    panel: Panel
    checks: Mapping[str, Any]
    position: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class VotesResult:
    """Everything `agree_votes` found. `judges`: see `agree_votes`; `alternative`: one test per judge and dimension.

    `position`: dimension -> rater -> share of votes for the option shown first, all repeats (0.5 if the order does not
    matter and was drawn at random).
    """

    categories: tuple[str, ...]
    checks: Mapping[str, Any]
    panel: tuple[PanelAgreement, ...]
    judges: tuple[DimensionAgreement, ...]
    alternative: tuple[AlternativeTest, ...]
    position: Mapping[str, Mapping[str, Estimate]]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, judge: str, dimension: str) -> DimensionAgreement:
        """The results of one judge on one dimension; InputError if there are none."""
        for found in self.judges:
            if (found.judge, found.dimension) == (judge, dimension):
                return found
        known = sorted(f"{f.judge} / {f.dimension}" for f in self.judges)
        raise InputError(f"no result for judge '{judge}', dimension '{dimension}'; there are {', '.join(known)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "categories": list(self.categories),
            "checks": dict(self.checks),
            "panel": [p.to_dict() for p in self.panel],
            "judges": [j.to_dict() for j in self.judges],
            "alternative": [t.to_dict() for t in self.alternative],
            "position": {d: {r: e.to_dict() for r, e in own.items()} for d, own in self.position.items()},
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }


def read_votes(frame: pl.DataFrame, cluster: Mapping[str, str] | None = None) -> Votes:
    """Turn a long table of votes into `Votes`.

    `frame`: one row per (item, rater) with case_id, rater, rater_kind ("expert" or "judge") and vote (or score): any
    text, or numbers that stand for categories; empty for missing. Optional: system (what was voted on) or system_a and
    system_b, dimension, shown_first (the vote that names the option shown first), and all that `read_panel` reads.
    A and B mean the same systems in all rows of one item. Of several repeats everybody's first counts.

    Raises InputError on missing columns, more than 25 categories, votes that differ only in case, and as `read_panel`.
    """
    frame = _named(frame)
    score = pl.col("score").cast(pl.String).map_elements(_tidy, return_dtype=pl.String)
    frame = frame.with_columns(score.replace("", None).alias("score"))
    used = frame["score"].drop_nulls().unique().sort().to_list()
    if not used:
        raise InputError("the table holds no vote; fill the column vote (or score)")
    if len(used) > MOST_CATEGORIES:
        raise InputError(f"the votes hold {len(used)} categories, more than {MOST_CATEGORIES}; first: {used[:5]}")
    if twice := [word for word, n in Counter(word.casefold() for word in used).items() if n > 1]:
        same = [word for word in used if word.casefold() == twice[0]]
        raise InputError(f"votes {' and '.join(map(repr, same))} differ only in case; write them alike")
    codes = {word: float(code) for code, word in enumerate(used)}
    rows = normalise(frame.with_columns(pl.col("score").replace_strict(codes, return_dtype=pl.Float64)))
    is_judge = pl.col("rater_kind") == "judge"
    refuse_duplicates(rows.filter(is_judge))
    own = [*ITEM, "dimension", "rater"]
    judges = rows.filter(is_judge).sort(pl.col("score").is_null(), "repeat", maintain_order=True)
    first = pl.concat([rows.filter(~is_judge), judges.unique(own, keep="first", maintain_order=True)])
    panel = read_panel(first, range(max(2, len(used))), cluster)
    return Votes(
        tuple(used),
        panel,
        _in_words(panel.checks, used),
        _position(rows.filter(is_judge | (pl.col("stage") == panel.stage)), used, cluster),
    )


def agree_votes(
    frame: pl.DataFrame,
    judge: str | None = None,
    cluster: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
    epsilon: float = 0.2,
    q: float = 0.05,
) -> VotesResult:
    """Compare judges' votes with experts', with intervals by resampling clusters of cases.

    `frame`: see `read_votes`; other arguments as in `agreement.agree` and `alternative.alternative_test`. Per judge and
    dimension: item.exact (share of expert votes that the judge shares), item.majority (share of items where it votes
    with the experts' majority; tied majorities do not count and are counted), item.kappa (Cohen, mean over experts) and
    kappa.EXPERT, item.alpha_with_judge, _without_judge, _change (Krippendorff, nominal), constant.* (always the
    commonest vote), and on the same targets, the majority of the other experts: loo_judge.match, loo_expert.match,
    judge_minus_expert.match, loo_constant.match, loo_rank.judge_beats_expert. Among experts: pairs.exact,
    alpha_nominal. The alternative annotator test takes matches with the others as alignment.

    Raises InputError on unusable input, an unknown judge, or no expert vote at all.
    """
    check_settings(resamples, alpha)
    votes = read_votes(frame, cluster)
    panel = votes.panel
    if not panel.raters:
        raise InputError("the table holds no expert's vote; agreement needs rater_kind 'expert'")
    if judge is not None and judge not in panel.judge_names:
        raise InputError(f"no judge '{judge}' among the votes; there are {', '.join(panel.judge_names) or 'none'}")
    chosen = panel.judge_names if judge is None else (judge,)
    dimensions = range(len(panel.dimensions))
    built = [VoteCell(panel, d, panel.judge_names.index(name)) for name in chosen for d in dimensions]
    among = [VotePanelCell(panel, d) for d in dimensions]
    cells = [b.cell for b in built] + [a.cell for a in among]
    points, draws = point(cells, panel.n_clusters), resample(cells, panel.n_clusters, resamples, seed)

    def results(own: VoteCell | VotePanelCell, place: int) -> dict[str, Estimate]:
        return {
            name: estimate(value, own.n_of(name), draws[place][name], own.clusters, alpha)
            if np.isfinite(value)
            else Estimate(None, own.n_of(name), reason=own.why(name))
            for name, value in points[place].items()
        }

    judged = []
    for place, own in enumerate(built):
        notes = (*own.notes, *few_clusters(own.clusters))
        name, dimension = panel.judge_names[own.j], panel.dimensions[own.d]
        judged.append(DimensionAgreement(name, dimension, None, own.counts, results(own, place), notes))
    experts = [
        PanelAgreement(own.dimension, own.counts, results(own, place), few_clusters(own.clusters))
        for place, own in enumerate(among, len(built))
    ]
    tests: list[AlternativeTest] = []
    for name in chosen:
        ceilings = [{k: f[k] for k in ("loo_judge.match", "loo_expert.match")} for f in judged if f.judge == name]
        tests += alternative_panel(panel, name, ceilings, epsilon, q, match=True)
    position = {
        dimension: {
            rater: rate(hit, place, alpha, "vote on options whose order varied") for rater, (hit, place) in own.items()
        }
        for dimension, own in votes.position.items()
    }
    settings = {
        "resamples": resamples,
        "seed": seed,
        "alpha": alpha,
        "epsilon": epsilon,
        "q": q,
        "interval": "percentile; position: Wilson, widened by clusters",
        "clusters": panel.n_clusters,
        "target": "each expert's vote; the majority of experts, tied ones excluded",
        "expert_stage": panel.stage,
        "repeats": "the first vote of everybody",
    }
    return VotesResult(
        votes.categories, votes.checks, tuple(experts), tuple(judged), tuple(tests), position, settings, _notes(panel)
    )


def _tidy(word: str) -> str:
    return unicodedata.normalize("NFC", word).strip()


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    """With the columns score, system and dimension."""
    if "vote" in frame.columns:
        frame = frame.with_columns(pl.col("vote").alias("score"))
    if "score" not in frame.columns:
        raise InputError(f"votes stand in a column vote (or score); the table has {', '.join(frame.columns)}")
    if "system" not in frame.columns:
        pair = {"system_a", "system_b"} <= set(frame.columns)
        text = pl.format("{} vs {}", "system_a", "system_b") if pair else pl.lit("all")
        frame = frame.with_columns(text.alias("system"))
    return frame if "dimension" in frame.columns else frame.with_columns(pl.lit("preference").alias("dimension"))


def _in_words(checks: Mapping[str, Any], categories: list[str]) -> dict[str, Any]:
    """The checks of the panel with categories in place of their codes."""
    raters = []
    for row in checks["raters"]:
        use = {word: row["level_use"][str(code)] for code, word in enumerate(categories)}
        raters.append(row | {"level_use": use})
    dimensions = []
    for row in checks["dimensions"]:
        unused = [code for code in row["levels_not_used"] if code < len(categories)]
        dimensions.append(row | {"levels_not_used": unused})
    return dict(checks) | {"categories": categories, "raters": raters, "dimensions": dimensions}


def _position(
    rows: pl.DataFrame, categories: list[str], cluster: Mapping[str, str] | None
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    if "shown_first" not in rows.columns:
        return {}
    shown = pl.col("shown_first").cast(pl.String).map_elements(_tidy, return_dtype=pl.String).replace("", None)
    rows = rows.with_columns(shown.alias("shown_first"), pl.Series("vote", _words_of(rows["score"], categories)))
    options = rows["shown_first"].drop_nulls().unique().to_list()
    if unknown := sorted(set(options) - set(categories)):
        raise InputError(
            f"column shown_first holds '{unknown[0]}', which nobody voted for; votes: {', '.join(categories)}"
        )
    of_case = clusters_of_cases(rows, cluster)
    rows = rows.filter(pl.col("vote").is_in(options) & pl.col("shown_first").is_not_null())
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for (dimension, rater), own in rows.sort("dimension", "rater").group_by("dimension", "rater", maintain_order=True):
        if own["shown_first"].n_unique() < 2:  # the order cannot be told from a liking for that option
            own = own.clear()
        hit = (own["vote"] == own["shown_first"]).to_numpy()
        place = np.unique([of_case[case] for case in own["case_id"]], return_inverse=True)[1]
        found.setdefault(str(dimension), {})[str(rater) or NAMELESS] = (hit, place)
    return found


def _words_of(codes: pl.Series, categories: list[str]) -> list[str | None]:
    return [None if code is None else categories[int(code)] for code in codes]


def _notes(panel: Panel) -> tuple[str, ...]:
    notes = []
    if panel.stage == "adjudicated":
        notes.append("the experts' votes were adjudicated: no ceiling and no agreement among experts is reported")
    if not panel.identity:
        notes.append("the experts have no identity: kappa and the alternative annotator test are refused")
    return tuple(notes)
