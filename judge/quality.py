"""Image quality without a reference: sharpness, exposure, contrast, noise, resolution, framing, and a tag from them.

Measured on a copy with at most WORK pixels on the longer side, so sharpness is that of a picture as models see it;
noise is measured on tiles of the picture as it is. The tag is a rule of thumb from `quality.yaml`, no clinical verdict.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import InputError

Tag = Literal["good", "doubtful", "poor"]
TAGS: tuple[Tag, ...] = ("good", "doubtful", "poor")
WORK = 512  # pixels on the longer side of the copy on which all but noise and resolution are measured
_FRAME = 64  # pixels, the same for framing
_TILE = 128  # pixels, side of the tiles for noise; up to 4 x 4 of them
_BLACK, _BURNT = 20, 250  # grey levels: darker is the rim of a dermoscope, as bright is burnt out
_NO_SKIN = 0.05  # share of the picture


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured on one picture; None where a measure does not exist, `missing` says why.

    sharpness: variance of the 4-neighbour Laplacian over the variance of grey (Pech-Pacheco et al. 2000, made free of
    contrast), less the 20 s^2 that noise of standard deviation s gives; no unit, about 0 to 2, 0 or less where all
    fine detail is noise. exposure: mean grey of the sRGB values, 0 (black) to 1; darker skin lies lower by nature.
    clipped: share of pixels with grey of 250 or more of 255, burnt out, 0 to 1; black ones are left to exposure, since
    lesions and the rim of a dermoscope are black. contrast: standard deviation of grey, 0 to 0.5 (Peli 1990). noise:
    standard deviation in grey levels of 255 (Immerkaer 1996), median over tiles; fine texture counts as noise.
    resolution: shorter side in pixels, as stored. skin: share of pixels that are redder than green and not violet, 0 to
    1: holds for all skin types, and for wood. framing: share of the picture taken by what stands out from its margin
    (Otsu 1979 on the distance to the margin's median colour), 0 to 1. cut: share of the outline of the picture that
    this region covers, 0 to 1.
    """

    sharpness: float | None
    exposure: float
    clipped: float
    contrast: float
    noise: float | None
    resolution: int
    skin: float
    framing: float | None
    cut: float | None
    missing: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, and `missing`."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"missing": dict(self.missing)}


MEASURES = tuple(field.name for field in fields(Quality) if field.name != "missing")


def picture_quality(image: Image.Image) -> Quality:
    """Measure a decoded picture (any size and mode); the same pixels give the same values.

    >>> flat = picture_quality(Image.new("RGB", (40, 30), (200, 150, 120)))
    >>> flat.contrast, flat.sharpness, flat.missing["sharpness"]
    (0.0, None, 'the picture is one even colour')
    """
    image = image if image.mode == "RGB" else image.convert("RGB")
    missing: dict[str, str] = {}
    work = _smaller(image, WORK)
    grey = np.asarray(work.convert("L"), dtype=np.float32)
    variance = float(grey.var(dtype=np.float64))
    even = "the picture is one even colour"
    sharpness = None
    if min(grey.shape) < 3:
        missing["sharpness"] = missing["noise"] = "a side of the picture has fewer than 3 pixels"
    elif variance == 0:
        missing["sharpness"] = even
    else:
        laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
        detail = float(laplacian.var(dtype=np.float64)) - 20 * _noise(grey) ** 2
        sharpness = detail / variance
    small = _colours(work)
    skin = _skin(small)
    framing, cut, reason = _framing(small) if skin >= _NO_SKIN else (None, None, "no visible skin")
    if reason:
        missing["framing"] = missing["cut"] = reason
    return Quality(
        sharpness=sharpness,
        exposure=float(grey.mean(dtype=np.float64)) / 255,
        clipped=float((grey >= _BURNT).mean()),
        contrast=variance**0.5 / 255,
        noise=None if "noise" in missing else _tile_noise(image),
        resolution=min(image.size),
        skin=skin,
        framing=framing,
        cut=cut,
        missing=missing,
    )


def _smaller(image: Image.Image, side: int) -> Image.Image:
    if max(image.size) <= side:
        return image
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def _noise(grey: np.ndarray) -> float:
    """Standard deviation of the noise in (h, w) grey levels: sqrt(pi/2)/6 times the mean |I * N| (Immerkaer 1996)."""
    # N = [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] is this second difference along both axes.
    down = grey[:-2] - 2 * grey[1:-1] + grey[2:]
    both = down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(both).mean(dtype=np.float64))


def _tile_noise(image: Image.Image) -> float:
    """Median over up to 4 x 4 tiles of the stored pixels: cheap on any size, and a hairy or scaly part is outvoted."""
    (across, wide), (down, high) = (_places(side) for side in image.size)
    tiles = [image.crop((x, y, x + wide, y + high)) for y in down for x in across]
    return float(np.median([_noise(np.asarray(tile.convert("L"), dtype=np.float32)) for tile in tiles]))


