"""Pictures as they are sent: scaled, JPEG, without metadata; made once per content and settings.

Called from the threads that make requests, never from the event loop: a photo of 12 megapixels takes a tenth of a
second of CPU, the call itself a thousandth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError
from ..images import encode_jpeg, reduced, stored
from .chat import Picture
from .kept import Kept

KEPT_BYTES = 24_000_000  # some 60 photos; a case's pictures are asked for by all its candidates and judges in turn


@dataclass(frozen=True)
class PictureSettings:
    """Longest side in pixels (1568: the most that common providers look at) and JPEG quality, 1 to 95."""

    max_side: int = 1568
    quality: int = 85

    def __post_init__(self) -> None:
        if self.max_side < 1 or not 1 <= self.quality <= 95:
            raise InputError(f"pictures are sent with max_side from 1 and quality from 1 to 95, not {self}")

    @property
    def signature(self) -> Mapping[str, Any]:
        """All that decides the bytes that a model sees; the release of Pillow stands in the manifest."""
        return {
            "form": "jpeg",
            "max_side": self.max_side,
            "quality": self.quality,
            "decode": "draft",
            "scale": "lanczos",
        }


_kept: Kept[tuple[str, PictureSettings], Picture] = Kept(KEPT_BYTES, lambda picture: len(picture.data))


def sent(root: str | Path, path: str, settings: PictureSettings = PictureSettings()) -> Picture:
    """A picture's file under `root` as it is sent; InputError for what `judge.images.prepare` refuses."""
    file = stored(root, path)
    return _kept.get((file.sha256, settings), lambda: _encode(reduced(file, settings.max_side).pixels, settings))


def encoded(pixels: Image.Image, digest: str = "", settings: PictureSettings = PictureSettings()) -> Picture:
    """Pixels in memory (a probe's, say) as they are sent.

    `digest` tells them from all others (hash of the file and what was done to it); empty: taken from the pixels.
    """
    if not digest:
        digest = hashlib.sha256(b"%dx%d %b" % (*pixels.size, pixels.convert("RGB").tobytes())).hexdigest()
    return _kept.get((f"pixels {digest}", settings), lambda: _encode(pixels, settings))


def _encode(pixels: Image.Image, settings: PictureSettings) -> Picture:
    longest = max(pixels.size)
    if longest > settings.max_side:
        width, height = (max(1, round(side * settings.max_side / longest)) for side in pixels.size)
        pixels = pixels.resize((width, height), Image.Resampling.LANCZOS)
    data = encode_jpeg(pixels, settings.quality)
    return Picture(data, "image/jpeg", hashlib.sha256(data).hexdigest())
