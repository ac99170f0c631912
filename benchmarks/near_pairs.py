"""Near duplicates among a million hashes: every pair within a Hamming distance, found by three bands of each hash.

Two 64-bit hashes within distance d differ in one of three bands by d // 3 bits at most, so looking up each band with so
few bits changed finds every such pair (multi-index hashing; Norouzi, Punjani, Fleet 2012): nothing is missed, little is
compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..judge.errors import InputError
from .picture_prints import TURNED_PLACES, TURNED_SIGNS

MAX_DISTANCE = 8  # bits of 64
LEAST_LIKENESS = 0.95  # correlation of the 63 lowest frequencies
MAX_PAIRS = 200_000  # kept; beyond that the likest ones
_BANDS = ((0, 21), (21, 21), (42, 22))  # (first bit, width)
_BATCH = 2_000_000  # comparisons held in memory at a time


class NearPairs(NamedTuple):
    """Pairs of pictures (rows `first` < `second`), each once with the turn that makes them likest; arrays (pairs,).

    `turn`: what to do to the first to get the second (TURNS); `distance`: bits in which the hashes then differ;
    `likeness`: correlation of their low frequencies. `compared`: pairs within the distance, of all turns, before
    likeness was asked. `cut`: more than MAX_PAIRS were found, and the likest are here.
    """

    first: np.ndarray
    second: np.ndarray
    turn: np.ndarray
    distance: np.ndarray
    likeness: np.ndarray
    compared: int
    cut: bool


def near_pairs(
    hashes: np.ndarray,
    detail: np.ndarray,
    max_distance: int = MAX_DISTANCE,
    least_likeness: float = LEAST_LIKENESS,
    max_pairs: int = MAX_PAIRS,
) -> NearPairs:
    """All pairs of pictures that are near duplicates under one of eight orientations.

    hashes (n, 8) uint64, detail (n, 64) float16: as in `Prints`. A pair counts if its hashes differ in at most
    `max_distance` bits and its low frequencies correlate by at least `least_likeness`. InputError for a distance
    outside 0 to 11, where the look-up would cost more than it saves.
    """
    if not 0 <= max_distance <= 11:
        raise InputError(f"max_distance is {max_distance}; 0 to 11 bits of 64 can be looked up")
    index = HashIndex(hashes[:, 0])
    parts: list[np.ndarray] = []
    compared, held, cut = 0, 0, False
    for turn in range(hashes.shape[1]):
        for first, second, distance in index.within(hashes[:, turn], max_distance):
            compared += len(first)
            turned = detail[first][:, TURNED_PLACES[turn]].astype(np.float32) * TURNED_SIGNS[turn]
            likeness = np.einsum("ij,ij->i", turned, detail[second].astype(np.float32))
            near = likeness >= least_likeness
            if near.any():
                part = np.zeros(int(near.sum()), _PAIR)
                part["first"], part["second"], part["turn"] = first[near], second[near], turn
                part["distance"], part["likeness"] = distance[near], likeness[near]
                parts.append(part)
                held += len(part)
            if held > 2 * max_pairs:
                parts = [_best(parts)]
                if len(parts[0]) > max_pairs:
                    parts, cut = [np.sort(parts[0], order="likeness")[-max_pairs:]], True
                held = len(parts[0])
    found = _best(parts)
    if len(found) > max_pairs:
        found, cut = np.sort(found, order="likeness")[-max_pairs:], True
    found = found[np.lexsort((found["second"], found["first"], -found["likeness"]))]
    return NearPairs(
        found["first"], found["second"], found["turn"], found["distance"], found["likeness"], compared, cut
    )


_PAIR = np.dtype(
    [("first", np.int32), ("second", np.int32), ("turn", np.int8), ("distance", np.int8), ("likeness", np.float32)]
)


def _best(parts: list[np.ndarray]) -> np.ndarray:
    """Each pair once, by its likest turn (the first of several)."""
    every = np.concatenate(parts) if parts else np.zeros(0, _PAIR)
    every = every[np.lexsort((every["turn"], -every["likeness"], every["second"], every["first"]))]
    fresh = np.ones(len(every), bool)
    fresh[1:] = (every["first"][1:] != every["first"][:-1]) | (every["second"][1:] != every["second"][:-1])
    return every[fresh]


class HashIndex:
    """64-bit hashes (n,) sorted by each band, ready for `within`."""

    def __init__(self, hashes: np.ndarray):
        self._bands = []
        for shift, width in _BANDS:
            key, order, ordered = _sorted_by_band(hashes, shift, width)
            starts = np.zeros(2**width + 1, np.int32)
            np.cumsum(np.bincount(key, minlength=2**width), out=starts[1:])
            self._bands.append((order, ordered, starts))

    def within(self, queries: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Batches of (query row, index row, distance): every pair within `distance` with query row < index row, once.

        queries (n,) uint64, row for row the same pictures as the index.
        """
        allowance, exact = divmod(distance, len(_BANDS))
        radii = [allowance if b <= exact else allowance - 1 for b in range(len(_BANDS))]
        for band, ((shift, width), radius) in enumerate(zip(_BANDS, radii, strict=True)):
            key, rows, asked = _sorted_by_band(queries, shift, width)
            order, ordered, starts = self._bands[band]
            for mask in _masks(width, radius):
                for one, other in _matches(starts, key ^ mask):
                    apart = asked[one] ^ ordered[other]
                    near = np.flatnonzero(np.bitwise_count(apart) <= distance)
                    if not len(near):  # the usual case, so rows are looked up only now
                        continue
                    apart, first, second = apart[near], rows[one[near]], order[other[near]]
                    good = first < second
                    for earlier in range(band):  # what an earlier band has found
                        good &= np.bitwise_count(_band(apart, *_BANDS[earlier])) > radii[earlier]
                    yield first[good], second[good], np.bitwise_count(apart[good])


def _matches(starts: np.ndarray, key: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (place of a query, place in the index): for each key all places of its bucket."""
    low = starts[key]
    size = starts[key + 1] - low
    hit = np.flatnonzero(size)
    size, low = size[hit], low[hit]
    done = np.cumsum(size, dtype=np.int64)
    begin = before = 0
    while begin < len(hit):
        end = max(begin + 1, int(np.searchsorted(done, before + _BATCH, side="right")))
        count = size[begin:end]
        # Counting on from the start of each bucket: one running number less what was counted before the bucket.
        offset = low[begin:end] - (done[begin:end] - count - before).astype(np.int32)
        total = int(done[end - 1]) - before
        yield np.repeat(hit[begin:end], count), np.repeat(offset, count) + np.arange(total, dtype=np.int32)
        begin, before = end, int(done[end - 1])


def _sorted_by_band(hashes: np.ndarray, shift: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(band of each, row of each, hash of each) in order of the band: neighbours lie together in memory."""
    key = _band(hashes, shift, width)
    order = np.argsort(key, kind="stable").astype(np.int32)
    return key[order], order, hashes[order]


def _band(hashes: np.ndarray, shift: int, width: int) -> np.ndarray:
    return ((hashes >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int32)


def _masks(width: int, radius: int) -> Iterator[int]:
    """Every pattern of at most `radius` bits; none if the radius is negative."""
    for count in range(radius + 1):
        for chosen in combinations(range(width), count):
            yield sum(1 << bit for bit in chosen)
