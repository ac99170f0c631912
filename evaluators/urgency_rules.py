"""Rules that raise an urgency looked up by the name of the disease: age, site, systemic signs; data, never downward."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..judge.errors import InputError
from ..judge.records import URGENCIES, Case
from .labels import usable_gold
from .terms import MALIGNANCIES, Terms

_DENIED_BEFORE = re.compile(
    r"(?i)\b(?:no|not|nor|never|without|denie[sd]|denying|absence of|negative for|isn['’]t)\b[^.;:]{0,40}$"
)
_DENIED_AFTER = re.compile(r"(?i)^\s*(?:[:=]\s*)?(?:no|none|absent|negative|false|denied|0)\b")
_AGE = re.compile(r"(?i)\b(\d{1,3})[ -]?(day|week|month)s?(?:[ -]old| of age)\b|\b(newborn|neonat\w*)\b")
_DAYS = {"day": 1.0, "week": 7.0, "month": 30.44}
_SURFACE = re.compile(r"(?i)\b(\d{1,3})(?:\.\d+)? ?%[^.;]{0,25}?\b(?:body surface|bsa|of (?:the |his |her )?body)\b")


class Rule(BaseModel):
    """One rule; its keys are described in data/urgency_rules.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    at_least: Literal["soon", "urgent", "emergent"]
    source: str = Field(min_length=1)
    only: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    younger_than_months: float | None = Field(None, gt=0)
    body_surface_over: float | None = Field(None, ge=0, lt=100)

    @model_validator(mode="after")
    def _asks_something(self) -> Rule:
        if not (self.words or self.sites or self.younger_than_months or self.body_surface_over is not None):
            raise ValueError("a rule needs one of words, sites, younger_than_months, body_surface_over")
        return self


class Derived(NamedTuple):
    """A derived urgency: its level ("" if there is none), the level before any rule, and why each rule fired."""

    level: str
    base: str
    fired: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """One line for a person: "soon by name; raised to urgent: fever or unwell ('fever')"."""
        if not self.base:
            return "no urgency by name"
        if not self.fired:
            return f"{self.base} by name"
        said = "raised to" if self.level != self.base else "not raised above"
        return f"{self.base} by name; {said} {self.level}: {'; '.join(self.fired)}"


def load_urgency_rules(path: str | Path | None = None) -> tuple[Rule, ...]:
    """Read the shipped rules (once) or a YAML of your own with the same keys; () if it holds none.

    InputError names the rule: a key that is unknown or missing, a level that is none, a name that stands twice.
    """
    return _shipped() if path is None else _read(Path(path))


@lru_cache(maxsize=1)
def _shipped() -> tuple[Rule, ...]:
    return _read(Path(str(files(__package__).joinpath("data", "urgency_rules.yaml"))))


def _read(path: Path) -> tuple[Rule, ...]:
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {error}; a YAML in UTF-8 is needed") from error
    if not isinstance(data, dict) or set(data) != {"rules"} or not isinstance(data["rules"], list):
        raise InputError(f"{path}: one key is needed, 'rules', with a list")
    rules: dict[str, Rule] = {}
    for number, row in enumerate(data["rules"], 1):
        name = row.get("name") if isinstance(row, dict) else None
        try:
            rule = Rule.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "rule"
            raise InputError(f"{path} rule {number} ('{name}'): {key}: {first['msg']}") from error
        if rule.name in rules:
            raise InputError(f"{path} rule {number}: the name '{rule.name}' stands twice")
        rules[rule.name] = rule
    return tuple(rules.values())