def _places(side: int) -> tuple[list[int], int]:
    count = min(4, max(1, side // _TILE))
    size = min(_TILE, side)
    return [round(k * (side - size) / max(1, count - 1)) for k in range(count)], size


def _colours(image: Image.Image) -> np.ndarray:
    """The picture scaled to _FRAME pixels on its longer side, (h, w, 3) as float."""
    scale = _FRAME / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32)


def _skin(colours: np.ndarray) -> float:
    # Blood and melanin leave skin of every type redder than green; brightness does not enter, so dark skin counts too.
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    return float(((red - green >= 3) & (green - blue >= -40)).mean())


def _framing(colours: np.ndarray) -> tuple[float | None, float | None, str]:
    """(share of the picture that stands out from its margin, share of the outline it covers, "") or the reason."""
    luma = colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    points = np.stack([luma, 1.13 * (colours[..., 2] - luma), 1.43 * (colours[..., 0] - luma)], axis=-1)  # Y, 2Cb, 2Cr
    height, width = luma.shape
    lit = _eroded(luma >= _BLACK, 1, outside=True)  # the black rim of a dermoscope, and where it blends, is no margin
    if lit.mean() < 0.2:
        return None, None, "the picture is mostly black"
    margin = lit & ~_eroded(lit, max(1, round(0.08 * min(height, width))), outside=False)
    distance = np.linalg.norm(points - np.median(points[margin], axis=0), axis=-1)
    padded = np.pad(distance, 1, mode="edge")
    distance = np.mean([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    threshold = _otsu(distance[lit])
    if threshold is None:
        return None, None, "the picture is one even colour"
    region = (distance > threshold) & lit
    outline = np.concatenate([region[0], region[-1], region[1:-1, 0], region[1:-1, -1]])
    return float(region.mean()), float(outline.mean()), ""


def _eroded(area: np.ndarray, depth: int, outside: bool) -> np.ndarray:
    """The area without its outermost `depth` pixels; `outside`: whether what lies beyond the picture belongs to it."""
    for _ in range(depth):
        padded = np.pad(area, 1, constant_values=outside)
        area = area & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return area


def _otsu(values: np.ndarray) -> float | None:
    """The threshold with the greatest variance between the two sides (Otsu 1979); None if all values are equal."""
    if values.max() - values.min() < 1e-6:
        return None
    counts, edges = np.histogram(values, 64)
    share = np.cumsum(counts) / counts.sum()
    moment = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2) / counts.sum()
    inner = (share > 0) & (share < 1)
    between = np.zeros(len(share))
    between[inner] = (moment[-1] * share[inner] - moment[inner]) ** 2 / (share[inner] * (1 - share[inner]))
    return float(edges[int(between.argmax()) + 1])


class Fault(NamedTuple):
    """A measure beyond a limit: its name, the tag that follows, its value, the limit."""

    measure: str
    tag: Tag
    value: float
    limit: float


class Limits(BaseModel):
    """Limits of one measure: below `below` or above `above` it is (doubtful, poor), null for never; and why."""

    model_config = ConfigDict(extra="forbid")
    below: tuple[float, float | None] | None = None
    above: tuple[float, float | None] | None = None
    why: str = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if (self.below is None) == (self.above is None):
            raise ValueError("give one of 'below' and 'above', as [doubtful, poor]")
        doubtful, poor = self.ends
        if poor is not None and (poor > doubtful if self.below else poor < doubtful):
            raise ValueError("the limit of poor must lie beyond that of doubtful")
        return self

    @property
    def ends(self) -> tuple[float, float | None]:
        """(doubtful, poor) of whichever side is limited."""
        return self.below or self.above  # type: ignore[return-value]

    def breach(self, value: float) -> tuple[Tag, float] | None:
        """The tag that a value gets and the limit it breaks; None if it breaks none."""
        for tag, end in zip(("poor", "doubtful"), self.ends[::-1], strict=True):
            if end is not None and (value < end if self.below else value > end):
                return tag, end  # type: ignore[return-value]
        return None


def load_limits(path: str | Path | None = None) -> dict[str, Limits]:
    """The limits of `quality_tag`: the shipped ones, or a YAML of the same form; InputError for what is wrong in it."""
    return _shipped() if path is None else _read_limits(Path(path))


@functools.lru_cache(maxsize=1)
def _shipped() -> dict[str, Limits]:
    return _read_limits(Path(__file__).with_suffix(".yaml"))


def _read_limits(path: Path) -> dict[str, Limits]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the limits of picture quality, {path}: {error}") from error
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"{path}: a mapping of measures is needed, such as sharpness: {{below: [0.006, 0.002], why: ..}}"
        )
    if unknown := [name for name in content if name not in MEASURES]:
        raise InputError(f"{path}: unknown measure '{unknown[0]}'; known: {', '.join(MEASURES)}")
    try:
        return {name: Limits.model_validate(entry) for name, entry in content.items()}
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{path}: {told}") from error


def quality_faults(quality: Quality, limits: Mapping[str, Limits] | None = None) -> list[Fault]:
    """Every measure that lies beyond its limit, worst first; a measure that does not exist breaks none."""
    found: list[Fault] = []
    for name, limit in (limits or load_limits()).items():
        value = getattr(quality, name)
        if value is not None and (broken := limit.breach(value)):
            found.append(Fault(name, broken[0], value, broken[1]))
    return sorted(found, key=lambda fault: -TAGS.index(fault.tag))


def quality_tag(quality: Quality, limits: Mapping[str, Limits] | None = None) -> Tag:
    """ "good", "doubtful" or "poor": the worst that any measure says, by `limits` (default: the shipped ones).

    The word for `Image.quality`, from which `case_attributes` makes the attribute "quality".
    """
    faults = quality_faults(quality, limits)
    return faults[0].tag if faults else "good"
