"""A print of every picture: what tells exact and near duplicates, also flipped or turned, at 200 bytes a picture.

The perceptual hash of `judge.images`, in eight orientations out of one transform, finds candidates; the 63 low
frequencies behind it decide (`near_pairs`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ..judge.errors import InputError
from ..judge.images import MAX_PIXELS, ImageProblem, reduced, stored

EVEN = 2.0  # grey levels: what varies less, coarsely seen, has no hash worth comparing
TURNS = (
    "as it is",
    "upside down",
    "mirrored",
    "turned by 180 degrees",
    "transposed",
    "turned by 90 degrees",
    "turned by 270 degrees",
    "transposed along the other diagonal",
)

# Turn k transposes if k & 4, then mirrors left and right if k & 2, then up and down if k & 1. Of a transform, a
# mirror changes the sign of every odd frequency along its axis.
_ALTERNATE = (-1.0) ** np.arange(8)
_PLACES = np.arange(64).reshape(8, 8)
TURNED_PLACES = np.stack([(_PLACES.T if k & 4 else _PLACES).ravel() for k in range(8)])
TURNED_SIGNS = np.stack(
    [
        (np.ones((8, 8)) * (_ALTERNATE[None, :] if k & 2 else 1) * (_ALTERNATE[:, None] if k & 1 else 1)).ravel()
        for k in range(8)
    ]
).astype(np.float32)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Print(NamedTuple):
    """`digest`: first 128 bits of the SHA-256 of size and pixels, (2,) uint64; equal pixels, equal digest.

    `hashes`: the 64-bit perceptual hash under each of TURNS, (8,) uint64; the first is `perceptual_hash`. `detail`: the
    8x8 lowest frequencies scaled to length 1, (64,) float16, the mean 0. `spread`: their standard deviation in grey
    levels.
    """

    digest: np.ndarray
    hashes: np.ndarray
    detail: np.ndarray
    spread: float


class Prints(NamedTuple):
    """Prints of n pictures in the order asked for: `digest` (n, 2), `hashes` (n, 8), `detail` (n, 64), `spread` (n,).

    `read` (n,): False for a picture that could not be read; its row holds zeros and `problems` says why.
    """

    digest: np.ndarray
    hashes: np.ndarray
    detail: np.ndarray
    spread: np.ndarray
    read: np.ndarray
    problems: list[ImageProblem]


def picture_print(image: Image.Image, digest: str = "") -> Print:
    """The print of a decoded picture; `digest`: hex of its pixels, "" where exact duplicates do not matter."""
    from scipy.fft import dctn  # 20 MB that nothing else here needs

    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    low = dctn(grey)[:8, :8].ravel()
    turned = low[TURNED_PLACES] * TURNED_SIGNS
    bits = turned > np.median(turned, axis=1, keepdims=True)
    detail = low.reshape(8, 8) / 64  # orthonormal but for the first row and column, so a sum of squares is a variance
    detail[0] /= np.sqrt(2)
    detail[:, 0] /= np.sqrt(2)
    detail[0, 0] = 0
    length = float(np.linalg.norm(detail))
    return Print(
        np.frombuffer(bytes.fromhex(digest[:32]).ljust(16, b"\0"), dtype=">u8").astype(np.uint64),
        np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64),
        (detail.ravel() / (length or 1.0)).astype(np.float16),
        length / 32,
    )


def print_pictures(
    places: Iterable[tuple[Path, str]],
    n: int,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prints:
    """Prints of n pictures, each a root folder and a path below it, read in a stream: memory is that of the prints.

    Every picture is decoded whole (it must be, for its pixels to be compared), `threads` at a time (default: one per
    core, at most 8). A picture that is refused (`judge.images.prepare`) is listed, not raised. `progress` is called
    with (done, n).
    """
    found = Prints(
        np.zeros((n, 2), np.uint64),
        np.zeros((n, 8), np.uint64),
        np.zeros((n, 64), np.float16),
        np.zeros(n, np.float32),
        np.zeros(n, bool),
        [],
    )
    for k, result in enumerate(in_order(_read, places, threads)):
        if isinstance(result, ImageProblem):
            found.problems.append(result)
        else:
            found.digest[k], found.hashes[k], found.detail[k], found.spread[k] = result
            found.read[k] = True
        if progress:
            progress(k + 1, n)
    return found


def _read(place: tuple[Path, str]) -> Print | ImageProblem:
    root, path = place
    try:
        prepared = reduced(stored(root, path), MAX_PIXELS)  # no smaller copy, and nothing kept in the cache
    except InputError as error:
        return ImageProblem(path, str(error))
    return picture_print(prepared.pixels, prepared.pixel_sha256)


def in_order(function: Callable[[_In], _Out], items: Iterable[_In], threads: int | None = None) -> Iterator[_Out]:
    """`map` over threads (decoding lets go of the interpreter) that holds few results at a time, in order."""
    count = threads or min(8, os.cpu_count() or 1)
    source = iter(items)
    if count == 1:
        yield from map(function, source)
        return
    with ThreadPoolExecutor(count) as pool:
        waiting: list[Future[_Out]] = [pool.submit(function, item) for item in islice(source, 2 * count)]
        waiting.reverse()
        while waiting:
            yield waiting.pop().result()
            for item in islice(source, 1):
                waiting.insert(0, pool.submit(function, item))
