"""Pictures made worse by a stated dose: what a phone, bad light, a bad line or a bad frame do to them.

The dose is taken on the picture as it is sent (scaled to the longest side that a candidate gets), so that it means the
same for a photo of 12 megapixels and a thumbnail. A degraded picture is asked for by a path of its own,
"degraded:blur:2/images/a.png", which nothing that reads files accepts: it can never be sent undegraded by mistake.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from ..judge.calls import pictures
from ..judge.calls.chat import Picture
from ..judge.calls.pictures import PictureSettings
from ..judge.errors import InputError
from ..judge.images import reduced, stored

DOSES = (1, 2, 3, 4)
_MARK = "degraded:"


class Kind(NamedTuple):
    """A way to make a picture worse: what its doses 1 to 4 set, in words, and their values."""

    what: str
    values: tuple[float, float, float, float]
    apply: Callable[[Image.Image, float, bytes], Image.Image]


def degrade(picture: Image.Image, kind: str, dose: int, salt: bytes = b"") -> Image.Image:
    """An RGB picture degraded by a dose of 1 to 4 (see KINDS); a higher dose always leaves less of it.

    salt: for "crop" decides which corner is kept; the windows of all doses lie within each other. Every other kind
    keeps the size. InputError for an unknown kind or dose.
    """
    if kind not in KINDS or dose not in DOSES:
        raise InputError(f"no degradation '{kind}:{dose}'; there are {', '.join(KINDS)}, each with doses 1 to 4")
    return KINDS[kind].apply(picture.convert("RGB"), KINDS[kind].values[dose - 1], salt)


def degraded_path(path: str, kind: str, dose: int) -> str:
    """The path under which `sent` hands out the degraded picture.

    >>> degraded_path("images/a.png", "blur", 2)
    'degraded:blur:2/images/a.png'
    """
    return f"{_MARK}{kind}:{dose}/{path}"


def source_path(path: str) -> str:
    """The file that a path stands for, degraded or not.

    >>> source_path("degraded:blur:2/images/a.png"), source_path("images/a.png")
    ('images/a.png', 'images/a.png')
    """
    return path.partition("/")[2] if path.startswith(_MARK) else path


def sent(root: str | Path, path: str, settings: PictureSettings = PictureSettings()) -> Picture:  # noqa: B008 - immutable
    """`judge.calls.pictures.sent` for degraded paths too; InputError for what it refuses."""
    if not path.startswith(_MARK):
        return pictures.sent(root, path, settings)
    name, _, source = path.removeprefix(_MARK).partition("/")
    kind, _, dose = name.rpartition(":")
    file = stored(root, source)
    worse = degrade(reduced(file, settings.max_side).pixels, kind, int(dose) if dose.isdecimal() else 0,
                    bytes.fromhex(file.sha256))  # fmt: skip
    return pictures.encoded(worse, f"{file.sha256} {name} {settings.max_side}", settings)


def _blur(picture: Image.Image, share: float, salt: bytes) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(share * max(picture.size)))


def _dark(picture: Image.Image, stops: float, salt: bytes) -> Image.Image:
    """Less light: in linear light (the sRGB curve, IEC 61966-2-1), so that a stop is a stop."""
    coded = np.arange(256) / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4) / 2**stops
    back = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return picture.point(list(np.rint(255 * back).astype(int)) * 3)


def _low_resolution(picture: Image.Image, factor: float, salt: bytes) -> Image.Image:
    small = (max(1, round(picture.width / factor)), max(1, round(picture.height / factor)))
    return picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BILINEAR)


def _jpeg(picture: Image.Image, quality: float, salt: bytes) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(quality), subsampling=2)
    return Image.open(buffer, formats=("JPEG",)).convert("RGB")


def _crop(picture: Image.Image, share: float, salt: bytes) -> Image.Image:
    width, height = (max(1, round(share * side)) for side in picture.size)
    corner = hashlib.sha256(b"corner" + salt).digest()[0]
    left = picture.width - width if corner & 1 else 0
    top = picture.height - height if corner & 2 else 0
    return picture.crop((left, top, left + width, top + height))


KINDS: Mapping[str, Kind] = {
    "blur": Kind("Gaussian blur, sigma as share of the longer side", (0.005, 0.01, 0.02, 0.04), _blur),
    "dark": Kind("exposure lowered, in stops of linear light", (1, 2, 3, 4), _dark),
    "low_resolution": Kind("scaled down by a factor and back", (2, 4, 8, 16), _low_resolution),
    "jpeg": Kind("JPEG quality, colour at half resolution", (40, 20, 10, 5), _jpeg),
    "crop": Kind("share of each side that is left, at one corner", (0.85, 0.7, 0.55, 0.4), _crop),
}
