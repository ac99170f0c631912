"""Prints of pictures in eight orientations, and the search that must not miss a pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermjudge.benchmarks import near_pairs as module
from dermjudge.benchmarks.near_pairs import HashIndex, near_pairs
from dermjudge.benchmarks.picture_prints import TURNS, in_order, picture_print, print_pictures
from dermjudge.judge.errors import InputError
from dermjudge.judge.images import hamming, perceptual_hash, prepare

T = Image.Transpose
OPERATIONS = {
    "as it is": None,
    "upside down": T.FLIP_TOP_BOTTOM,
    "mirrored": T.FLIP_LEFT_RIGHT,
    "turned by 180 degrees": T.ROTATE_180,
    "transposed": T.TRANSPOSE,
    "turned by 90 degrees": T.ROTATE_90,
    "turned by 270 degrees": T.ROTATE_270,
    "transposed along the other diagonal": T.TRANSVERSE,
}


def photograph(seed=0, width=90, height=70):
    """Smooth colours without any symmetry, with fine detail on top, as in a photograph."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(30, 226, (5, 6, 3), dtype=np.uint8)).resize((width, height), 3)
    values = np.asarray(coarse, float) + draw.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def turned(picture, name):
    return picture if OPERATIONS[name] is None else picture.transpose(OPERATIONS[name])


def test_a_print_holds_the_hash_of_all_eight_orientations():
    for seed in range(5):
        picture = photograph(seed)
        found = picture_print(picture)
        assert int(found.hashes[0]) == perceptual_hash(picture)
        for turn, name in enumerate(TURNS):
            # Scaling rounds rows after columns, so a transposed picture may differ in a bit or two.
            assert hamming(int(found.hashes[turn]), perceptual_hash(turned(picture, name))) <= 2, name


def test_spread_is_the_standard_deviation_of_the_coarse_picture():
    values = np.full((32, 32), 100.0)
    values[:, 16:] = 120  # a step: nearly all of it lies in the lowest frequencies
    found = picture_print(Image.fromarray(values.astype(np.uint8)))
    assert found.spread == pytest.approx(10, rel=0.05)
    assert np.linalg.norm(found.detail.astype(float)) == pytest.approx(1, abs=1e-3)
    even = picture_print(Image.new("RGB", (40, 40), (90, 90, 90)))
    assert even.spread < 1e-6
    assert np.isfinite(even.detail).all()


def brute(one, other, distance):
    bits = np.bitwise_count(one[:, None] ^ other[None])
    first, second = np.nonzero((bits <= distance) & (np.arange(len(one))[:, None] < np.arange(len(one))))
    return {(int(a), int(b), int(bits[a, b])) for a, b in zip(first, second, strict=True)}


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(0, 11))
def test_every_pair_within_the_distance_is_found_once(seed, n, distance):
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, 2**64, 4, dtype=np.uint64)[draw.integers(0, 4, n)]
    for row in range(n):  # clusters with 0 to 13 bits flipped, so that all distances occur
        for bit in draw.permutation(64)[: draw.integers(0, 14)]:
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
    asked = hashes[draw.permutation(n)]
    found = [
        tuple(map(int, pair)) for part in HashIndex(hashes).within(asked, distance) for pair in zip(*part, strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == brute(asked, hashes, distance)


def test_batches_do_not_change_what_is_found(monkeypatch):
    draw = np.random.default_rng(3)
    hashes = np.repeat(draw.integers(0, 2**64, 12, dtype=np.uint64), 25)
    every = sum(len(part[0]) for part in HashIndex(hashes).within(hashes, 4))
    monkeypatch.setattr(module, "_BATCH", 7)
    assert sum(len(part[0]) for part in HashIndex(hashes).within(hashes, 4)) == every == 12 * 25 * 24 // 2


def prints_of(pictures):
    found = [picture_print(picture) for picture in pictures]
    return np.stack([p.hashes for p in found]), np.stack([p.detail for p in found])


@pytest.mark.parametrize("name", TURNS)
def test_a_turned_copy_is_found_with_its_turn(name):
    one, stranger = photograph(1), photograph(2)
    found = near_pairs(*prints_of([one, stranger, turned(one, name)]))
    assert (found.first.tolist(), found.second.tolist()) == ([0], [2])
    assert TURNS[found.turn[0]] == name
    assert found.likeness[0] > 0.99


def test_equal_hashes_alone_are_no_near_duplicates():
    one, other = photograph(1), photograph(2)
    hashes, detail = prints_of([one, other])
    hashes[1] = hashes[0]
    found = near_pairs(hashes, detail)
    assert (len(found.first), found.compared > 0) == (0, True)
    assert len(near_pairs(hashes, detail, least_likeness=-1.0).first) == 1


def test_too_many_pairs_are_cut_to_the_likest():
    hashes, detail = prints_of([photograph(0)] * 30)
    detail = detail.copy()
    detail[5] = detail[5] * np.float16(1.01)  # its pairs are the likest
    found = near_pairs(hashes, detail, max_pairs=20)
    assert found.cut and len(found.first) == 20
    assert all(5 in pair for pair in zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert not near_pairs(hashes, detail).cut
    assert len(near_pairs(hashes, detail).first) == 30 * 29 // 2


def test_distances_that_cannot_be_looked_up_are_refused():
    for distance in (-1, 12):
        with pytest.raises(InputError, match="0 to 11 bits"):
            near_pairs(*prints_of([photograph()]), max_distance=distance)
    assert len(near_pairs(np.zeros((0, 8), np.uint64), np.zeros((0, 64), np.float16)).first) == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_are_read_in_order_and_refusals_listed(tmp_path, threads):
    for k in range(7):
        photograph(k).save(tmp_path / f"{k}.png")
    photograph(2).save(tmp_path / "2-again.bmp.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    names = [*(f"{k}.png" for k in range(7)), "2-again.bmp.png", "absent.png"]
    calls = []
    found = print_pictures(((tmp_path, name) for name in names), len(names), threads, lambda *call: calls.append(call))
    assert calls == [(k, 9) for k in range(1, 10)]
    assert found.read.tolist() == [True, True, True, False, True, True, True, True, False]
    assert [problem.path for problem in found.problems] == ["3.png", "absent.png"]
    assert int(found.hashes[5, 0]) == perceptual_hash(photograph(5))
    assert (found.digest[2] == found.digest[7]).all() and (found.digest[2] != found.digest[1]).any()
    assert f"{int(found.digest[2, 0]):016x}" == prepare(tmp_path, "2.png").pixel_sha256[:16]


def test_few_results_wait_at_a_time():
    started = []

    def slow(item):
        started.append(item)
        return item

    stream = in_order(slow, range(1000), threads=2)
    assert next(stream) == 0
    assert len(started) <= 6
    assert list(stream) == list(range(1, 1000))
