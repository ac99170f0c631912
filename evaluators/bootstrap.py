"""Cluster bootstrap: whole cases (or patients) are redrawn, with all systems, dimensions and raters they carry.

A resample is a vector of counts, one per cluster. The same counts serve every judge, system and dimension, so
differences are paired. Counts come in blocks of 64 resamples, each from its own seed: results depend on the seed
alone, never on chunk size or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import block_diag, csr_array, vstack
from scipy.special import ndtr, ndtri

BLOCK = 64
FEWEST_CLUSTERS = 20  # below: no interval
FEW_CLUSTERS = 50  # below: percentile intervals are too short, and the result says so
MOST_BLOCKS = 8  # statistics are finished for so many blocks together
BUFFER_BYTES = 80 * 2**20

Finish = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Estimate:
    """A named result: value, interval, the number of things it rests on, and the reason for anything not there.

    `undefined` counts resamples in which the statistic does not exist (a constant judge, say). They are not dropped:
    the interval holds wherever their values might have been, or is None.
    """

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    undefined: int = 0

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "reason": self.reason,
        }
        return found | ({"undefined_resamples": self.undefined} if self.undefined else {})


def cluster_weights(n_clusters: int, block: int, seed: int) -> np.ndarray:
    """Counts (n_clusters, 64) of the block-th 64 resamples: each column draws n_clusters with replacement."""
    draw = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(block,))))
    kind = np.uint16 if n_clusters < 2**16 else np.uint32
    picks = draw.integers(0, n_clusters, size=(BLOCK, n_clusters), dtype=kind)
    counts = np.empty((BLOCK, n_clusters), dtype=np.float32)
    for column, pick in enumerate(picks):
        counts[column] = np.bincount(pick, minlength=n_clusters)
    return np.ascontiguousarray(counts.T)


class Sums:
    """Features of items whose weighted sums carry the statistics.

    Items that are alike in everything that the features see share a code; a sum is then features @ (codes @ weights),
    where codes @ weights counts each code once for all features. Where nearly every item has a code of its own
    (a continuous judge) the features are summed per cluster beforehand instead.
    """

    def __init__(self, code: np.ndarray, cluster: np.ndarray, n_clusters: int):
        """`code`, `cluster` (items,): 0-based; features are given per code, in the order of the codes."""
        self.n_codes = int(code.max()) + 1 if len(code) else 0
        ones = np.ones(len(code), dtype=np.float32)
        self.codes = csr_array((ones, (code, cluster)), shape=(self.n_codes, n_clusters))
        self.codes.sum_duplicates()
        self.early = self.n_codes > 0.4 * len(code)
        self.dense: dict[str, np.ndarray] = {}
        self.tables: dict[str, csr_array] = {}
        self.direct: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, int]] = {}

    def add(self, name: str, features: np.ndarray) -> None:
        """Dense features (rows, codes)."""
        features = np.asarray(features, dtype=np.float64)
        if self.early:
            self.direct[name] = np.ascontiguousarray((self.codes.T @ features.T).T)
        else:
            self.dense[name] = features

    def add_table(self, name: str, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> None:
        """Joint counts: `row`, `column` (codes,) places in a table of `shape`, -1 where the item does not count."""
        used = np.flatnonzero((row >= 0) & (column >= 0))
        place = row[used] * shape[1] + column[used]
        one_hot = csr_array((np.ones(len(used), np.float32), (place, used)), shape=(shape[0] * shape[1], self.n_codes))
        self.tables[name] = csr_array(one_hot @ self.codes) if self.early else one_hot
        self.shapes[name] = shape

    def add_direct(self, name: str, features: np.ndarray) -> None:
        """Features (rows, clusters) that are no function of a code, such as pairs of items of one case."""
        self.direct[name] = np.asarray(features, dtype=np.float64)


@dataclass(frozen=True)
class Cell:
    """What is estimated together: sums of one (judge, dimension) and the function that turns them into statistics."""

    sums: tuple[Sums, ...]
    finish: Finish


class _Bank:
    """The features of all cells stacked, so that a block of weights is read once for all of them."""

    def __init__(self, cells: Sequence[Cell], n_clusters: int):
        every = [part for cell in cells for part in cell.sums]
        late, early = [p for p in every if not p.early], [p for p in every if p.early]
        self._codes = _stack([p.codes for p in late], n_clusters)
        self._late_tables = csr_array(
            block_diag(
                [_stack(list(p.tables.values()), p.n_codes) for p in late] or [csr_array((0, 0))], dtype=np.float32
            )
        )
        self._early_tables = _stack([t for p in early for t in p.tables.values()], n_clusters)
        direct = [f for p in every for f in p.direct.values()]
        self._direct = np.concatenate(direct) if direct else np.empty((0, n_clusters))
        self._dense: list[tuple[slice, np.ndarray]] = []
        start = 0
        for part in late:
            if part.dense:
                self._dense.append((slice(start, start + part.n_codes), np.concatenate(list(part.dense.values()))))
            start += part.n_codes
        self.table_rows = self._late_tables.shape[0] + self._early_tables.shape[0]
        self.sum_rows = len(self._direct) + sum(len(f) for _, f in self._dense)
        places: dict[tuple[int, str], slice] = {}
        for groups in (
            [(p, name, t.shape[0]) for p in (*late, *early) for name, t in p.tables.items()],
            [(p, name, len(f)) for p in every for name, f in p.direct.items()]
            + [(p, name, len(f)) for p in late for name, f in p.dense.items()],
        ):
            start = 0
            for part, name, rows in groups:
                places[id(part), name] = slice(start, start + rows)
                start += rows
        self._places = [[(p, places) for p in cell.sums] for cell in cells]

    def fill(self, weights: np.ndarray, tables: np.ndarray, sums: np.ndarray) -> None:
        """Sums for `weights` (n_clusters, b) into `tables` (table_rows, b) and `sums` (sum_rows, b)."""
        counts = self._codes @ weights
        late = self._late_tables.shape[0]
        tables[:late] = self._late_tables @ counts
        tables[late:] = self._early_tables @ weights
        start = len(self._direct)
        if start:
            sums[:start] = self._direct @ weights.astype(np.float64)
        if self._dense:
            wide = counts.astype(np.float64)
            for rows, features in self._dense:
                sums[start : start + len(features)] = features @ wide[rows]
                start += len(features)

    def found(self, cell: int, tables: np.ndarray, sums: np.ndarray) -> dict[str, np.ndarray]:
        """The sums of one cell by name; tables as (rows, columns, B)."""
        out = {}
        for part, places in self._places[cell]:
            for name in (*part.dense, *part.direct):
                out[name] = sums[places[id(part), name]]
            for name, shape in part.shapes.items():
                out[name] = tables[places[id(part), name]].reshape(*shape, -1)
        return out


def _stack(parts: Sequence[csr_array], columns: int) -> csr_array:
    return csr_array(vstack(parts, format="csr")) if parts else csr_array((0, columns), dtype=np.float32)


def resample(cells: Sequence[Cell], n_clusters: int, resamples: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Every statistic of every cell in each resample: per cell a dict of (resamples,) arrays, NaN where undefined.

    Memory does not grow with the number of resamples beyond these arrays.
    """
    found = []
    for portion in _portions(cells):
        blocks = (cluster_weights(n_clusters, b, seed) for b in range(-(-resamples // BLOCK)))
        found += collect(portion, blocks, n_clusters, resamples)
    return found


def point(cells: Sequence[Cell], n_clusters: int) -> list[dict[str, float]]:
    """Every statistic of every cell on the data as they are."""
    found = collect(cells, iter([np.ones((n_clusters, 1), dtype=np.float32)]), n_clusters, 1)
    return [{name: float(values[0]) for name, values in cell.items()} for cell in found]


def jackknife(cells: Sequence[Cell], n_clusters: int) -> list[dict[str, np.ndarray]]:
    """Every statistic with one cluster left out: per cell a dict of (n_clusters,) arrays."""

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, n_clusters, BLOCK):
            left_out = np.arange(start, min(start + BLOCK, n_clusters))
            weights = np.ones((n_clusters, len(left_out)), dtype=np.float32)
            weights[left_out, left_out - start] = 0.0
            yield weights

    return [found for portion in _portions(cells) for found in collect(portion, blocks(), n_clusters, n_clusters)]


def _portions(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Cells in portions whose tables fit the buffer four blocks wide; the same weights are drawn for each portion."""
    most, rows = BUFFER_BYTES // (4 * 4 * BLOCK), 0
    portion: list[Cell] = []
    for cell in cells:
        size = sum(shape[0] * shape[1] for part in cell.sums for shape in part.shapes.values())
        if portion and rows + size > most:
            yield portion
            portion, rows = [], 0
        portion.append(cell)
        rows += size
    if portion:
        yield portion


def collect(
    cells: Sequence[Cell], blocks: Iterator[np.ndarray], n_clusters: int, total: int
) -> list[dict[str, np.ndarray]]:
    """Every statistic of every cell under `total` weightings that come in `blocks` of (n_clusters, at most 64) counts.

    For other designs than `resample` and `jackknife`. Per cell a dict of (total,) arrays, NaN where undefined.
    """
    bank = _Bank(cells, n_clusters)
    held = max(1, min(MOST_BLOCKS, BUFFER_BYTES // (BLOCK * (4 * bank.table_rows + 8 * bank.sum_rows) + 1)))
    width = min(held * BLOCK, total)
    tables, sums = np.empty((bank.table_rows, width), np.float32), np.empty((bank.sum_rows, width))
    found: list[dict[str, np.ndarray]] = [{} for _ in cells]
    at = filled = 0
    for weights in blocks:
        weights = weights[:, : total - at - filled]
        part = slice(filled, filled + weights.shape[1])
        bank.fill(weights, tables[:, part], sums[:, part])
        filled = part.stop
        if filled < width and at + filled < total:
            continue
        for place, cell in enumerate(cells):
            with np.errstate(divide="ignore", invalid="ignore"):
                statistics = cell.finish(bank.found(place, tables[:, :filled], sums[:, :filled]))
            for name, values in statistics.items():
                found[place].setdefault(name, np.empty(total))[at : at + filled] = values
        at, filled = at + filled, 0
    return found


def interval(
    draws: np.ndarray, alpha: float, value: float | None = None, jack: np.ndarray | None = None
) -> tuple[float | None, float | None, int]:
    """Ends of the 1 - alpha interval of `draws` and the number of undefined draws.

    Percentile interval; with `value` and `jack` (delete-one-cluster values) the bias-corrected and accelerated one
    (Efron 1987). An undefined draw counts as below the lower end and as above the upper end; an end that would
    fall among undefined draws is None.
    """
    undefined = int((~np.isfinite(draws)).sum())
    low_at, high_at = alpha / 2, 1 - alpha / 2
    if value is not None and jack is not None:
        low_at, high_at = _bca(draws[np.isfinite(draws)], value, jack, low_at, high_at)
    low = _quantile(np.where(np.isfinite(draws), draws, -np.inf), low_at)
    high = _quantile(np.where(np.isfinite(draws), draws, np.inf), high_at)
    return low, high, undefined


def estimate(
    value: float, n: int, draws: np.ndarray, clusters: int, alpha: float, jack: np.ndarray | None = None
) -> Estimate:
    """A value with the interval of its resamples, or with the reason why there is none."""
    if clusters < FEWEST_CLUSTERS:
        return Estimate(value, n, reason=f"no interval: {clusters} clusters, at least {FEWEST_CLUSTERS} are needed")
    low, high, undefined = interval(draws, alpha, value if jack is not None else None, jack)
    reason = None
    if low is None or high is None:
        reason = (
            f"no interval: {undefined} of {len(draws)} resamples are undefined"
            if undefined
            else "no interval: every resample lies on one side of the value"
        )
    return Estimate(value, n, low, high, reason, undefined)


def few_clusters(clusters: int) -> tuple[str, ...]:
    """The remark that so few clusters need, if any."""
    if FEWEST_CLUSTERS <= clusters < FEW_CLUSTERS:
        return (f"{clusters} clusters: intervals are too short below {FEW_CLUSTERS}",)
    if clusters < FEWEST_CLUSTERS:
        return (f"{clusters} clusters: no intervals below {FEWEST_CLUSTERS}",)
    return ()


def _quantile(draws: np.ndarray, share: float) -> float | None:
    if not len(draws) or not np.isfinite(share):
        return None
    place = share * (len(draws) - 1)
    low, high = int(np.floor(place)), int(np.ceil(place))
    ordered = np.partition(draws, [low, high])
    if not np.isfinite(ordered[low]) or not np.isfinite(ordered[high]):
        return None
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def _bca(draws: np.ndarray, value: float, jack: np.ndarray, low: float, high: float) -> tuple[float, float]:
    jack = jack[np.isfinite(jack)]
    if not len(draws) or not len(jack):
        return np.nan, np.nan
    below = (np.sum(draws < value) + 0.5 * np.sum(draws == value)) / len(draws)
    if below in (0.0, 1.0):
        return np.nan, np.nan
    shift = ndtri(below)
    d = jack.mean() - jack
    spread = float((d * d).sum())
    bend = float((d**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
    ends = []
    for z in (ndtri(low), ndtri(high)):
        ends.append(float(ndtr(shift + (shift + z) / (1 - bend * (shift + z)))))
    return ends[0], ends[1]
