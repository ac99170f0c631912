"""A rubric is data: a scale, dimensions with an anchor in words for every level, a version and a hash."""

from __future__ import annotations

import hashlib
import json
import math
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import InputError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Strict):
    """Levels from worst to best and the step that raters and written digits keep to.

    `levels` are integers in rising order; expected values read from a distribution lie anywhere between.
    """

    levels: tuple[int, ...] = Field(min_length=2)
    step: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Scale:
        if list(self.levels) != list(range(self.levels[0], self.levels[-1] + 1)):
            raise ValueError("levels must be consecutive whole numbers in rising order, such as [0, 1, 2, 3, 4, 5]")
        if self.levels[0] < 0 or self.levels[-1] > 9:
            raise ValueError("levels must lie between 0 and 9, so that each is a single digit")
        if abs(round(1 / self.step) * self.step - 1) > 1e-9:
            raise ValueError("step must divide 1, such as 1, 0.5 or 0.25")
        return self

    @property
    def low(self) -> int:
        return self.levels[0]

    @property
    def high(self) -> int:
        return self.levels[-1]

    def holds(self, value: float) -> bool:
        """Whether a rater may give this value: on the scale and on the step.

        >>> Scale(levels=(0, 1, 2), step=0.5).holds(1.5), Scale(levels=(0, 1, 2)).holds(1.5)
        (True, False)
        """
        if not self.low <= value <= self.high:
            return False
        level = self.low + round((value - self.low) / self.step) * self.step
        return math.isclose(value, level, rel_tol=1e-12)  # room for 0.1 + 0.2, none for 1e-290


class Dimension(_Strict):
    """One aspect that is scored: its name, its definition, and an anchor in words for every level."""

    name: str = Field(min_length=1, max_length=60, pattern=r"^[A-Za-z][A-Za-z0-9 _-]*$")
    definition: str = Field(min_length=1)
    anchors: dict[int, str]


class Rubric(_Strict):
    """What is scored and what the levels mean. Experts and untrained judges read it verbatim."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: int = Field(ge=1)
    title: str = ""
    scale: Scale
    dimensions: tuple[Dimension, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Rubric:
        seen: set[str] = set()
        for dimension in self.dimensions:
            if dimension.name.casefold() in seen:
                raise ValueError(f"dimension '{dimension.name}' stands twice")
            seen.add(dimension.name.casefold())
            if missing := [level for level in self.scale.levels if not dimension.anchors.get(level, "").strip()]:
                raise ValueError(f"dimension '{dimension.name}' has no anchor for level {missing[0]}")
            if extra := [level for level in dimension.anchors if level not in self.scale.levels]:
                raise ValueError(f"dimension '{dimension.name}' has an anchor for {extra[0]}, not on the scale")
        return self

    @property
    def id(self) -> str:
        """Name and version, as ratings carry it: "derm6@1"."""
        return f"{self.name}@{self.version}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the content; changes with any word of it."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def dimension(self, name: str) -> str:
        """The rubric's spelling of a dimension name, whatever the case; InputError if it has none."""
        for known in self.names:
            if known.casefold() == name.strip().casefold():
                return known
        raise InputError(f"unknown dimension '{name}'; rubric {self.id} has {', '.join(self.names)}")

    def text(self) -> str:
        """The rubric in words, as experts and untrained judges see it."""
        lines = [f"{self.title or self.name} (scale {self.scale.low} to {self.scale.high}, step {self.scale.step:g})"]
        for dimension in self.dimensions:
            lines += ["", f"{dimension.name}: {dimension.definition}"]
            lines += [f"  {level} = {dimension.anchors[level]}" for level in reversed(self.scale.levels)]
        return "\n".join(lines)


def shipped_rubrics() -> list[str]:
    """Names of the rubrics in the package."""
    return sorted(
        f.name.removesuffix(".yaml")
        for f in files(__package__).joinpath("rubrics").iterdir()
        if f.name.endswith(".yaml")
    )


def load_rubric(name: str | Path) -> Rubric:
    """Read a shipped rubric by name ("derm6", "derm6@1") or any YAML file by path; InputError if it is wrong."""
    wanted = str(name)
    if wanted.endswith((".yaml", ".yml")):
        try:
            text = Path(wanted).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read rubric {wanted}: {error}") from error
    else:
        short = wanted.split("@")[0]
        if short not in shipped_rubrics():
            raise InputError(f"unknown rubric '{wanted}'; known: {', '.join(shipped_rubrics())}, or a path to a .yaml")
        text = files(__package__).joinpath("rubrics", f"{short}.yaml").read_text("utf-8")
    try:
        rubric = Rubric.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{wanted} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "rubric"
        raise InputError(f"{wanted}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
    if "@" in wanted and not wanted.endswith((".yaml", ".yml")) and wanted != rubric.id:
        raise InputError(f"rubric '{wanted}' is not here; the package has {rubric.id}")
    return rubric
