"""Image intake: from an untrusted path under a root to plain upright sRGB pixels that carry no metadata.

Refused rather than repaired: paths that leave the root, symbolic links, formats that are not JPEG, PNG, WebP or TIFF
by content, more than one picture in a file, anything that does not decode to its end.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from .errors import InputError
from .pixels import to_srgb

MAX_PIXELS = 50_000_000
MAX_BYTES = 50_000_000
CACHE_BYTES = 256_000_000  # of pixels

# The plug-ins are called by name: Image.open would try others, and would warn about large pictures through a
# process-wide filter where we refuse them.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (8, b"WEBP", "WEBP"),
    (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"), (4, b"ftypavis", "AVIF"), (4, b"ftyphei", "HEIC"), (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"), (4, b"ftypmsf1", "HEIC"), (128, b"DICM", "DICOM"),
    (0, b"GIF8", "GIF"), (0, b"BM", "BMP"), (0, b"8BPS", "PSD"), (0, b"%!PS", "EPS"), (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"), (0, b"\0\0\1\0", "ICO"), (0, b"icns", "ICNS"), (0, b"SIMPLE  =", "FITS"),
    (0, b"\xff\x0a", "JPEG XL"), (4, b"JXL ", "JPEG XL"), (4, b"jP  ", "JPEG 2000"), (0, b"PK\3\4", "ZIP"),
    (0, b"\x1f\x8b", "gzip"), (0, b"<svg", "SVG"), (0, b"<", "HTML or XML"), (4, b"ftyp", "video"),
)  # fmt: skip
_ON_ITS_SIDE = [f"EXIF orientation {n} applied" for n in (5, 6, 7, 8)]
_PNG_END = b"IEND\xaeB`\x82"
_HINTS = {
    "HEIC": "export it as JPEG first (on an iPhone: Settings, Camera, Formats, Most Compatible)",
    "AVIF": "save it as PNG or JPEG first",
    "DICOM": "de-identify it and export the picture as PNG first; check the pixels for burned-in names",
}


@dataclass(frozen=True)
class Prepared:
    """One picture ready for a judge.

    `pixels`: RGB, 8 bits, upright, sRGB, without metadata; shared between callers, so copy it before changing it.
    `sha256`: of the file's bytes. `pixel_sha256`: of size and pixels before scaling, the same for two files that
    show the same pixels; empty where they were never decoded in full (`reduced`). `width`, `height`: upright, before
    scaling. `notes`: what was done to get there.
    """

    pixels: Image.Image
    sha256: str
    pixel_sha256: str
    width: int
    height: int
    notes: tuple[str, ...]


class Stored(NamedTuple):
    """A picture's file as read: its path as given, its bytes and their SHA-256 (hex); nothing is decoded yet."""

    path: str
    data: bytes
    sha256: str


class ImageProblem(NamedTuple):
    path: str
    reason: str


def prepare(root: str | Path, relative_path: str, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS,
            max_bytes: int = MAX_BYTES) -> Prepared:  # fmt: skip
    """Read one picture under `root`, check it whole, and bring it into the one form that judges see.

    `max_side` scales it down (never up) to that many pixels on the longer side. The result is kept for as long as
    memory for it lasts (CACHE_BYTES), by content and settings. InputError with path and reason for what is refused.
    """
    try:
        data = _read(root, relative_path, max_bytes)
        return _cache.get(data, max_side, max_pixels)
    except _Refused as error:
        raise InputError(f"image {relative_path!r}: {error}") from error


def stored(root: str | Path, relative_path: str, *, max_bytes: int = MAX_BYTES) -> Stored:
    """Read a picture's file under `root`, with the checks of `prepare` on its path; InputError for what is refused."""
    try:
        data = _read(root, relative_path, max_bytes)
    except _Refused as error:
        raise InputError(f"image {relative_path!r}: {error}") from error
    return Stored(relative_path, data, hashlib.sha256(data).hexdigest())


