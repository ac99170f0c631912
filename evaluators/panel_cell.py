"""Features of the expert panel on one dimension, and its reliability statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .bootstrap import Cell, Sums
from .judge_cell import MOST_LEVELS, item_codes
from .rating_checks import DOMINANT
from .ratings import Panel
from .reliability import (
    METRICS,
    ac2,
    ac2_features,
    alpha_from_coincidences,
    coincidence_features,
    icc,
    icc_features,
    icc_statistics,
    interval_alpha,
    interval_alpha_features,
    krippendorff_alpha,
    level_counts,
    pair_features,
    scale_values,
)

FORMS = ("icc_1", "icc_k", "icc_c1", "icc_ck", "icc_a1", "icc_ak")
NEED_IDENTITY = ("icc_c1", "icc_ck", "icc_a1", "icc_ak", "attenuation_bound")


class PanelCell:
    """Agreement among experts on all items of a dimension that any expert rated.

    alpha_*, ac2 and pairs.* use items with two ratings or more; icc_* every rating (see `reliability.icc_statistics`);
    complete.icc_* only items that every expert rated, for comparison with programs that drop the others.
    alpha_interval is there for any numbers, the other two where the scores lie on a scale of few evenly spaced values.
    attenuation_bound = sqrt(ICC(C,k)): the largest correlation a perfect judge could have with the panel mean.
    """

    def __init__(self, panel: Panel, d: int, each_left_out: bool = True):
        self.d, self.dimension, self.independent = d, panel.dimensions[d], panel.stage == "independent"
        y = panel.experts[d]
        present = np.flatnonzero(np.isfinite(y).any(axis=0))
        rated = np.isfinite(y).any(axis=1)
        y, cluster = y[rated][:, present], panel.cluster[rated]
        given = np.isfinite(y)
        self.raters, self.clusters = len(present), len(np.unique(cluster))
        self.names = tuple(panel.raters[r] for r in present)
        self.pairable = int((given.sum(axis=1) > 1).sum())
        self.complete = int(given.all(axis=1).sum()) if len(present) else 0
        self.identity, self.refused = panel.identity, self._refusal(panel.stage)
        self.values = scale_values(panel.levels, y)
        if self.values is not None and len(self.values) > MOST_LEVELS:
            self.values = None
        self.counts: dict[str, Any] = {
            "clusters": self.clusters,
            "items": len(y),
            "experts": self.raters,
            "ratings": int(given.sum()),
            "items_with_two_ratings": self.pairable,
            "items_rated_by_all": self.complete,
            "without_rater": self._without_each(y) if each_left_out else {},
        }
        code, first = item_codes(y)
        y = y[first]
        self.sums = Sums(code, cluster, panel.n_clusters)
        centre = (panel.levels[0] + panel.levels[-1]) / 2
        self.sums.add("pairs", pair_features(y))
        self.sums.add("icc", icc_features(y, centre))
        whole = np.where(np.isfinite(y).all(axis=1, keepdims=True), y, np.nan)
        self.sums.add("complete", icc_features(whole, centre))
        self.notes = self._notes(y, code)
        if self.values is None:
            self.sums.add("interval", interval_alpha_features(y - centre))
        else:
            counts = level_counts(y, self.values)
            self.sums.add("coincidences", coincidence_features(counts))
            self.sums.add("ac2", ac2_features(counts))
        self.cell = Cell((self.sums,), self._finish)

    def _without_each(self, y: np.ndarray) -> dict[str, dict[str, float | None]]:
        """Ordinal alpha and ICC(A,1) with each expert left out: what the choice of raters does; no interval shows it.

        Raters are never redrawn with replacement here: a rater paired with himself agrees perfectly.
        """
        if self.refused or not self.identity or self.raters < 3:
            return {}
        found = {}
        for r, name in enumerate(self.names):
            rest = np.delete(y, r, axis=1)
            found[name] = {"alpha_ordinal": krippendorff_alpha(rest), "icc_a1": icc(rest)["icc_a1"]}
        return found

    def _refusal(self, stage: str) -> str | None:
        if stage == "adjudicated":
            return "the experts' scores were adjudicated; they do not measure agreement between experts"
        if self.raters < 2:
            return "fewer than two experts"
        return None if self.pairable else "no item has two experts"

    def _finish(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        pairs = found["pairs"]
        nothing = np.full(pairs.shape[-1], np.nan)
        out = {f"pairs.{k}": pairs[row] / pairs[0] for row, k in enumerate(("exact", "within_0.5", "within_1"), 1)}
        if self.values is None:
            out |= dict.fromkeys([*(f"alpha_{m}" for m in METRICS), "ac2"], nothing)
            out["alpha_interval"] = interval_alpha(found["interval"])
        else:
            coincidences = found["coincidences"]
            out |= {f"alpha_{m}": alpha_from_coincidences(coincidences, self.values, m) for m in METRICS}
            out["ac2"] = ac2(found["ac2"])
        forms = icc_statistics(found["icc"], self.raters)
        out |= {k: forms[k] for k in FORMS}
        out["raters_per_item"] = forms["raters_per_item"]
        out["attenuation_bound"] = np.sqrt(np.where(forms["icc_ck"] >= 0, forms["icc_ck"], np.nan))
        complete = icc_statistics(found["complete"], self.raters)
        out |= {f"complete.{k}": complete[k] for k in FORMS}
        if self.refused:
            return dict.fromkeys(out, nothing)
        if not self.identity:
            out |= {k: nothing for k in out if k.removeprefix("complete.") in NEED_IDENTITY}
        return out

    def n_of(self, name: str) -> int:
        """Items behind a statistic; for pairs.*, pairs of ratings would count more, items are stated."""
        if name.startswith("complete."):
            return self.complete
        return self.pairable if name.startswith(("pairs.", "alpha", "ac2")) else self.counts["items"]

    def why(self, name: str) -> str:
        """Why a statistic is undefined on the data as they are."""
        if self.refused:
            return self.refused
        short = name.removeprefix("complete.")
        if not self.identity and short in NEED_IDENTITY:
            return "the experts have no identity; two-way ICC needs one column per expert"
        if self.values is None and short in ("alpha_nominal", "alpha_ordinal", "ac2"):
            return f"the experts' scores lie on no scale of at most {MOST_LEVELS} evenly spaced values"
        if name.startswith("complete.") and self.complete < 2:
            return f"{self.complete} items were rated by every expert"
        if name == "attenuation_bound":
            return "ICC(C,k) is negative or undefined"
        return "the scores do not vary enough"

    def _notes(self, y: np.ndarray, code: np.ndarray) -> tuple[str, ...]:
        scores = y[code]
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            return ()
        values, counts = np.unique(scores, return_counts=True)
        top = int(np.argmax(counts))
        notes = []
        if counts[top] > DOMINANT * len(scores):
            share = counts[top] / len(scores)
            notes.append(
                f"{share:.0%} of the expert scores are {values[top]:g}: alpha, kappa and ICC fall although experts "
                "agree; read them beside exact agreement"
            )
        if self.complete < self.counts["items"]:
            notes.append(f"{self.complete} of {self.counts['items']} items were rated by every expert")
        return tuple(notes)
