"""Image intake: what is refused, what the pixels become, and that nothing but pixels leaves."""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageFile, PngImagePlugin

from dermjudge.judge import images
from dermjudge.judge.errors import InputError
from dermjudge.judge.images import encode_jpeg, encode_png, hamming, image_problems, perceptual_hash, prepare

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(images, "_cache", images._Cache(images.CACHE_BYTES))


def picture(width=48, height=32, seed=0):
    """A smooth picture without any symmetry, so that every wrong turn shows."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def save(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name


def pixels(folder, name, **options):
    return np.asarray(prepare(folder, name, **options).pixels).astype(int)


# Paths


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd", "leading '/'"),
        ("../outside.png", "'..' is refused"),
        ("a/../../outside.png", "'..' is refused"),
        ("a/..", "'..' is refused"),
        ("~/outside.png", "leading '/' or '~'"),
        ("C:/outside.png", "drive letters"),
        ("c:outside.png", "drive letters"),
        ("..\\outside.png", "backslash"),
        ("\\\\server\\share\\x.png", "backslash"),
        ("inside.png\0.jpg", "NUL"),
        ("http://127.0.0.1:9/x.png", "URLs"),
        ("file:///etc/passwd", "URLs"),
        ("s3://bucket/x.png", "URLs"),
        ("data:image/png;base64,AAAA", "URLs"),
        ("", "is no path"),
        (".", "is a folder"),
        ("a", "is a folder"),
        ("inside.png/", "is a folder"),
        ("inside.png/x", "Not a directory"),
        ("\ud800.png", "half a character"),
        ("missing.png", "No such file"),
        ("%2e%2e/outside.png", "No such file"),
        ("a" * 300 + ".png", "name too long"),
    ],
)
def test_paths_stay_under_the_root(tmp_path, path, why):
    root = tmp_path / "root"
    save(tmp_path, "outside.png", encoded(picture(), "PNG"))
    save(root, "inside.png", encoded(picture(), "PNG"))
    save(root, "a/b.png", encoded(picture(), "PNG"))
    with pytest.raises(InputError) as caught:
        prepare(root, path)
    assert why in str(caught.value)
    assert repr(path) in str(caught.value)
    assert prepare(root, "./a//b.png").width == 48


def test_links_devices_pipes_and_folders_are_refused(tmp_path):
    root = tmp_path / "root"
    save(tmp_path / "else", "x.png", encoded(picture(), "PNG"))
    save(root, "true.png", encoded(picture(), "PNG"))
    (root / "out.png").symlink_to(tmp_path / "else" / "x.png")
    (root / "in.png").symlink_to("true.png")
    (root / "folder").symlink_to(tmp_path / "else")
    os.mkfifo(root / "pipe.png")
    found = dict(image_problems(root, ["out.png", "in.png", "folder/x.png", "pipe.png", "true.png"]))
    assert {path: reason.split(";")[0] for path, reason in found.items()} == {
        "out.png": "symbolic links are refused",
        "in.png": "symbolic links are refused",
        "folder/x.png": "symbolic links are refused",
        "pipe.png": "is a device or pipe, not a file",
    }
    assert dict(image_problems("/dev", ["null"])) == {"null": "is a device or pipe, not a file"}
    (tmp_path / "alias").symlink_to(root)  # the root itself is the person's own word
    assert prepare(tmp_path / "alias", "true.png").width == 48


@pytest.mark.parametrize("place", ["last", "folder"])
def test_a_link_swapped_in_after_the_look_is_not_followed(tmp_path, monkeypatch, place):
    root = tmp_path / "root"
    save(tmp_path / "else", "x.png", encoded(picture(seed=1), "PNG"))
    save(root / "a", "x.png", encoded(picture(), "PNG"))
    real, path = os.open, root / "a" if place == "folder" else root / "a" / "x.png"

    def swap(part, flags, *rest, **options):
        if part == path.name:
            path.rename(tmp_path / "moved")
            path.symlink_to(tmp_path / "else" / ("x.png" if place == "last" else ""))
        return real(part, flags, *rest, **options)

    monkeypatch.setattr(images.os, "open", swap)
    with pytest.raises(InputError, match=r"cannot be opened: (Too many levels of symbolic links|Not a directory)"):
        prepare(root, "a/x.png")
    assert path.is_symlink()


def test_all_problems_are_listed_once_without_raising(tmp_path):
    save(tmp_path, "good.png", encoded(picture(), "PNG"))
    save(tmp_path, "empty.png", b"")
    save(tmp_path, "text.jpg", b"not a picture")
    found = image_problems(tmp_path, ["good.png", "empty.png", "no.png", "text.jpg", "empty.png", "good.png"])
    assert [problem.path for problem in found] == ["empty.png", "no.png", "text.jpg"]
    assert found[0].reason == "is empty"
    assert image_problems(tmp_path / "nowhere", ["x.png"])[0].reason.startswith("the image folder")


# Formats and damage


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("ending", ["", ".txt"])
def test_the_content_decides_not_the_ending(tmp_path, form, ending):
    name = save(tmp_path, "x" + (ending or FORMATS[form]), encoded(picture(), form, quality=95))
    assert np.abs(pixels(tmp_path, name) - np.asarray(picture())).mean() < 3


FOREIGN = {
    "GIF": encoded(picture(), "GIF"),
    "BMP": encoded(picture(), "BMP"),
    "EPS": encoded(picture(), "EPS"),
    "PDF": encoded(picture(), "PDF"),
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 2, 2, 8, 3) + bytes(40),
    "ICNS": b"icns" + struct.pack(">I", 8),
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "HEIC": struct.pack(">I", 24) + b"ftypheic" + bytes(12),
    "AVIF": struct.pack(">I", 24) + b"ftypavif" + bytes(12),
    "DICOM": bytes(128) + b"DICM" + bytes(20),
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "HTML or XML": b"<!doctype html><p>404",
    "unknown": b"hello",
}


@pytest.mark.parametrize("form", FOREIGN)
def test_other_formats_are_refused_by_name(tmp_path, form):
    name = save(tmp_path, "x.jpg", FOREIGN[form])
    with pytest.raises(InputError, match=rf"image 'x\.jpg': its content is {form}, which is not read; \w+"):
        prepare(tmp_path, name)


def test_hints_for_what_phones_and_hospitals_have():
    for form, word in {"HEIC": "JPEG", "AVIF": "PNG", "DICOM": "de-identify"}.items():
        with pytest.raises(images._Refused, match=word):
            images._decode(FOREIGN[form], "", None, 1)


def several(form):
    frames = [picture(seed=i) for i in range(3)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "MPO"])
def test_more_than_one_picture_in_a_file_is_refused(tmp_path, form):
    name = save(tmp_path, "x.jpg", several(form))
    with pytest.raises(InputError, match="holds 3 pictures"):
        prepare(tmp_path, name)


NOISE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (60, 80, 3), dtype=np.uint8))
WHOLE = {
    "JPEG": encoded(NOISE, "JPEG"),
    "progressive": encoded(NOISE, "JPEG", progressive=True),
    "PNG": encoded(NOISE, "PNG"),
    "WEBP": encoded(NOISE, "WEBP"),
    "lossless": encoded(NOISE, "WEBP", lossless=True),
    "TIFF": encoded(NOISE, "TIFF"),
    "LZW": encoded(NOISE, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the TIFF reader
@pytest.mark.parametrize("form", WHOLE)
def test_cut_files_are_refused_wherever_they_are_cut(tmp_path, form):
    data = WHOLE[form]
    rng = random.Random(0)
    cuts = {1, 4, 12, 30, 100, len(data) // 2, len(data) - 1, len(data) - 2, len(data) - 3, len(data) - 20}
    while len(cuts) < 20:
        cuts.add(rng.randrange(1, len(data)))
    assert image_problems(tmp_path, [save(tmp_path, "whole", data)]) == []
    for cut in sorted(cuts):
        name = save(tmp_path, f"{cut}.jpg", data[:cut])
        assert image_problems(tmp_path, [name]), f"{cut} of {len(data)} bytes passed as whole"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the TIFF reader
@pytest.mark.parametrize("form", WHOLE)
def test_rotten_bytes_raise_nothing_but_input_errors(form):
    rng = random.Random(1)
    for _ in range(60):
        data = bytearray(WHOLE[form])
        for _ in range(rng.choice([1, 1, 5])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            made = images._decode(bytes(data), "", None, 10_000)
        except images._Refused:
            continue
        assert made.pixels.mode == "RGB"
        if form == "PNG" and bytes(data) != WHOLE[form]:  # every chunk has a check sum, and it is looked at
            raise AssertionError("a damaged PNG passed")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x24\0\0\0WEBPVP8 ", b"II*\0\x08\0\0\0", b""]),
    st.binary(max_size=200),
)
def test_any_bytes_are_refused_or_read(start, rest):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(images._Refused):
            images._decode(start + rest, "", None, 10_000)


def test_a_lowered_guard_is_noticed(tmp_path, monkeypatch):
    name = save(tmp_path, "x.jpg", WHOLE["JPEG"][:-200])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        prepare(tmp_path, name)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width, height):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7072, 10_000, 20_000, 2**31 - 1])
def test_decompression_bombs_are_refused_by_their_header(tmp_path, side):
    name = save(tmp_path, "x.png", bomb(side, side))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with pytest.raises(InputError, match=rf"has {side} x {side} pixels; at most 50,000,000"):
            prepare(tmp_path, name)
        assert warnings.filters == filters
    assert caught == []
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_bombs_in_the_other_formats(tmp_path):
    jpeg = bytearray(WHOLE["JPEG"])
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff\x3f\0" * 2
    tiff = WHOLE["TIFF"].replace(struct.pack("<HHII", 256, 4, 1, 80), struct.pack("<HHII", 256, 4, 1, 2**20))
    tiff = tiff.replace(struct.pack("<HHII", 257, 4, 1, 60), struct.pack("<HHII", 257, 4, 1, 2**20))
    tiff = tiff.replace(struct.pack("<HHIHH", 256, 3, 1, 80, 0), struct.pack("<HHIHH", 256, 3, 1, 60_000, 0))
    tiff = tiff.replace(struct.pack("<HHIHH", 257, 3, 1, 60, 0), struct.pack("<HHIHH", 257, 3, 1, 60_000, 0))
    for name, data in {"j": bytes(jpeg), "w": webp, "t": tiff}.items():
        with pytest.raises(InputError, match="50,000,000"):
            prepare(tmp_path, save(tmp_path, name, data))


def test_caps_are_settings(tmp_path):
    name = save(tmp_path, "x.png", encoded(picture(10, 10), "PNG"))
    size = (tmp_path / name).stat().st_size
    prepare(tmp_path, name, max_pixels=100, max_bytes=size)
    with pytest.raises(InputError, match="has 10 x 10 pixels; at most 99"):  # also when it was read before
        prepare(tmp_path, name, max_pixels=99)
    with pytest.raises(InputError, match=f"more than {size - 1} bytes"):
        prepare(tmp_path, name, max_bytes=size - 1)


# Pixels


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "LZW"])
def test_all_eight_orientations_give_the_same_pixels(tmp_path, form):
    upright = picture(40, 24)
    # What a camera held in this way stores, so that the stated turn brings it upright.
    store = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    assert [Image.Transpose(v).name for v in (0, 3, 1, 5, 2, 6, 4)] == [
        "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270",
    ]  # fmt: skip
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True},
               "LZW": {"compression": "tiff_lzw"}}.get(form, {})  # fmt: skip
    hashes = set()
    for orientation, turn in store.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored = upright if turn is None else upright.transpose(turn)
        data = encoded(stored, "TIFF" if form == "LZW" else form, exif=exif, **options)
        made = prepare(tmp_path, save(tmp_path, f"{orientation}", data))
        assert (made.width, made.height) == made.pixels.size == (40, 24)
        off = np.abs(np.asarray(made.pixels).astype(int) - np.asarray(upright))
        assert off.max() <= (4 if form == "JPEG" else 0)
        assert (f"EXIF orientation {orientation} applied" in made.notes) == (orientation > 1)
        hashes.add(made.pixel_sha256)
    assert form == "JPEG" or len(hashes) == 1


def test_orientation_in_xmp_counts_and_an_impossible_one_does_not(tmp_path):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    made = prepare(tmp_path, save(tmp_path, "x", encoded(picture(40, 24), "JPEG", xmp=xmp)))
    assert made.pixels.size == (24, 40)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 77
    assert prepare(tmp_path, save(tmp_path, "y", encoded(picture(40, 24), "JPEG", exif=exif))).pixels.size == (40, 24)


PLANTED = b"PLANTED-PHI"


def with_metadata(form):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "PLANTED-PHI artist"
    exif[ExifTags.Base.ImageDescription] = "PLANTED-PHI name"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 12.0, 1.0), 29: "PLANTED-PHI"})
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.BodySerialNumber: "PLANTED-PHI serial"})
    options = {"exif": exif}
    if form == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", "PLANTED-PHI text", zip=False)
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", "PLANTED-PHI xmp")
    if form in ("JPEG", "WEBP"):
        options["xmp"] = b"<x>PLANTED-PHI</x>"
    if form == "JPEG":
        options["comment"] = PLANTED
        options["dpi"] = (300, 300)
    return encoded(picture(), form, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
                   **options)  # fmt: skip


def png_chunks(data):
    names, at = [], 8
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return names


def jpeg_segments(data):
    names, at = [], 2
    while data[at + 1] != 0xDA:
        names.append(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return names


@pytest.mark.parametrize("form", FORMATS)
def test_no_metadata_leaves(tmp_path, form):
    data = with_metadata(form)
    assert PLANTED in data
    made = prepare(tmp_path, save(tmp_path, "x", data))
    assert made.pixels.info == {}
    assert dict(made.pixels.getexif()) == {}
    dropped = next(note for note in made.notes if note.startswith("metadata dropped: "))
    assert (
        dropped.split(": ")[1].split(", ")
        == {
            "JPEG": ["EXIF", "XMP", "comment", "GPS position"],
            "PNG": ["EXIF", "XMP", "GPS position"],
            "WEBP": ["EXIF", "XMP", "GPS position"],
            "TIFF": ["EXIF"],  # Pillow writes no position into TIFF
        }[form]
    )
    assert "PLANTED" not in repr(made)
    dirty = Image.open(io.BytesIO(data))  # the encoders clean what somebody else hands them, too
    for image in (made.pixels, dirty):
        png, jpeg = encode_png(image), encode_jpeg(image)
        assert set(png_chunks(png)) == {"IHDR", "IDAT", "IEND"}
        assert set(jpeg_segments(jpeg)) <= {0xE0, 0xDB, 0xC0, 0xC4}  # JFIF head, tables, frame
        for sent in (png, jpeg):
            assert PLANTED not in sent
            assert b"Exif" not in sent
            assert not Image.open(io.BytesIO(sent)).getexif()
            assert "icc_profile" not in Image.open(io.BytesIO(sent)).info


def test_encoders_keep_the_pixels():
    image = picture()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image)))), np.asarray(image))
    off = [np.abs(np.asarray(Image.open(io.BytesIO(encode_jpeg(image, q)))).astype(int) - np.asarray(image)).mean()
           for q in (95, 50)]  # fmt: skip
    assert off[0] < 1.5 < off[1] < 10


def test_alpha_is_shown_on_white_and_hidden_pixels_stay_hidden(tmp_path):
    red, half, hidden = (200, 10, 10, 255), (200, 0, 0, 128), (0, 0, 0, 0)
    image = Image.new("RGBA", (3, 1))
    image.putdata([red, half, hidden])
    made = prepare(tmp_path, save(tmp_path, "x", encoded(image, "PNG")))
    found = np.asarray(made.pixels)[0].tolist()
    assert found[0] == [200, 10, 10]
    assert np.abs(np.array(found[1]) - [227, 127, 127]).max() <= 1  # 200 a + 255 (1 - a), a = 128 / 255
    assert found[2] == [255, 255, 255]
    assert "transparent parts shown on white" in made.notes
    grey = Image.new("LA", (2, 1))
    grey.putdata([(77, 255), (0, 0)])
    made = prepare(tmp_path, save(tmp_path, "y", encoded(grey, "PNG")))
    assert np.asarray(made.pixels)[0].tolist() == [[77] * 3, [255] * 3]
    opaque = prepare(tmp_path, save(tmp_path, "z", encoded(picture().convert("RGBA"), "PNG")))
    assert opaque.notes == ()


def test_palettes_with_and_without_a_hidden_colour(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([9, 8, 7, 250, 100, 50, 0, 0, 255])
    image.putdata([0, 1, 2])
    plain = [[9, 8, 7], [250, 100, 50], [0, 0, 255]]
    assert pixels(tmp_path, save(tmp_path, "x", encoded(image, "PNG")))[0].tolist() == plain
    made = pixels(tmp_path, save(tmp_path, "y", encoded(image, "PNG", transparency=0)))
    assert made[0].tolist() == [[255] * 3, *plain[1:]]


def test_a_hidden_colour_without_palette(tmp_path):
    image = Image.new("RGB", (2, 1))
    image.putdata([(1, 2, 3), (4, 5, 6)])
    made = pixels(tmp_path, save(tmp_path, "x", encoded(image, "PNG", transparency=(1, 2, 3))))
    assert made[0].tolist() == [[255] * 3, [4, 5, 6]]
    grey = Image.new("L", (2, 1))
    grey.putdata([0, 9])
    made = pixels(tmp_path, save(tmp_path, "y", encoded(grey, "PNG", transparency=0)))
    assert made[0].tolist() == [[255] * 3, [9] * 3]


VALUES_16 = np.array([[0, 256, 257, 32768, 65535]], dtype=np.uint16)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(tmp_path, form):
    made = prepare(tmp_path, save(tmp_path, "x", encoded(Image.fromarray(VALUES_16), form)))
    # v * 255 / 65535 = v / 257
    assert np.asarray(made.pixels)[0].tolist() == [[0] * 3, [1] * 3, [1] * 3, [128] * 3, [255] * 3]
    assert made.notes == ("16 bits of grey scaled to 8",)


def test_16_bits_with_a_hidden_value(tmp_path):
    data = encoded(Image.fromarray(VALUES_16), "PNG")
    head = data.index(b"IDAT") - 4
    data = data[:head] + chunk(b"tRNS", struct.pack(">H", 32768)) + data[head:]
    assert pixels(tmp_path, save(tmp_path, "x", data))[0, :, 0].tolist() == [0, 1, 1, 255, 255]


def tiff(tags, body):
    """A little-endian TIFF of one strip from (tag, type, count, value) entries."""
    entries = sorted([*tags, (273, 4, 1, 8 + 2 + 12 * (len(tags) + 2) + 4), (279, 4, 1, len(body))])
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4) + body


@pytest.mark.parametrize(
    ("bits", "photometric", "body", "expected"),
    [
        (16, 1, struct.pack("<3H", 0, 256, 65535), [0, 1, 255]),
        (16, 0, struct.pack("<3H", 0, 256, 65535), [255, 254, 0]),  # 0 is white
        (12, 1, bytes([0x00, 0x08, 0x00, 0xFF, 0xF0]), [0, 128, 255]),  # 0, 2048, 4095 of 4095
        (8, 1, bytes([0, 7, 255]), [0, 7, 255]),
        (8, 0, bytes([0, 7, 255]), [255, 248, 0]),
    ],
)  # fmt: skip
def test_bit_depth_and_meaning_of_zero_in_tiff(tmp_path, bits, photometric, body, expected):
    data = tiff([(256, 4, 1, 3), (257, 4, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric),
                 (277, 3, 1, 1), (278, 4, 1, 1)], body)  # fmt: skip
    assert pixels(tmp_path, save(tmp_path, "x", data))[0, :, 0].tolist() == expected


def test_16_bits_of_colour_keep_their_high_byte(tmp_path):
    rows = b"\0" + struct.pack(">6H", 0x1234, 0xFFFF, 0, 0x0100, 0x8000, 0x00FF)
    data = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))  # fmt: skip
    made = prepare(tmp_path, save(tmp_path, "x", data))
    assert np.asarray(made.pixels)[0].tolist() == [[0x12, 255, 0], [1, 128, 0]]
    assert made.notes == ("16 bits per channel reduced to 8",)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_declared_white_are_refused(tmp_path, mode):
    name = save(tmp_path, "x.tif", encoded(Image.new(mode, (2, 2), 300), "TIFF"))
    with pytest.raises(InputError, match="32 bits have no declared white"):
        prepare(tmp_path, name)


def test_one_bit_and_grey(tmp_path):
    image = Image.new("1", (2, 1))
    image.putdata([0, 1])
    assert pixels(tmp_path, save(tmp_path, "x", encoded(image, "PNG")))[0].tolist() == [[0] * 3, [255] * 3]
    assert (pixels(tmp_path, save(tmp_path, "y", encoded(Image.new("L", (2, 2), 99), "JPEG"))) == 99).all()


# Colour. Reference values by the published formulas, not by Pillow.


def srgb_of_lab(lab):
    """CIE 15 Lab (D50) to XYZ, Bradford-adapted matrix of IEC 61966-2-1 as in the ICC profile, sRGB curve; 0-255."""
    light, a, b = lab
    y = (light + 16) / 116
    cube = [t**3 if t > 6 / 29 else 3 * (6 / 29) ** 2 * (t - 4 / 29) for t in (y + a / 500, y, y - b / 200)]
    xyz = np.array(cube) * [0.9642, 1.0, 0.8249]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def icc(kind, space, pcs, tags):
    """An ICC profile of version 2.1 from its tags."""
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, kind, space, pcs) + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)  # D50
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def text(words):
    return b"desc" + bytes(4) + struct.pack(">I", len(words) + 1) + words + b"\0" + bytes(78)


# A printer whose colours are wide of the naive formula: grey-blue cyan, pale magenta, brownish yellow and black.
INKS = {(0, 0, 0, 0): (100, 0, 0), (1, 0, 0, 0): (60, -20, -30), (0, 1, 0, 0): (70, 40, 5), (0, 0, 1, 0): (80, 5, 60),
        (0, 0, 0, 1): (20, 3, 4)}  # fmt: skip


def ink_table(inks):
    corners = b""
    for i in range(16):
        light, a, b = inks.get(tuple(i >> shift & 1 for shift in (3, 2, 1, 0)), (15, 0, 0))
        corners += bytes([round(light * 2.55), a + 128, b + 128])
    ramp = bytes(range(256))
    identity = b"".join(struct.pack(">i", 0x10000 if i % 4 == 0 else 0) for i in range(9))
    return b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + corners + ramp * 3


def cmyk_profile():
    # Paper darker than the ideal white, and another table for the "perceptual" rendering: neither shall count.
    paper = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 0.8 * 65536) for v in (0.9642, 1.0, 0.8249)))
    other = ink_table({(0, 0, 0, 0): (100, 0, 0)})
    tags = {b"desc": text(b"test inks"), b"wtpt": paper, b"A2B0": other, b"A2B1": ink_table(INKS)}
    return icc(b"prtr", b"CMYK", b"Lab ", tags)


@pytest.mark.parametrize("ink", INKS)
def test_cmyk_goes_through_its_profile(tmp_path, ink):
    image = Image.new("CMYK", (8, 8), tuple(255 * part for part in ink))
    made = prepare(tmp_path, save(tmp_path, "x", encoded(image, "TIFF", icc_profile=cmyk_profile())))
    assert made.notes == ("CMYK to sRGB by its ICC profile",)
    found = np.asarray(made.pixels)[0, 0]
    assert np.abs(found - srgb_of_lab(INKS[ink])).max() < 1.5
    plain = np.array([255 * (1 - ink[i]) * (1 - ink[3]) for i in range(3)])
    if sum(ink):
        assert np.abs(found - plain).max() > 40


def test_cmyk_without_profile_or_with_a_broken_one(tmp_path):
    image = Image.new("CMYK", (2, 1))
    image.putdata([(0, 128, 255, 0), (0, 0, 0, 255)])
    for name, data, told in [
        ("a", encoded(image, "TIFF"), ()),
        ("b", encoded(image, "TIFF", icc_profile=b"broken" * 40), ("ICC profile ignored: it cannot be used",)),
    ]:
        made = prepare(tmp_path, save(tmp_path, name, data))
        assert np.asarray(made.pixels)[0].tolist() == [[255, 127, 0], [0, 0, 0]]
        assert made.notes == (*told, "CMYK to RGB without a profile")
    jpeg = prepare(tmp_path, save(tmp_path, "c", encoded(Image.new("CMYK", (8, 8), (0, 128, 255, 0)), "JPEG")))
    assert np.abs(np.asarray(jpeg.pixels).astype(int) - [255, 127, 0]).max() <= 2


def rgb_profile(name, curve, columns):
    tags = {b"desc": text(name), b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)}
    for letter, column in zip(b"rgb", columns, strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in column))
        tags[bytes([letter]) + b"TRC"] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256))
    return icc(b"mntr", b"RGB ", b"XYZ ", tags)


SRGB_D50 = [(0.4360747, 0.2225045, 0.0139322), (0.3850649, 0.7168786, 0.0971045), (0.1430804, 0.0606169, 0.7141733)]
ADOBE_D50 = [(0.6097559, 0.3111242, 0.0194811), (0.2052401, 0.6256560, 0.0608902), (0.1492240, 0.0632197, 0.7448387)]


def test_wide_colours_become_srgb(tmp_path):
    # Adobe RGB (1998), gamma 563/256: the same skin colour has other numbers than in sRGB.
    skin = np.array([180, 140, 120])
    xyz = np.array(ADOBE_D50).T @ (skin / 255) ** (563 / 256)
    linear = np.linalg.inv(np.array(SRGB_D50).T) @ xyz
    expected = (1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(expected - skin).max() > 8
    profile = rgb_profile(b"Adobe RGB (1998)", 563 / 256, ADOBE_D50)
    made = prepare(tmp_path, save(tmp_path, "x", encoded(Image.new("RGB", (4, 4), tuple(skin)), "PNG",
                                                         icc_profile=profile)))  # fmt: skip
    assert np.abs(np.asarray(made.pixels)[0, 0] - expected).max() <= 1.5
    assert made.notes == ("RGB to sRGB by its ICC profile",)


def test_srgb_is_left_as_it_is_and_foreign_profiles_are_ignored(tmp_path):
    image = picture()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = prepare(tmp_path, save(tmp_path, "a", encoded(image, "PNG", icc_profile=srgb)))
    plain = prepare(tmp_path, save(tmp_path, "b", encoded(image, "PNG")))
    assert tagged.pixel_sha256 == plain.pixel_sha256
    assert tagged.notes == plain.notes == ()
    linear = rgb_profile(b"sRGB-elle-V2-g10.icc", 1.0, SRGB_D50)
    made = prepare(tmp_path, save(tmp_path, "c", encoded(Image.new("RGB", (2, 2), (55, 55, 55)), "PNG",
                                                         icc_profile=linear)))  # fmt: skip
    assert np.abs(np.asarray(made.pixels) - 128.0).max() <= 1.5  # sRGB curve of 55 / 255
    made = prepare(tmp_path, save(tmp_path, "d", encoded(image, "TIFF", icc_profile=cmyk_profile())))
    assert made.notes == ("ICC profile ignored: it is for CMYK, the pixels are RGB",)
    assert made.pixel_sha256 == plain.pixel_sha256


def test_lab_pixels(tmp_path):
    lab = (60, 20, 30)
    image = Image.frombytes("LAB", (2, 2), bytes([round(lab[0] * 2.55), *lab[1:]]) * 4)  # a and b as in files: signed
    made = prepare(tmp_path, save(tmp_path, "x", encoded(image, "TIFF")))
    assert np.abs(np.asarray(made.pixels)[0, 0] - srgb_of_lab(lab)).max() < 3
    assert made.notes == ("LAB to sRGB by its definition",)


# Hashes, scaling, cache


def test_hashes_say_what_they_hash(tmp_path):
    data = encoded(picture(), "PNG")
    made = prepare(tmp_path, save(tmp_path, "x", data))
    assert made.sha256 == hashlib.sha256(data).hexdigest()
    same = prepare(tmp_path, save(tmp_path, "y", encoded(picture(), "PNG", compress_level=1)))
    assert same.sha256 != made.sha256
    assert same.pixel_sha256 == made.pixel_sha256
    flat = [prepare(tmp_path, save(tmp_path, f"{w}", encoded(Image.new("RGB", (w, 12 // w)), "PNG"))) for w in (2, 3)]
    assert flat[0].pixel_sha256 != flat[1].pixel_sha256  # the same bytes in another shape


def test_scaling_goes_down_only_and_keeps_the_shape(tmp_path):
    name = save(tmp_path, "x", encoded(picture(400, 100), "PNG"))
    made = prepare(tmp_path, name, max_side=100)
    assert made.pixels.size == (100, 25)
    assert (made.width, made.height) == (400, 100)
    assert made.notes == ("scaled from 400x100 to 100x25",)
    assert made.pixel_sha256 == prepare(tmp_path, name).pixel_sha256
    assert prepare(tmp_path, name, max_side=400).pixels.size == (400, 100)
    assert prepare(tmp_path, save(tmp_path, "y", encoded(picture(400, 1), "PNG")), max_side=10).pixels.size == (10, 1)


def test_a_picture_is_prepared_once_per_content_and_setting(tmp_path, monkeypatch):
    calls = []
    real = images._decode
    monkeypatch.setattr(images, "_decode", lambda *a: calls.append(a[2]) or real(*a))
    one, two = (save(tmp_path, name, encoded(picture(), "PNG")) for name in "ab")
    assert prepare(tmp_path, one) is prepare(tmp_path, two) is prepare(tmp_path, one)
    prepare(tmp_path, one, max_side=9)
    assert calls == [None, 9]
    save(tmp_path, "a", encoded(picture(seed=5), "PNG"))  # another picture under the same name
    assert prepare(tmp_path, one) is not prepare(tmp_path, two)


def test_the_cache_keeps_within_its_memory(tmp_path, monkeypatch):
    cache = images._Cache(10_000)
    monkeypatch.setattr(images, "_cache", cache)
    names = [save(tmp_path, str(i), encoded(picture(40, 30, seed=i), "PNG")) for i in range(6)]  # 3600 bytes each
    first = prepare(tmp_path, names[0])
    prepare(tmp_path, names[1])
    assert prepare(tmp_path, names[0]) is first
    prepare(tmp_path, names[2])  # the second goes, as it was used longest ago
    assert len(cache.kept) == 2
    assert prepare(tmp_path, names[0]) is first
    for name in names:
        prepare(tmp_path, name)
        assert cache.size == sum(3 * p.pixels.width * p.pixels.height for p in cache.kept.values()) <= 10_000
    big = save(tmp_path, "big", encoded(picture(100, 100), "PNG"))
    assert prepare(tmp_path, big).pixels.size == (100, 100)  # too big to keep, given all the same
    assert cache.size == 0


def test_many_threads_share_the_cache(tmp_path, monkeypatch):
    cache = images._Cache(10_000)
    monkeypatch.setattr(images, "_cache", cache)
    names = [save(tmp_path, str(i), encoded(picture(40, 30, seed=i), "PNG")) for i in range(6)]
    expected = {name: prepare(tmp_path, name).pixel_sha256 for name in names}
    wrong = []

    def work(seed):
        rng = random.Random(seed)
        for _ in range(60):
            name = rng.choice(names)
            if prepare(tmp_path, name).pixel_sha256 != expected[name]:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.size == sum(3 * p.pixels.width * p.pixels.height for p in cache.kept.values()) <= 10_000


def test_perceptual_hash_golden():
    # A quarter-wave cosine across: only the lowest frequency beside the mean, so bits are known by hand.
    ramp = 128 + 100 * np.cos(np.pi * (np.arange(32) + 0.5) / 32)
    across = Image.fromarray(np.tile(ramp, (32, 1)).round().astype(np.uint8))
    bits = perceptual_hash(across)
    assert bits >> 62 == 0b11  # mean and first cosine stand out
    assert bits % 2**56 == 0  # nothing changes downwards, and rounding errors do not count
    for grey in range(1, 256):
        assert perceptual_hash(Image.new("RGB", (50, 40), (grey, grey, grey))) == 1 << 63  # blank: the mean alone


def test_perceptual_hash_is_that_of_imagehash():
    imagehash = pytest.importorskip("imagehash")
    for seed in range(10):
        image = picture(200, 150, seed=seed)
        assert perceptual_hash(image) == int(str(imagehash.phash(image)), 16)


def test_perceptual_hash_finds_the_same_picture_and_tells_others_apart():
    hashes = [perceptual_hash(picture(200, 150, seed=i)) for i in range(20)]
    for i in range(20):
        image = picture(200, 150, seed=i)
        copy = Image.open(io.BytesIO(encode_jpeg(image.resize((120, 90)), 60)))
        assert hamming(perceptual_hash(copy), hashes[i]) <= 8
    apart = [hamming(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 12
    assert hamming(0, 2**64 - 1) == 64
