"""A sheet of picture pairs side by side, for a person to judge what the audit calls duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from ..judge.errors import InputError
from ..judge.escape import visible
from ..judge.files import write_atomic
from ..judge.images import encode_jpeg, encode_png, reduced, stored

SIDE = 224  # pixels of a picture on the sheet
_GAP, _LINE = 8, 14
_PAPER, _INK, _GREY = (255, 255, 255), (20, 20, 20), (200, 200, 200)


class SheetPair(NamedTuple):
    """Two pictures (root folder, path below it), a caption under each, and a headline over both."""

    one: tuple[Path, str]
    other: tuple[Path, str]
    captions: tuple[str, str]
    headline: str


def contact_sheet(pairs: Sequence[SheetPair], columns: int = 2) -> Image.Image:
    """The pairs in rows of `columns`, each picture at most SIDE pixels a side, as an RGB picture without metadata.

    Pictures are read one at a time; one that cannot be read is a grey field with the reason. Captions are cut at the
    width of the pictures, foreign text is made visible, and what the font cannot draw stands as "?". InputError if
    there is no pair.
    """
    if not pairs:
        raise InputError("a sheet needs at least one pair of pictures")
    columns = max(1, min(columns, len(pairs)))
    width, height = 2 * SIDE + _GAP, SIDE + 2 * _LINE
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * (width + 2 * _GAP), rows * (height + 2 * _GAP)), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, pair in enumerate(pairs):
        left = number % columns * (width + 2 * _GAP) + _GAP
        top = number // columns * (height + 2 * _GAP) + _GAP
        pen.text((left, top), _fit(pair.headline, width, font), _INK, font)
        for side, (place, caption) in enumerate(zip((pair.one, pair.other), pair.captions, strict=True)):
            x = left + side * (SIDE + _GAP)
            sheet.paste(_thumbnail(place, font), (x, top + _LINE))
            pen.text((x, top + _LINE + SIDE), _fit(caption, SIDE, font), _INK, font)
    return sheet


def write_sheet(path: str | Path, pairs: Sequence[SheetPair], columns: int = 2) -> None:
    """Write the sheet as .png or .jpg, without metadata, whole or not at all, for the owner's eyes only (mode 600).

    It shows patients: keep it where the pictures may be kept. InputError for another ending.
    """
    path = Path(path)
    encode = {".png": encode_png, ".jpg": encode_jpeg, ".jpeg": encode_jpeg}.get(path.suffix.lower())
    if encode is None:
        raise InputError(f"{path}: a sheet ends in .png or .jpg")
    write_atomic(path, encode(contact_sheet(pairs, columns)), private=True)


def _thumbnail(place: tuple[Path, str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    field = Image.new("RGB", (SIDE, SIDE), _PAPER)
    try:
        picture = reduced(stored(*place), SIDE).pixels
    except InputError as error:
        field.paste(_GREY, (0, 0, SIDE, SIDE))
        ImageDraw.Draw(field).text((4, 4), _fit(str(error), SIDE - 8, font), _INK, font)
        return field
    field.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return field


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text cut in the middle so that it fits; only characters that the built-in font has."""
    text = visible(text).encode("ascii", "replace").decode()
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 2 and font.getlength(_cut(text, keep)) > width:
        keep -= max(1, keep // 20)
    return _cut(text, keep)


def _cut(text: str, keep: int) -> str:
    return f"{text[: keep - keep // 2]}...{text[len(text) - keep // 2 :]}"