def derived_urgency(case: Case, terms: Terms, rules: Sequence[Rule] | None = None) -> Derived:
    """The urgency of a case by the names of its gold diagnoses, raised by the rules that its facts meet.

    By name: the level marked as derived that the case holds, else the highest of its diagnoses in the term list; "" if
    there is none, and then no rule is asked. `rules`: default the shipped ones. InputError for a rule that names a
    condition the list does not hold.

    >>> from dermjudge.evaluators.terms import load_terms
    >>> case = Case("c", diagnosis=("impetigo",), context="Crusts on the chin. Fever since yesterday, no pain.")
    >>> derived_urgency(case, load_terms()).reason
    "soon by name; raised to urgent: fever or unwell ('Fever')"
    """
    names = usable_gold(case, terms)[0]
    levels = [terms.conditions[name].urgency for name in names if terms.conditions[name].urgency]
    if case.urgency and case.urgency_derived:
        levels = [case.urgency]
    base = max(levels, key=URGENCIES.index, default="")
    if not base:
        return Derived("", "")
    level, fired = base, []
    for rule in load_urgency_rules() if rules is None else rules:
        if _concerns(rule, names, terms) and (why := _met(rule, case)) is not None:
            fired.append(f"{rule.name} ({why})")
            level = max(level, rule.at_least, key=URGENCIES.index)
    return Derived(level, base, tuple(fired))


def _concerns(rule: Rule, names: Sequence[str], terms: Terms) -> bool:
    wanted = _wanted(rule, terms)
    if not rule.only:
        return True
    return any(
        name in wanted
        or terms.conditions[name].malignancy in wanted
        or not wanted.isdisjoint(terms.conditions[name].ancestors)
        for name in names
    )


@lru_cache(maxsize=256)
def _wanted(rule: Rule, terms: Terms) -> frozenset[str]:
    """The canonical names and kinds that a rule is for."""
    wanted = set()
    for entry in rule.only:
        found = None if entry in MALIGNANCIES else terms.find(entry)
        if found is None and entry not in MALIGNANCIES:
            near = ", ".join(terms.closest(entry)) or "nothing like it"
            raise InputError(f"rule '{rule.name}': '{entry}' is not in the term list; closest: {near}")
        wanted.add(found.name if found else entry)
    return frozenset(wanted)


def _met(rule: Rule, case: Case) -> str | None:
    """What met every key of the rule, quoted; None if one is not met."""
    quoted: list[str] = []
    if rule.words:
        if (word := _first(rule.words, case.context)) is None:
            return None
        quoted.append(f"'{word}'")
    if rule.sites:
        places = [image.body_site for image in case.images]
        places += [str(case.tags[tag]) for tag in ("site", "site_detail", "body_site") if case.tags.get(tag)]
        site = next((found for text in (*places, case.context) if (found := _first(rule.sites, text))), None)
        if site is None:
            return None
        quoted.append(f"site '{site}'")
    if rule.younger_than_months is not None:
        months = _months(case)
        if months is None or months >= rule.younger_than_months:
            return None
        quoted.append(f"{months:.2g} months old")
    if rule.body_surface_over is not None:
        over = [found for found in _SURFACE.finditer(case.context) if float(found[1]) > rule.body_surface_over]
        if not over:
            return None
        quoted.append(f"'{over[0].group()}'")
    return ", ".join(quoted)


def _first(phrases: tuple[str, ...], text: str) -> str | None:
    """The first of the phrases that a text holds and does not deny, as written there."""
    if not text:
        return None
    for found in _pattern(phrases).finditer(text):
        if not _DENIED_BEFORE.search(text[: found.start()]) and not _DENIED_AFTER.match(text[found.end() :]):
            return found.group()
    return None


@lru_cache(maxsize=256)
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    parts = (re.escape(phrase).replace(r"\*", r"\w*").replace(r"\ ", r"\s+") for phrase in phrases)
    return re.compile(rf"(?i)(?<!\w)(?:{'|'.join(parts)})(?!\w)")


def _months(case: Case) -> float | None:
    tag = case.tags.get("age_months")
    if isinstance(tag, (int, float)) and not isinstance(tag, bool):
        return float(tag)
    found = _AGE.search(case.context)
    if not found:
        return None
    return 0.0 if found[3] else float(found[1]) * _DAYS[found[2].lower()] / _DAYS["month"]
