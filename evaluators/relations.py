"""How nearly a named condition is the gold one, in ten relations, and what each is worth: weights as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ..judge.errors import InputError
from .labels import NO_DIAGNOSIS
from .matching import Hit
from .terms import Grade, Terms

# From the best to the worst; of two with one weight the first is the better.
RELATIONS = (
    "same", "synonym", "narrower", "wider", "sibling", "same group", "same branch", "other", "crossing", "unmatched",
)  # fmt: skip
_OF_GRADE: Mapping[Grade, str] = {
    "exact": "same", "synonym": "synonym", "child": "narrower", "parent": "wider", "sibling": "sibling",
}  # fmt: skip


@dataclass(frozen=True)
class Relations:
    """A weight in [0, 1] for each of RELATIONS, and what it means; read with `load_relations`."""

    weights: Mapping[str, float]
    meanings: Mapping[str, str]

    def of(self, hit: Hit, gold: str, terms: Terms) -> str:
        """The relation of what was found to a canonical gold name.

        same and synonym by the words that were written; narrower, wider, sibling as in `Terms.relation`; same group:
        a common ancestor below a root; same branch: a common root alone; other: no common ancestor; crossing: two
        sides of malignant or infectious, before anything else; unmatched: a row that names no diagnosis.

        >>> from dermjudge.evaluators.terms import load_terms
        >>> terms, relations = load_terms(), load_relations()
        >>> [relations.of(terms.match(name).hits[0], "melanoma", terms) for name in ("MM (melanoma)", "nevus", "AK")]
        ['same', 'crossing', 'other']
        """
        if hit.canonical == NO_DIAGNOSIS:
            return "unmatched"
        grade = terms.grade(hit, gold)
        if grade != "none":
            return _OF_GRADE[grade]
        if terms.crosses(hit.canonical, gold):
            return "crossing"
        one, other = ((name, *terms.conditions[name].ancestors) for name in (hit.canonical, gold))
        shared = set(one) & set(other)
        if not shared:
            return "other"
        return "same branch" if shared == {one[-1]} else "same group"

    def weight(self, relation: str) -> float:
        return self.weights[relation]

    def better(self, relation: str) -> tuple[float, int]:
        """A key to sort relations by, the best first."""
        return (-self.weights[relation], RELATIONS.index(relation))

    def to_dict(self) -> dict[str, Any]:
        return {name: {"weight": self.weights[name], "means": self.meanings[name]} for name in RELATIONS}


def load_relations(path: str | Path | None = None) -> Relations:
    """Read the weights of relations: the shipped ones (once), or a YAML of your own that names all ten.

    `relations: {NAME: {weight: 0 to 1, means: text}}`. InputError for a file that cannot be read, a name that is
    missing or unknown, a weight out of [0, 1], or weights that rise from a nearer to a farther relation.

    >>> load_relations().weight("sibling")
    0.7
    """
    return _shipped() if path is None else _read(Path(path))


@lru_cache(maxsize=1)
def _shipped() -> Relations:
    return _read(Path(str(files(__package__).joinpath("data", "relations.yaml"))))


def _read(path: Path) -> Relations:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {error}; a YAML in UTF-8 is needed") from error
    table = data.get("relations") if isinstance(data, dict) else None
    if not isinstance(table, dict) or set(data) != {"relations"}:
        raise InputError(f"{path}: one key is needed, 'relations', with a table of names")
    if wrong := [str(name) for name in table if name not in RELATIONS] + [n for n in RELATIONS if n not in table]:
        state = "is missing" if wrong[0] in RELATIONS else "is unknown"
        raise InputError(f"{path}: relation '{wrong[0]}' {state}; needed are {', '.join(RELATIONS)}")
    weights: dict[str, float] = {}
    for name in RELATIONS:
        row = table[name]
        weight = row.get("weight") if isinstance(row, dict) else None
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= 1:
            raise InputError(f"{path}: the weight of '{name}' must be a number from 0 to 1, not {weight!r}")
        weights[name] = float(weight)
    for near, far in pairwise(RELATIONS):
        if weights[far] > weights[near]:
            raise InputError(f"{path}: '{far}' ({weights[far]}) may not weigh more than '{near}' ({weights[near]})")
    return Relations(weights, {name: str(table[name].get("means", "")) for name in RELATIONS})
