"""Pictures as they are sent: small, without metadata, made once however often and by whomever they are asked for."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from PIL import ExifTags, Image

from dermjudge.judge import images
from dermjudge.judge.calls import pictures
from dermjudge.judge.calls.kept import Kept
from dermjudge.judge.calls.pictures import PictureSettings, encoded, sent
from dermjudge.judge.errors import InputError
from dermjudge.judge.images import prepare, reduced, stored


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(pictures, "_kept", Kept(pictures.KEPT_BYTES, lambda picture: len(picture.data)))
    monkeypatch.setattr(images, "_cache", images._Cache(images.CACHE_BYTES))


def photo(width=403, height=302, seed=0):
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def save(folder, name, image, form="JPEG", **options):
    image.save(folder / name, form, **options)
    return name


def psnr(one, two):
    return 10 * np.log10(255**2 / np.mean((np.asarray(one).astype(float) - np.asarray(two)) ** 2))


def test_scaled_and_without_metadata(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "PLANTED"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 29: "PLANTED"})
    save(tmp_path, "a", photo(), quality=95, exif=exif, comment=b"PLANTED", dpi=(300, 300), xmp=b"<x>PLANTED</x>")
    picture = sent(tmp_path, "a", PictureSettings(max_side=100))
    shown = Image.open(io.BytesIO(picture.data))
    assert shown.size == (75, 100)
    assert picture.media_type == "image/jpeg"
    assert b"PLANTED" not in picture.data and b"Exif" not in picture.data
    assert not shown.getexif() and set(shown.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert psnr(shown, prepare(tmp_path, "a", max_side=100).pixels) > 33  # the JPEG's own loss at quality 85 included
    assert sent(tmp_path, "a", PictureSettings(max_side=1000)).data != picture.data


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("size", "side", "decibel"),
    # Where 8 does not divide the sides, the last column holds padding too: nothing in a photo, some of a tiny picture.
    [((800, 600), 192, 48), ((806, 604), 192, 42), ((99, 100), 48, 33), ((640, 40), 48, 33), ((1, 300), 48, None)],
)
def test_reduced_pictures_are_those_of_prepare_but_for_a_trace(tmp_path, orientation, size, side, decibel):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    save(tmp_path, "a", photo(*size), quality=95, exif=exif)
    full, small = prepare(tmp_path, "a", max_side=side), reduced(stored(tmp_path, "a"), side)
    assert small.pixels.size == full.pixels.size
    assert (small.width, small.height, small.sha256) == (full.width, full.height, full.sha256)
    if decibel is not None:
        assert psnr(small.pixels, full.pixels) > decibel
        assert any(note.startswith("decoded at ") for note in small.notes)
        assert small.pixel_sha256 == ""
    width, height = full.pixels.size
    assert full.notes[-1] == small.notes[-1] == f"scaled from {full.width}x{full.height} to {width}x{height}"
    assert small.pixels.info == {}


def test_what_is_not_decoded_smaller_is_exactly_that_of_prepare(tmp_path):
    save(tmp_path, "small.jpg", photo(90, 60), quality=95)
    save(tmp_path, "x.png", photo(), "PNG")
    save(tmp_path, "x.webp", photo(), "WEBP")
    for name in ("small.jpg", "x.png", "x.webp"):
        full, small = prepare(tmp_path, name, max_side=64), reduced(stored(tmp_path, name), 64)
        assert np.array_equal(np.asarray(small.pixels), np.asarray(full.pixels))
        assert (small.notes, small.pixel_sha256) == (full.notes, full.pixel_sha256)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_cut_photo_is_refused_although_it_is_decoded_smaller(tmp_path, progressive):
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (160, 240, 3), dtype=np.uint8))
    save(tmp_path, "a", noise, progressive=progressive)
    data = (tmp_path / "a").read_bytes()
    assert reduced(stored(tmp_path, "a"), 40).pixels.size == (40, 27)
    for cut in (len(data) // 3, len(data) // 2, len(data) * 9 // 10, len(data) - 30, len(data) - 2):
        (tmp_path / "b").write_bytes(data[:cut])
        with pytest.raises(InputError, match="image 'b': is a cut or damaged JPEG file"):
            sent(tmp_path, "b", PictureSettings(max_side=40))


def test_paths_are_checked_as_ever(tmp_path):
    save(tmp_path, "a", photo())
    (tmp_path / "in").mkdir()
    for path, why in (("../a", "'..' is refused"), ("b", "No such file"), ("", "is no path")):
        with pytest.raises(InputError, match=why):
            sent(tmp_path / "in", path)
    with pytest.raises(InputError, match="more than 10 bytes"):
        stored(tmp_path, "a", max_bytes=10)
    with pytest.raises(InputError, match="at most 50 are read"):
        reduced(stored(tmp_path, "a"), 10, max_pixels=50)


def test_made_once_per_content_and_settings_by_many_threads(tmp_path, monkeypatch):
    for name in ("a", "b"):
        save(tmp_path, name, photo())
    made = []
    real = pictures._encode
    monkeypatch.setattr(pictures, "_encode", lambda *a: made.append(1) or time.sleep(0.02) or real(*a))
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(sent(tmp_path, "ab"[n % 2]))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len({id(picture) for picture in found}) == 1
    sent(tmp_path, "a", PictureSettings(quality=84))
    assert len(made) == 2


def test_pixels_in_memory_are_told_apart_by_their_digest_or_themselves():
    one, two = photo(seed=1), photo(seed=2)
    assert encoded(one, "x") is encoded(one, "x")
    assert encoded(one) is encoded(one.copy())
    assert encoded(one).sha256 != encoded(two).sha256
    assert encoded(one, "x", PictureSettings(max_side=20)).data != encoded(one, "x").data
    assert Image.open(io.BytesIO(encoded(one, "x", PictureSettings(max_side=20)).data)).size == (20, 15)
    turned = Image.frombytes("RGB", (302, 403), one.tobytes())  # the same bytes in another shape
    assert encoded(turned).sha256 != encoded(one).sha256


def test_a_file_and_pixels_are_never_taken_for_each_other(tmp_path):
    save(tmp_path, "a", photo(seed=1))
    first = sent(tmp_path, "a")
    assert encoded(photo(seed=2), stored(tmp_path, "a").sha256).sha256 != first.sha256


def test_what_is_kept_stays_within_its_size():
    kept = Kept(10, len)
    for text in ("aaaa", "bbbb"):
        assert kept.get(text, lambda text=text: text) == text
    kept.get("aaaa", lambda: "not made again")
    kept.get("cccc", lambda: "cccc")  # the one used longest ago goes
    assert kept.size == 8
    assert kept.get("aaaa", lambda: "lost") == "aaaa"
    assert kept.get("bbbb", lambda: "new") == "new"
    assert kept.get("big", lambda: "x" * 11) == "x" * 11  # handed out, not kept
    assert kept.get("big", lambda: "y" * 11) == "y" * 11
    assert kept.size <= 10


def test_errors_are_not_kept_and_reach_all_who_wait():
    kept, gate, failed = Kept(10, len), threading.Event(), []

    def broken():
        gate.wait(5)
        raise InputError("no")

    def ask():
        try:
            kept.get("a", broken)
        except InputError:
            failed.append(1)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert len(failed) == 3
    assert kept.get("a", lambda: "good") == "good"


@pytest.mark.parametrize("wrong", [{"max_side": 0}, {"quality": 0}, {"quality": 96}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(InputError):
        PictureSettings(**wrong)


def test_all_settings_are_in_the_signature():
    assert len({str(PictureSettings(*each).signature) for each in ((1568, 85), (1024, 85), (1568, 90))}) == 3
