"""A pilot as a population to draw studies from: half-widths at other numbers of cases, narratives and experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..judge.errors import InputError
from .bootstrap import BLOCK, FEWEST_CLUSTERS, Cell, Sums, collect, interval, point
from .ceiling import mean_of_experts
from .judge_cell import JudgeCell
from .panel_cell import PanelCell
from .ratings import Panel
from .statistics import moment_features, moment_statistics

ALIASES = {
    "icc(A,1)": "item.icc_a1", "icc(C,1)": "item.icc_c1", "icc(1)": "item.icc_1", "tau": "item.kendall_tau_b",
    "alpha": "panel.alpha_ordinal",
}  # fmt: skip
COPIES = 12  # each case stands for so many random choices of its narratives and experts
ALPHA = 0.05


def full_name(statistic: str) -> str:
    """The name of a statistic as `agree` reports it, with panel. before those among experts; a bare name means item.

    >>> full_name("mae"), full_name("alpha"), full_name("loo_expert.mae")
    ('item.mae', 'panel.alpha_ordinal', 'loo_expert.mae')
    """
    name = ALIASES.get(statistic, statistic)
    return name if "." in name else f"item.{name}"


class Pilot:
    """The rated narratives of one dimension, and the sampling distribution of one statistic in studies like it."""

    def __init__(self, panel: Panel, d: int, j: int, statistic: str, seed: int):
        self.statistic, self.seed = full_name(statistic), seed
        self.dimension = panel.dimensions[d]
        used = np.isfinite(panel.experts[d]).any(axis=1)
        if not self.statistic.startswith("panel."):
            used &= np.isfinite(panel.judges[d, :, j])
        self.panel = _part(panel, d, j, np.flatnonzero(used))
        given = np.isfinite(self.panel.experts[0])
        self.ratings = given.sum(axis=1)  # per item
        self.items = np.bincount(np.unique(self.panel.case, return_inverse=True)[1])  # per case
        self.clusters, self.cases = self.panel.n_clusters, len(self.items)
        self.systems, self.raters = int(max(self.items, default=0)), int(max(self.ratings, default=0))
        self._cells: dict[tuple[int, int], tuple[Cell, int]] = {}
        self.reason: str | None = None
        self.value: float | None = None
        if self.clusters < FEWEST_CLUSTERS:
            self.reason = f"{self.clusters} rated clusters in the pilot; at least {FEWEST_CLUSTERS} are needed"
            return
        cell, clusters = self._cell(self.systems, self.raters)
        values = point([cell], clusters)[0]
        key = self.statistic.removeprefix("panel.")
        if key not in values:
            raise InputError(f"unknown statistic '{statistic}'; known: {', '.join(known_statistics(self.panel))}")
        if np.isfinite(values[key]):
            self.value = values[key]
        else:
            self.reason = "undefined in the pilot: " + self._why(key)

    def inverse(self, systems: int, raters: int) -> tuple[float, float]:
        """Mean of 1 / narratives per case and of 1 / experts per narrative, when at most so many are taken."""
        sizes = self._sizes(systems, raters)
        return float((1 / sizes[0]).mean()), float((1 / sizes[1]).mean())

    def ratings_per_case(self, systems: int, raters: int) -> float:
        """Expert ratings that a case costs, on average."""
        narratives, experts = self._sizes(systems, raters)
        return float(narratives.mean() * experts.mean())

    def _sizes(self, systems: int, raters: int) -> list[np.ndarray]:
        """Narratives of each case and experts of each narrative; beyond the pilot's most, all grow in proportion."""
        pairs = ((self.items, systems), (self.ratings, raters))
        return [np.minimum(counts, most) * max(1.0, most / counts.max()) for counts, most in pairs]

    def half_width(self, clusters: int, draws: int, systems: int | None = None, raters: int | None = None) -> float:
        """Half of the central 95 % of the statistic over studies of so many clusters; NaN where too often undefined.

        The pilot's own spread falls short of its population's by 1 - 1 / (its clusters), which is made good.
        """
        systems, raters = systems or self.systems, raters or self.raters
        low, high, _ = interval(self._draw(clusters, draws, systems, raters, None), ALPHA)
        if low is None or high is None:
            return float("nan")
        return (high - low) / 2 * self._correction

    def redrawn_spreads(self, clusters: int, pilots: int, draws: int) -> np.ndarray:
        """SD of the statistic over studies of so many clusters, as each of several redrawn pilots would see it."""
        members = self._generator(clusters, 1).integers(0, self.clusters, size=(pilots, self.clusters))
        drawn = self._draw(clusters, draws, self.systems, self.raters, members).reshape(pilots, draws)
        drawn = drawn[np.isfinite(drawn).mean(axis=1) > 0.9]
        return np.nanstd(drawn, axis=1) if len(drawn) else np.empty(0)

    @property
    def _correction(self) -> float:
        return (self.clusters / (self.clusters - 1)) ** 0.5

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=key)))

    def _draw(
        self, clusters: int, draws: int, systems: int, raters: int, members: np.ndarray | None = None
    ) -> np.ndarray:
        """The statistic in `draws` studies of `clusters` from each population of `members` (populations, clusters)."""
        cell, population = self._cell(systems, raters)
        members = np.arange(population)[None] if members is None else members
        generator = self._generator(clusters, systems, raters, 2)

        def blocks() -> Iterator[np.ndarray]:
            for member in members:
                for start in range(0, draws, BLOCK):
                    width = min(BLOCK, draws - start)
                    picks = member[generator.integers(0, len(member), size=(clusters, width))]
                    counts = np.bincount((picks * width + np.arange(width)).ravel(), minlength=population * width)
                    yield counts.reshape(population, width).astype(np.float32)

        found = collect([cell], blocks(), population, len(members) * draws)[0]
        return found[self.statistic.removeprefix("panel.")]

    def _cell(self, systems: int, raters: int) -> tuple[Cell, int]:
        if (systems, raters) not in self._cells:
            panel = self.panel
            if systems < self.systems or raters < self.raters:
                panel = thinned(panel, systems, raters, self._generator(systems, raters, 3))
            self._cells[systems, raters] = self._build(panel), panel.n_clusters
        return self._cells[systems, raters]

    def _build(self, panel: Panel) -> Cell:
        if self.statistic.startswith("panel."):
            return PanelCell(panel, 0).cell
        if self.statistic.removeprefix("item.") in MOMENTS:
            return _moment_cell(panel)
        return JudgeCell(panel, 0, 0, np.ones(len(panel.case), dtype=bool)).cell

    def _why(self, key: str) -> str:
        if self.statistic.startswith("panel."):
            return PanelCell(self.panel, 0).why(key)
        return JudgeCell(self.panel, 0, 0, np.ones(len(self.panel.case), dtype=bool)).why(key)