def reduced(file: Stored, max_side: int, *, max_pixels: int = MAX_PIXELS) -> Prepared:
    """`prepare` for a small copy, in about half the time: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is
    no smaller than the copy, then scaled.

    The pixels differ slightly from those of `prepare` (some 40 dB PSNR), and a note says so. Nothing is kept.
    """
    try:
        return _decode(file.data, file.sha256, max_side, max_pixels, True)
    except _Refused as error:
        raise InputError(f"image {file.path!r}: {error}") from error


def image_problems(root: str | Path, paths: Iterable[str], *, max_side: int | None = None,
                   max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> list[ImageProblem]:  # fmt: skip
    """Try to prepare every picture (each path once) and list those that `prepare` would refuse, with the reason."""
    problems = []
    for path in dict.fromkeys(paths):
        try:
            _cache.get(_read(root, path, max_bytes), max_side, max_pixels)
        except _Refused as error:
            problems.append(ImageProblem(path, str(error)))
    return problems


def encode_png(image: Image.Image) -> bytes:
    """The RGB pixels as PNG without any metadata."""
    return _encode(image, "PNG")


def encode_jpeg(image: Image.Image, quality: int = 92) -> bytes:
    """The RGB pixels as JPEG (full colour resolution) without any metadata; quality 1 to 95."""
    return _encode(image, "JPEG", quality=quality, subsampling=0)


def perceptual_hash(image: Image.Image) -> int:
    """64-bit DCT hash (pHash): near-equal pictures differ in few bits, see `hamming`.

    Sign against the median of the 8x8 lowest frequencies of the 32x32 grey picture (Zauner 2010; bits as in ImageHash).
    """
    from scipy.fft import dctn  # 20 MB that nothing else here needs

    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    low = dctn(grey)[:8, :8]
    return int("".join("1" if bit else "0" for bit in (low > np.median(low)).ravel()), 2)


def hamming(a: int, b: int) -> int:
    """Number of bits in which two perceptual hashes differ, 0 to 64."""
    return (a ^ b).bit_count()


class _Refused(Exception):
    """The reason alone, which the caller puts beside the path."""


class _Cache:
    """Prepared pictures by content and settings, the least recently used dropped when their pixels take too much."""

    def __init__(self, limit: int):
        self.limit = limit
        self.size = 0
        self.kept: OrderedDict[tuple[str, int | None], Prepared] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, data: bytes, max_side: int | None, max_pixels: int) -> Prepared:
        digest = hashlib.sha256(data).hexdigest()
        key = (digest, max_side)
        with self.lock:
            if (found := self.kept.get(key)) and found.width * found.height <= max_pixels:
                self.kept.move_to_end(key)
                return found
        made = _decode(data, digest, max_side, max_pixels)
        with self.lock:
            if key not in self.kept:
                self.size += _weight(made)
            self.kept[key] = made
            while self.size > self.limit:
                self.size -= _weight(self.kept.popitem(last=False)[1])
        return made


_cache = _Cache(CACHE_BYTES)


def _weight(prepared: Prepared) -> int:
    return 3 * prepared.pixels.width * prepared.pixels.height


def _read(root: str | Path, path: str, max_bytes: int) -> bytes:
    """The bytes of a plain file below the root; each step is opened without following links, so none can be swapped."""
    parts = _parts(path)
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _Refused(f"the image folder {root} cannot be opened: {error.strerror}") from error
    try:
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            try:
                if stat.S_ISLNK(os.lstat(part, dir_fd=handle).st_mode):  # only for the reason; O_NOFOLLOW is the guard
                    raise _Refused("symbolic links are refused; put the file itself there")
                flags = os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_NONBLOCK if last else os.O_DIRECTORY)
                inner = os.open(part, os.O_RDONLY | flags, dir_fd=handle)
            except OSError as error:
                raise _Refused(f"cannot be opened: {error.strerror}") from error
            os.close(handle)
            handle = inner
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _Refused("is a folder" if stat.S_ISDIR(status.st_mode) else "is a device or pipe, not a file")
        if status.st_size == 0:
            raise _Refused("is empty")
        with open(handle, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)
    if len(data) > max_bytes:
        raise _Refused(f"has more than {max_bytes:,} bytes; the limit is set by max_bytes")
    return data


