"""The sheet of pairs: what it shows, that it carries nothing else, and what it does with bad pictures and odd names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from dermjudge.benchmarks.contact_sheet import SIDE, SheetPair, contact_sheet, write_sheet
from dermjudge.judge.errors import InputError


@pytest.fixture
def folder(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Dr Grey, ward 7"
    Image.new("RGB", (400, 200), (200, 30, 30)).save(tmp_path / "red.jpg", exif=exif)
    Image.new("RGB", (50, 50), (30, 30, 200)).save(tmp_path / "blue.png")
    return tmp_path


def pair(folder, one="red.jpg", other="blue.png", captions=("a", "b"), headline="same"):
    return SheetPair((folder, one), (folder, other), captions, headline)


def colours(image):
    return {tuple(map(int, colour)) for colour in np.asarray(image).reshape(-1, 3)}


def test_both_pictures_stand_side_by_side(folder):
    values = np.asarray(contact_sheet([pair(folder)]))
    red = (values[..., 0] > 150) & (values[..., 1] < 60) & (values[..., 2] < 60)
    blue = (values == (30, 30, 200)).all(axis=-1)
    assert red.sum() == pytest.approx(SIDE * SIDE / 2, rel=0.02)  # scaled down, in its shape
    assert blue.sum() == 50 * 50  # never enlarged
    assert np.nonzero(red)[1].max() < np.nonzero(blue)[1].min()


def test_pairs_fill_rows(folder):
    one, three = contact_sheet([pair(folder)]), contact_sheet([pair(folder)] * 3)
    assert three.size == (2 * one.width, 2 * one.height)
    assert contact_sheet([pair(folder)] * 3, columns=1).size == (one.width, 3 * one.height)


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg"])
def test_the_file_carries_no_metadata_and_is_private(folder, name):
    write_sheet(folder / name, [pair(folder)])
    data = (folder / name).read_bytes()
    assert b"Grey" not in data and b"Exif" not in data and b"tEXt" not in data
    with Image.open(folder / name) as sheet:
        assert not sheet.getexif()
        assert set(sheet.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert (folder / name).stat().st_mode & 0o077 == 0


def test_a_picture_that_cannot_be_read_is_a_grey_field(folder):
    sheet = contact_sheet([pair(folder, other="absent.png")])
    assert (200, 200, 200) in colours(sheet)
    assert (30, 30, 200) not in colours(sheet)


def test_captions_are_cut_and_made_visible(folder):
    plain = contact_sheet([pair(folder)])
    long = contact_sheet([pair(folder, captions=("x" * 500, "\u202e\u8272\n"), headline="y" * 900)])
    assert long.size == plain.size
    values = np.asarray(long)
    assert (values[:, -4:] == 255).all()  # nothing runs over the edge
    assert (np.asarray(plain) != values).any()


def test_what_is_refused(folder):
    with pytest.raises(InputError, match=r"ends in \.png or \.jpg"):
        write_sheet(folder / "sheet.html", [pair(folder)])
    with pytest.raises(InputError, match="at least one pair"):
        write_sheet(folder / "sheet.png", [])
    assert not (folder / "sheet.png").exists()
