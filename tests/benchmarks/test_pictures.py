"""Nothing but pixels enters a benchmark folder, and no pixel changes on the way."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from dermjudge.benchmarks.pictures import clean, without_metadata
from dermjudge.judge.errors import InputError
from dermjudge.judge.images import prepare

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
IMAGE = Pillow.fromarray(PIXELS)


def encoded(form, image=IMAGE, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tell_tale(orientation=1):
    """EXIF with a person, a place and a camera."""
    exif = Pillow.Exif()
    exif[0x013B], exif[0x010F], exif[0x0112] = "Dr Secret", "SecretCam", orientation
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return exif


def chatty_png():
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Dr Secret")
    info.add_itxt("XML:com.adobe.xmp", "<x>Secret</x>")
    return encoded("PNG", pnginfo=info, exif=tell_tale(), dpi=(300, 300)) + b"Secret behind the end"


def chatty_jpeg(**options):
    return encoded("JPEG", exif=tell_tale(), comment=b"Secret comment", **options) + b"Secret behind the end"


@pytest.mark.parametrize("data", [chatty_png(), chatty_jpeg(), chatty_jpeg(progressive=True), chatty_jpeg(quality=30)],
                         ids=["png", "jpeg", "progressive", "coarse"])  # fmt: skip
def test_metadata_goes_and_no_pixel_changes(tmp_path, data):
    assert b"Secret" in data
    (tmp_path / "x").write_bytes(data)
    cleaned = clean(tmp_path, "x")
    assert cleaned.how == "stripped"
    assert b"Secret" not in cleaned.data
    with Pillow.open(io.BytesIO(cleaned.data)) as image:
        assert not dict(image.getexif())
        assert not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression"}
    (tmp_path / "y").write_bytes(cleaned.data)
    assert prepare(tmp_path, "y").pixel_sha256 == prepare(tmp_path, "x").pixel_sha256
    assert without_metadata(cleaned.data) == cleaned.data


@pytest.mark.parametrize(("form", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg")])
def test_a_picture_without_metadata_stays_byte_for_byte(tmp_path, form, suffix):
    (tmp_path / "x").write_bytes(encoded(form))
    assert clean(tmp_path, "x") == (encoded(form), suffix, "kept")


@pytest.mark.parametrize(
    "data",
    [encoded("JPEG", exif=tell_tale(6)), encoded("WEBP", lossless=True, exif=tell_tale()), encoded("TIFF"),
     encoded("JPEG", IMAGE.convert("CMYK")), encoded("PNG", IMAGE.convert("P"))],
    ids=["turned", "webp", "tiff", "cmyk", "palette"],
)  # fmt: skip
def test_what_a_judge_would_see_otherwise_is_saved_as_the_judge_sees_it(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    cleaned = clean(tmp_path, "x")
    assert (cleaned.suffix, cleaned.how) == (".png", "recoded")
    assert b"Secret" not in cleaned.data
    with Pillow.open(io.BytesIO(cleaned.data)) as image:
        assert np.array_equal(np.asarray(image), np.asarray(prepare(tmp_path, "x").pixels))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_cut_picture_is_refused(tmp_path, form, share):
    data = encoded(form)
    (tmp_path / "x").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="cut or damaged"):
        clean(tmp_path, "x")