def thinned(panel: Panel, systems: int, raters: int, generator: np.random.Generator) -> Panel:
    """A panel of COPIES random choices: at most so many narratives of each case and experts of each narrative."""
    parts, n = [], len(panel.case)
    for copy in range(COPIES):
        order = np.lexsort((generator.random(n), panel.case))
        starts = np.flatnonzero(np.diff(panel.case[order], prepend=-1))
        rank = np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))
        kept = np.sort(order[rank < systems])
        y = panel.experts[0, kept]
        lot = np.where(np.isfinite(y), generator.random(y.shape), np.inf)
        parts.append((kept, np.where(lot.argsort(axis=1).argsort(axis=1) < raters, y, np.nan), copy))
    places = np.concatenate([kept for kept, _, _ in parts])
    copies = np.concatenate([np.full(len(kept), copy) for kept, _, copy in parts])
    return replace(
        panel,
        experts=np.concatenate([y for _, y, _ in parts])[None],
        judges=panel.judges[:, places],
        case=panel.case[places] + copies * (int(panel.case.max()) + 1),
        system=panel.system[places],
        cluster=panel.cluster[places] + copies * panel.n_clusters,
        n_clusters=panel.n_clusters * COPIES,
        distributions=None if panel.distributions is None else panel.distributions[:, places],
    )


def known_statistics(panel: Panel) -> list[str]:
    """Every name that can be planned for."""
    found = point([JudgeCell(panel, 0, 0, np.ones(len(panel.case), dtype=bool)).cell], panel.n_clusters)[0]
    among = point([PanelCell(panel, 0).cell], panel.n_clusters)[0]
    return [*ALIASES, *(name.removeprefix("item.") for name in found), *(f"panel.{name}" for name in among)]


def _part(panel: Panel, d: int, j: int, places: np.ndarray) -> Panel:
    """One dimension, one judge and some items, clusters numbered anew."""
    names, cluster = np.unique(panel.cluster[places], return_inverse=True)
    given = panel.distributions
    return replace(
        panel,
        dimensions=(panel.dimensions[d],),
        judge_names=panel.judge_names[j : j + 1],
        experts=panel.experts[d : d + 1, places],
        judges=panel.judges[d : d + 1, places, j : j + 1],
        case=panel.case[places],
        system=panel.system[places],
        cluster=cluster,
        n_clusters=len(names),
        distributions=None if given is None else given[d : d + 1, places, j : j + 1],
    )


def _moment_cell(panel: Panel) -> Cell:
    """Moment statistics alone: they need no tables of ranks."""
    sums = Sums(np.arange(len(panel.case)), panel.cluster, panel.n_clusters)
    centre = (panel.levels[0] + panel.levels[-1]) / 2
    sums.add("moments", moment_features(panel.judges[0, :, 0], mean_of_experts(panel.experts[0]), centre))

    def finish(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {f"item.{name}": values for name, values in moment_statistics(found["moments"]).items()}

    return Cell((sums,), finish)


MOMENTS = frozenset(moment_statistics(np.ones((11, 1))))
