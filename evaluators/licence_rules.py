"""The rules of a licence: thresholds that a person may change in a YAML file, checked and hashed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..judge.errors import InputError
from ..judge.manifest import hash_value
from .bootstrap import FEWEST_CLUSTERS

DEFAULT = "licence.yaml"
Name = Annotated[str, Field(min_length=1)]


class LicenceRules(BaseModel):
    """Thresholds of a licence; every field must be given, unknown ones are errors.

    `margin`, `bias`: shares of the scale's span. `picture`: dimensions that need the picture, compared whatever the
    case of their letters. What each means and why it is what it is: data/licence.yaml.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: Name
    alpha: float = Field(gt=0, lt=0.5)
    cases: int = Field(ge=FEWEST_CLUSTERS)
    experts: int = Field(ge=2)
    coverage: float = Field(gt=0, le=1)
    margin: float = Field(ge=0, le=1)
    bias: float = Field(gt=0, le=1)
    correlation: float = Field(ge=0, lt=1)
    correlation_margin: float = Field(ge=0, le=2)
    picture: Annotated[tuple[Name, ...], Field(strict=False)]
    power: float = Field(ge=0.5, lt=1)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the content; the comments do not count."""
        return hash_value(self.model_dump(mode="json"))[:16]

    def needs_picture(self, dimension: str) -> bool:
        return dimension.strip().casefold() in {name.strip().casefold() for name in self.picture}

    def in_levels(self, levels: Sequence[int]) -> tuple[float, float]:
        """`margin` and `bias` in units of a scale.

        >>> load_rules().in_levels((0, 1, 2, 3, 4, 5))
        (0.1, 0.5)
        """
        span = levels[-1] - levels[0]
        return self.margin * span, self.bias * span


def load_rules(path: str | Path | None = None) -> LicenceRules:
    """Read rules from a YAML file, or the default ones; InputError that names the field and what would do."""
    try:
        if path is None:
            text = files(__package__).joinpath("data", DEFAULT).read_text("utf-8")
        else:
            text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the rules {path}: {error}") from error
    where = path or DEFAULT
    try:
        _refuse_twice(text)
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where} cannot be read as rules: {error}") from error
    try:
        return LicenceRules.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "rules"
        known = f"; known: {', '.join(LicenceRules.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise InputError(f"{where}: {field}: {first['msg']}{known}") from error


def _refuse_twice(text: str) -> None:
    """A key that stands twice is an error: of two values YAML would silently take the second."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise yaml.YAMLError(f"{twice[0]} stands twice")
