"""Speed and recall of the audit: python tests/speed/bench_audit.py [--n 1000000] [--pictures FOLDER].

Without pictures: n random 64-bit hashes in eight orientations with 1,000 planted pairs at distance 0 to 8, CPU
seconds, peak memory, and the share of planted pairs found; then the time for the quality of a picture of 12 megapixels.
With `--pictures`, a folder with metadata.csv (file, lesion_id, patient_id): each picture is edited in known ways and
its copies are looked for by hash alone and as the audit does; pairs of different lesions and patients that look alike
are false. Measure on an idle machine with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import csv
import io
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from dermjudge.benchmarks.near_pairs import LEAST_LIKENESS, MAX_DISTANCE, near_pairs
from dermjudge.benchmarks.picture_prints import TURNED_PLACES, TURNED_SIGNS, picture_print, print_pictures
from dermjudge.judge.quality import picture_quality

PLANTED = 1000
Edit = Callable[[Image.Image], Image.Image]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float, place: float = 0.5) -> Image.Image:
    width, height = round(image.width * share), round(image.height * share)
    left, top = round((image.width - width) * place), round((image.height - height) * place)
    return image.crop((left, top, left + width, top + height))


EDITS: dict[str, Edit] = {
    "JPEG quality 30": lambda image: jpeg(image, 30),
    "JPEG quality 10": lambda image: jpeg(image, 10),
    "half size": lambda image: scaled(image, 0.5),
    "224 x 224": lambda image: image.resize((224, 224), Image.Resampling.BICUBIC),
    "brightness 0.7": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "brightness 1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "contrast 0.7": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned, half, JPEG 30": lambda image: jpeg(scaled(image.transpose(Image.Transpose.ROTATE_270), 0.5), 30),
    "crop to 95 %": lambda image: cropped(image, 0.95),
    "crop to 90 %": lambda image: cropped(image, 0.9),
    "crop to 90 %, corner": lambda image: cropped(image, 0.9, 0.0),
    "crop to 80 %": lambda image: cropped(image, 0.8),
    "turned by 5": lambda image: image.rotate(5, Image.Resampling.BICUBIC),
}


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench_search(n: int, turns: int) -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**64, (n, turns), dtype=np.uint64)
    detail = np.empty((n, 64), np.float16)
    for begin in range(0, n, 50_000):
        part = draw.standard_normal((min(50_000, n - begin), 64), dtype=np.float32)
        detail[begin : begin + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    rows = draw.permutation(n)[: 2 * PLANTED]
    for k in range(PLANTED):
        one, other = rows[k], rows[PLANTED + k]
        flipped = sum(1 << int(bit) for bit in draw.permutation(64)[: k % (MAX_DISTANCE + 1)])
        hashes[other, 0] = hashes[one, 0] ^ np.uint64(flipped)
        detail[other] = detail[one]
    before, start, wall = memory(), time.process_time(), time.perf_counter()
    found = near_pairs(hashes, detail)
    cpu, wall = time.process_time() - start, time.perf_counter() - wall
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    hit = sum(
        (min(a, b), max(a, b)) in pairs for a, b in zip(rows[:PLANTED].tolist(), rows[PLANTED:].tolist(), strict=True)
    )
    print(f"{n:,} hashes, {turns} orientations, distance {MAX_DISTANCE}: {cpu:.1f} s CPU ({wall:.1f} s wall), "
          f"{found.compared:,} within the distance, {hit} of {PLANTED} planted pairs found, {len(pairs) - hit} others; "
          f"peak {memory():.0f} MB, of which {before:.0f} MB are prints and Python")  # fmt: skip


def bench_quality() -> None:
    draw = np.random.default_rng(0)
    small = Image.fromarray(draw.integers(60, 220, (75, 100, 3), dtype=np.uint8))
    big = small.resize((4000, 3000), Image.Resampling.BICUBIC)
    picture_quality(big)
    start = time.process_time()
    for _ in range(10):
        picture_quality(big)
    print(f"quality of a decoded picture of 12 megapixels: {100 * (time.process_time() - start):.0f} ms CPU")
    buffer = io.BytesIO()
    big.save(buffer, "JPEG", quality=90)
    start = time.process_time()
    for _ in range(5):
        picture_quality(Image.open(buffer).convert("RGB"))
    print(f"the same from a JPEG of {buffer.tell() / 1e6:.1f} MB: {200 * (time.process_time() - start):.0f} ms CPU")


def bench_pictures(folder: Path) -> None:
    with (folder / "metadata.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    start = time.process_time()
    stored = print_pictures(((folder, row["file"]) for row in rows), len(rows))
    print(f"prints of {len(rows)} files: {1000 * (time.process_time() - start) / len(rows):.1f} ms CPU each")
    pictures = [Image.open(folder / row["file"]).convert("RGB") for row in rows]
    n = len(rows)
    print("copies found:                hash alone   as the audit does")
    for name, edit in EDITS.items():
        copies = [picture_print(edit(picture)) for picture in pictures]
        bits, like = compare(stored.hashes, stored.detail, np.stack([c.hashes[0] for c in copies]),
                             np.stack([c.detail for c in copies]))  # fmt: skip
        near = bits <= MAX_DISTANCE
        alone, both = near.any(axis=0).mean(), (near & (like >= LEAST_LIKENESS)).any(axis=0).mean()
        print(f"  {name:<24} {alone:>12.3f} {both:>18.3f}")
    first, second = np.triu_indices(n, 1)
    strangers = np.array([not (same(rows[a], rows[b], "lesion_id") or same(rows[a], rows[b], "patient_id"))
                          for a, b in zip(first.tolist(), second.tolist(), strict=True)])  # fmt: skip
    bits, like = compare(stored.hashes[first], stored.detail[first], stored.hashes[second, 0], stored.detail[second])
    for limit in (4, 6, 8, 10):
        near = bits <= limit
        both = (near & (like >= LEAST_LIKENESS)).any(axis=0)
        alone = near.any(axis=0)
        told = f"{int(alone[strangers].sum())} by hash alone, {int(both[strangers].sum())} as the audit does"
        print(f"false pairs within {limit} bits: {told}, of {int(strangers.sum()):,}; of one lesion or patient "
              f"{int(both[~strangers].sum())} of {int((~strangers).sum())}")  # fmt: skip


def same(one: dict[str, str], other: dict[str, str], name: str) -> bool:
    return bool(one.get(name)) and one[name] == other.get(name)


def compare(
    hashes: np.ndarray, detail: np.ndarray, upright: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(8, n) bits and likeness of row against row under each orientation of the first."""
    bits = np.bitwise_count(hashes.T ^ upright)
    turned = (detail[:, places].astype(np.float32) * signs
              for places, signs in zip(TURNED_PLACES, TURNED_SIGNS, strict=True))  # fmt: skip
    return bits, np.stack([np.einsum("ij,ij->i", rows, other.astype(np.float32)) for rows in turned])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    if options.pictures:
        bench_pictures(options.pictures)
    else:
        bench_quality()
        bench_search(options.n, options.turns)
