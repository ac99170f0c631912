"""Features of categorical votes, a judge's beside the experts', and the statistics that are made of their sums."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .bootstrap import Cell, Sums
from .ceiling import FEWEST_ITEMS
from .ratings import Panel
from .reliability import alpha_from_coincidences, coincidence_features, level_counts, pair_features
from .statistics import cohen_kappa, ratio

NO_NAMES = "the experts have no identity; kappa needs one column per expert"
SETTLED = "the experts' votes were adjudicated; they do not measure agreement between experts"


def majority(counts: np.ndarray) -> np.ndarray:
    """The category with most votes (items,) from `counts` (items, K); -1 for a tie, -2 without votes.

    >>> majority(np.array([[2, 1, 0], [1, 1, 0], [0, 0, 0]])).tolist()
    [0, -1, -2]
    """
    most = counts.max(axis=1)
    single = (counts == most[:, None]).sum(axis=1) == 1
    return np.where(most <= 0, -2, np.where(single, counts.argmax(axis=1), -1))


class VotePanelCell:
    """Agreement among experts on all items of a dimension that two of them voted on."""

    def __init__(self, panel: Panel, d: int):
        self.dimension, self.independent = panel.dimensions[d], panel.stage == "independent"
        y = panel.experts[d]
        rated = np.isfinite(y).any(axis=1)
        y, cluster = y[rated][:, np.isfinite(y).any(axis=0)], panel.cluster[rated]
        self.values, self.clusters = np.arange(float(len(panel.levels))), len(np.unique(cluster))
        counts = level_counts(y, self.values)
        self.pairable = int((counts.sum(axis=1) > 1).sum())
        tied = int((majority(counts) == -1).sum())
        self.counts = {
            "clusters": self.clusters,
            "items": len(y),
            "experts": y.shape[1],
            "votes": int(counts.sum()),
            "items_with_two_votes": self.pairable,
            "majority_ties": tied,
        }
        self.notes: tuple[str, ...] = ()
        sums = Sums(np.arange(len(y)), cluster, panel.n_clusters)
        sums.add("pairs", pair_features(y)[:2])
        sums.add("coincidences", coincidence_features(counts))
        self.cell = Cell((sums,), self._finish)

    def _finish(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        exact = ratio(found["pairs"][1], found["pairs"][0])
        alpha = alpha_from_coincidences(found["coincidences"], self.values, "nominal")
        kept = 1.0 if self.independent else np.nan
        return {"pairs.exact": exact * kept, "alpha_nominal": alpha * kept}

    def n_of(self, name: str) -> int:
        """Items that two experts voted on."""
        return self.pairable

    def why(self, name: str) -> str:
        """Why a statistic is undefined on the data as they are."""
        if not self.independent:
            return SETTLED
        return "the votes do not vary" if self.pairable else "no item has votes of two experts"


class VoteCell:
    """One judge's votes on one dimension against the experts', over the items that both voted on."""

    def __init__(self, panel: Panel, d: int, j: int):
        self.d, self.j, self.identity, self.independent = d, j, panel.identity, panel.stage == "independent"
        x, y = panel.judges[d, :, j], panel.experts[d]
        rated = np.isfinite(y).any(axis=1)
        use = rated & np.isfinite(x)
        present = np.flatnonzero(np.isfinite(y[use]).any(axis=0))
        x, y, cluster = x[use], y[use][:, present], panel.cluster[use]
        self.names = tuple(panel.raters[r] for r in present)
        self.clusters, self.size = len(np.unique(cluster)), len(panel.levels)
        self.values = np.arange(float(self.size))
        votes = level_counts(y, self.values)
        self.sums = Sums(np.arange(len(x)), cluster, panel.n_clusters)
        self.n, self.votes = len(x), int(votes.sum())
        same = (y == x[:, None]).sum(axis=1)
        self.sums.add("exact", np.vstack([votes.sum(axis=1), same, votes.T]))
        target = majority(votes)
        self.sums.add("majority", self._against(target, x))
        self.decided = int((target >= 0).sum())
        self.sums.add("coincidences", coincidence_features(votes))
        joined = votes + (x[:, None] == self.values)
        self.sums.add("coincidences_with_judge", coincidence_features(joined))
        for r in range(len(present)):
            given = np.where(np.isfinite(y[:, r]), y[:, r], -1).astype(np.int64)
            self.sums.add_table(f"kappa_{r}", x.astype(np.int64), given, (self.size, self.size))
        self.shared = np.isfinite(y).sum(axis=0)
        self.raters, self.loo_n = self._leave_one_out(x, y, votes)
        self.counts = {
            "cases": len(np.unique(panel.case[use])),
            "clusters": self.clusters,
            "items": self.n,
            "expert_votes": self.votes,
            "items_voted_by_experts": int(rated.sum()),
            "coverage": self.n / int(rated.sum()) if rated.any() else None,
            "majority_ties": int((target == -1).sum()),
        }
        self.notes = self._notes()
        self.cell = Cell((self.sums,), self._finish)

    def _against(self, target: np.ndarray, *voters: np.ndarray) -> np.ndarray:
        """Rows: target decided, each voter alike, target per category."""
        alike = [(target >= 0) & (voter == target) for voter in voters]
        return np.vstack([target >= 0, *alike, target == self.values[:, None]]).astype(float)

    def _leave_one_out(self, x: np.ndarray, y: np.ndarray, votes: np.ndarray) -> tuple[list[int], int]:
        raters, total = [], 0
        for r in range(y.shape[1]):
            there = np.isfinite(y[:, r])
            target = np.where(there, majority(votes - (y[:, r, None] == self.values)), -2)
            if (n := int((target >= 0).sum())) >= FEWEST_ITEMS:
                self.sums.add(f"loo_{r}", self._against(target, x, y[:, r]))
                raters.append(r)
                total += n
        return raters, total

    def _finish(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        out: dict[str, np.ndarray] = {}
        for name in ("exact", "majority"):
            n, same, *each = found[name]
            out[f"item.{name}"], out[f"constant.{name}"] = ratio(same, n), ratio(np.max(each, axis=0), n)
            out[f"judge_minus_constant.{name}"] = out[f"item.{name}"] - out[f"constant.{name}"]
        nothing = np.full(out["item.exact"].shape, np.nan)
        kappas = [cohen_kappa(found[f"kappa_{r}"]) if self.identity else nothing for r in range(len(self.names))]
        # An expert with few votes has no kappa in many resamples, and the mean over experts would go with it.
        usual = [k for k, n in zip(kappas, self.shared, strict=True) if n >= min(FEWEST_ITEMS, max(self.shared))]
        out["item.kappa"] = np.mean(usual, axis=0) if usual else nothing
        if self.identity:
            out |= {f"kappa.{name}": kappa for name, kappa in zip(self.names, kappas, strict=True)}
        alone = alpha_from_coincidences(found["coincidences"], self.values, "nominal")
        out["item.alpha_with_judge"] = alpha_from_coincidences(found["coincidences_with_judge"], self.values, "nominal")
        out["item.alpha_without_judge"] = alone if self.independent else nothing
        out["item.alpha_change"] = out["item.alpha_with_judge"] - out["item.alpha_without_judge"]
        return out | self._ceiling(found, nothing)

    def _ceiling(self, found: Mapping[str, np.ndarray], nothing: np.ndarray) -> dict[str, np.ndarray]:
        names = ("loo_judge.match", "loo_expert.match", "judge_minus_expert.match", "loo_constant.match")
        if not self.raters or not self.independent:
            return dict.fromkeys((*names, "loo_rank.judge_beats_expert"), nothing)
        rows = [found[f"loo_{r}"] for r in self.raters]
        judge, expert = (np.stack([ratio(row[k], row[0]) for row in rows]) for k in (1, 2))
        constant = np.mean([ratio(row[3:].max(axis=0), row[0]) for row in rows], axis=0)
        gap = judge - expert
        better = np.where(np.abs(gap) <= 1e-12, 0.5, gap > 0).mean(axis=0)
        beaten = np.where(np.isfinite(gap).all(axis=0), better, np.nan) if self.identity else nothing
        means = (judge.mean(axis=0), expert.mean(axis=0), gap.mean(axis=0), constant)
        return dict(zip(names, means, strict=True)) | {"loo_rank.judge_beats_expert": beaten}

    def n_of(self, name: str) -> int:
        """What stands behind a number: items, expert votes, or experts."""
        if name.startswith(("loo_", "judge_minus_expert")):
            if not self.independent:
                return 0
            return len(self.raters) if name.startswith("loo_rank") else self.loo_n
        if name.startswith("kappa."):
            return int(self.shared[self.names.index(name.removeprefix("kappa."))])
        if name.endswith(".majority"):
            return self.decided
        return self.votes if name.endswith((".exact", ".kappa")) else self.n

    def why(self, name: str) -> str:
        """Why a statistic is undefined on the data as they are."""
        if self.n == 0:
            return "no item has both a judge's and an expert's vote"
        if name.startswith(("loo_", "judge_minus_expert")):
            if not self.independent:
                return "the experts' votes were adjudicated, so they agree by construction and are no ceiling"
            if len(self.names) < 2:
                return "a ceiling needs at least two experts"
            if not self.raters:
                return f"no expert shares {FEWEST_ITEMS} items with others whose majority is not tied"
            return "the experts have no identity; a place among them needs one column per expert"
        if name.endswith(".kappa") and not self.identity:
            return NO_NAMES
        if name in ("item.alpha_without_judge", "item.alpha_change") and not self.independent:
            return SETTLED
        if name.endswith(".majority"):
            return "every majority of the experts is tied"
        return "the votes do not vary"

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if ties := self.counts["majority_ties"]:
            notes.append(f"{ties} of {self.n} items have a tied majority of experts and do not count against it")
        if self.independent and self.n and len(self.names) > 1:
            notes += [
                f"expert {name} is left out of the ceiling: fewer than {FEWEST_ITEMS} items with a majority of others"
                for r, name in enumerate(self.names)
                if r not in self.raters
            ]
        return tuple(notes)
