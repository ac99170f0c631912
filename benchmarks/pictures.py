"""A picture on its way into a benchmark folder: checked whole, and rid of everything that is not a pixel.

EXIF, GPS, serial numbers, thumbnails and comments can name a patient. JPEG and PNG files are copied block by block
without them, so no pixel changes and a file that has none stays byte for byte as published. What a judge would see
otherwise than it is stored (turned, CMYK, 16 bits, another colour profile), WebP and TIFF are saved as PNG.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

from ..judge.errors import InputError
from ..judge.images import MAX_PIXELS, Stored, encode_png, reduced, stored

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BLOCKS = frozenset([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"])
_CHECKED_AT = 128  # pixels on the longer side
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the next marker behind entropy-coded data


class Clean(NamedTuple):
    """`data`: the file's bytes without metadata; `suffix`: ".jpg" or ".png"; `how`: "kept", "stripped" or "recoded"."""

    data: bytes
    suffix: str
    how: str


def clean(root: Path, path: str) -> Clean:
    """Check a picture below `root` and take its metadata off; InputError if it is refused (`judge.images.stored`)."""
    return cleaned(stored(root, path))


def cleaned(file: Stored) -> Clean:
    """`clean` for a file that is read already.

    Decoded to its end, a JPEG at up to an eighth of its size: that reads every bit of it, and takes a third of the
    time. Nothing is kept, so a pass over a large data set needs no more memory than the pictures in hand.
    """
    notes = reduced(file, _CHECKED_AT).notes
    as_stored = all(note.startswith(("metadata dropped", "decoded at", "scaled from")) for note in notes)
    plain = without_metadata(file.data) if as_stored else None
    if plain is None:
        return Clean(encode_png(reduced(file, MAX_PIXELS).pixels), ".png", "recoded")
    return Clean(plain, ".png" if plain.startswith(_PNG) else ".jpg", "kept" if plain == file.data else "stripped")


def without_metadata(data: bytes) -> bytes | None:
    """The file with only the blocks that its pixels need, by an allow-list; None if it is no plain JPEG or PNG."""
    try:
        if data.startswith(_PNG):
            return _plain_png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _plain_jpeg(data)
    except (struct.error, IndexError) as error:
        raise InputError(f"the file is cut or damaged: {error}") from error
    return None


def _plain_png(data: bytes) -> bytes:
    kept, at = [_PNG], len(_PNG)
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in _PNG_BLOCKS:
            kept.append(data[at:end])
        if kind == b"IEND":  # whatever is hung on behind stays away
            return b"".join(kept)
        at = end


def _plain_jpeg(data: bytes) -> bytes | None:
    kept, at = [b"\xff\xd8"], 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF:
            return None
        if marker == 0xD9:
            kept.append(b"\xff\xd9")
            return b"".join(kept)
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if _needed(marker, data[at + 4 : end]):
            kept.append(data[at:end])
        at = end
        if marker == 0xDA:
            found = _MARKER.search(data, at)
            if found is None:
                return None
            kept.append(data[at : found.start()])
            at = found.start()


def _needed(marker: int, content: bytes) -> bool:
    if marker == 0xE0:  # JFIF without a thumbnail
        return content.startswith(b"JFIF\0") and len(content) == 14
    if marker == 0xEE:  # says how the colours are coded
        return content.startswith(b"Adobe") and len(content) == 12
    return 0xC0 <= marker <= 0xCF or 0xDA <= marker <= 0xDF  # frames, tables, scans