def _parts(path: str) -> list[str]:
    if not path or "\0" in path:
        raise _Refused("is no path" if not path else "holds a NUL character")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise _Refused("holds half a character (a lone surrogate)") from error
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise _Refused("URLs and drive letters are refused; give a path relative to the image folder")
    if "\\" in path:
        raise _Refused("holds a backslash; separate folders by '/'")
    if path.startswith(("/", "~")):
        raise _Refused("must be relative to the image folder, without a leading '/' or '~'")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _Refused("'..' is refused; the path must stay below the image folder")
    if not parts or path.endswith("/"):
        raise _Refused("is a folder")
    return parts


def _decode(data: bytes, digest: str, max_side: int | None, max_pixels: int, draft: bool = False) -> Prepared:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES was switched on: cut pictures would pass as whole")
    name = next((name for at, mark, name in _SIGNATURES if data[at : at + len(mark)] == mark), "unknown")
    if name not in _READERS:
        hint = _HINTS.get(name, "allowed are JPEG, PNG, WebP and TIFF")
        raise _Refused(f"its content is {name}, which is not read; {hint}")
    try:
        with _READERS[name](io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise _Refused(
                    f"has {image.width} x {image.height} pixels; at most {max_pixels:,} are read (max_pixels)"
                )
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise _Refused(f"holds {frames} pictures (animated, multi-page or stereo); give each its own file")
            if name == "PNG":  # the check sums, which loading passes over, and the end
                PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()
                if _PNG_END not in data:
                    raise _Refused("is a cut PNG file")
            full = image.size
            small = draft and max_side is not None and max(full) > max_side and _draft(image, max_side)
            rgb, notes = to_srgb(image)
            if small:
                notes.append(f"decoded at {rgb.width}x{rgb.height}")
    except _Refused:
        raise
    except Image.DecompressionBombError as error:
        raise _Refused(f"has far more than the {max_pixels:,} pixels that are read (max_pixels)") from error
    except Exception as error:  # a decoder fed with rotten bytes may raise anything
        raise _Refused(f"is a cut or damaged {name} file ({type(error).__name__}: {error})") from error
    width, height = rgb.size
    if small:
        width, height = full[::-1] if any(note in _ON_ITS_SIDE for note in notes) else full
    pixel_sha256 = ""
    if not small:
        pixel_digest = hashlib.sha256(b"%dx%d RGB " % rgb.size)
        pixel_digest.update(rgb.tobytes())
        pixel_sha256 = pixel_digest.hexdigest()
    scaled = rgb
    if max_side is not None and max(width, height) > max_side:
        scale = max_side / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        scaled = rgb.resize(size, Image.Resampling.LANCZOS)
        notes.append(f"scaled from {width}x{height} to {size[0]}x{size[1]}")
    return Prepared(_plain(scaled), digest, pixel_sha256, width, height, tuple(notes))


def _draft(image: ImageFile.ImageFile, max_side: int) -> bool:
    """Let a JPEG decode at the smallest of its sizes that is no smaller than the copy; whether it will.

    Both sides are asked for in the picture's shape: Pillow halves only while both stay at or above the request.
    """
    full, scale = image.size, max_side / max(image.size)
    image.draft(None, (max(1, int(full[0] * scale)), max(1, int(full[1] * scale))))
    return image.size != full


def _encode(image: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    _plain(image.convert("RGB")).save(buffer, form, **options)
    return buffer.getvalue()


def _plain(rgb: Image.Image) -> Image.Image:
    """A new picture of the same pixels; on the old one hang profile, comment and EXIF, which Pillow would save."""
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())
