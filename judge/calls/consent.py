"""The consent file: who allowed which data to go to which provider, for what, and until when it is kept.

Loopback needs none; every other host does, the local network included. The file names the hash of the data, so that it
holds for these cases and narratives and no others.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import InputError
from ..escape import visible
from ..images import MAX_BYTES, _read, _Refused
from ..manifest import hash_value
from ..records import Case, Narrative
from ..tablefile import read_text
from . import guard

_FIELDS = {  # what a person is to write, in the order of the file
    "data": "the hash of the data, as printed by --dry-run",
    "hosts": "the hosts that the data may be sent to, as in [api.example.org]",
    "provider": "who runs the hosts (the company or department, and the contract)",
    "purpose": "what the answers are for",
    "region": "where the data are processed, as in EU (Frankfurt)",
    "retention": "how long the provider keeps the data, as in none, or 30 days",
    "legal_basis": "why this is lawful, as in GDPR Art. 9(2)(j), ethics vote 12/2026, or data without persons",
    "person": "who allows it, with name and role",
    "date": "when, as in 2026-01-31",
}
_PLACEHOLDER = re.compile(
    r"\W*(?:to ?do|to be (?:done|defined|filled(?: in)?)|tb[adc]|fix ?me|x{2,}|fill (?:me )?in|place ?holder|example|"
    r"change ?me|unknown|name|person|someone|n/?a|-+|\?+|\.{2,}|…|<[^>]*>|lorem ipsum.*)?\W*",
    re.IGNORECASE,
)


class Consent(BaseModel):
    """What a consent file says; every field must be there and none may be a placeholder."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    data: str = Field(pattern=r"^[0-9a-f]{64}$")
    hosts: tuple[str, ...] = Field(min_length=1)
    provider: str
    purpose: str
    region: str
    retention: str
    legal_basis: str
    person: str
    date: datetime.date

    @field_validator("hosts", mode="before")
    @classmethod
    def _hosts(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("a list of hosts is needed")
        return [guard.host(name).name for name in names]

    @field_validator("provider", "purpose", "region", "retention", "legal_basis", "person")
    @classmethod
    def _written(cls, value: str) -> str:
        if _PLACEHOLDER.fullmatch(value):
            raise ValueError("is a placeholder")
        return value

    @field_validator("date", mode="before")
    @classmethod
    def _day(cls, value: Any) -> Any:
        day = datetime.date.fromisoformat(value) if isinstance(value, str) else value
        if type(day) is not datetime.date:  # neither a number of seconds nor a time of day
            raise ValueError("a date such as 2026-01-31 is needed")
        today = max(datetime.date.today(), datetime.datetime.now(datetime.UTC).date())
        if day > today:
            raise ValueError(f"lies after today ({today})")
        return day


def read_consent(path: str | Path) -> Consent:
    """Read a consent file (YAML); InputError that lists every missing, unknown and unfilled field with its use."""
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: a consent file names the fields {', '.join(_FIELDS)}; --dry-run prints one to fill in"
        )
    try:
        return Consent.model_validate(content)
    except ValidationError as error:
        lines = [_complaint(one) for one in error.errors(include_input=False, include_url=False)]
        raise InputError(f"{path} does not allow anything yet:\n" + "\n".join(f"  {line}" for line in lines)) from None


def require(hosts: Collection[str], paths: str | Path | Sequence[str | Path] | None, data: str) -> dict[str, Any]:
    """What the manifest records of the consent to send `data` (see `data_hash`) to these hosts; {} for loopback alone.

    Every host that is not this machine must be named by one of the files, and each file must name these data.
    InputError that says what would do.
    """
    wanted = sorted({guard.host(name).name for name in hosts if not guard.is_loopback(guard.host(name).name)})
    if not wanted:
        return {}
    files = [paths] if isinstance(paths, (str, Path)) else list(paths or ())
    if not files:
        raise InputError(
            f"sending to {', '.join(wanted)} needs a consent file for data {data} (--consent FILE); --dry-run prints "
            "one to fill in"
        )
    consents = [(Path(path), read_consent(path)) for path in files]
    for path, consent in consents:
        if consent.data != data:
            raise InputError(
                f"{path} is about other data: it names {consent.data}, and this run would send {data}; whoever allows "
                f"these writes 'data: {data}'"
            )
    named = {name for _, consent in consents for name in consent.hosts}
    if missing := [name for name in wanted if name not in named]:
        raise InputError(
            f"no consent file names {', '.join(missing)}; {', '.join(str(path) for path, _ in consents)} named "
            f"{', '.join(sorted(named))}: whoever allows it adds it under 'hosts', or writes a file for that provider"
        )
    used = [(path, consent) for path, consent in consents if set(consent.hosts) & set(wanted)]
    return {
        "hosts": wanted,
        "files": [
            {"name": path.name, "sha256": sha256(path.read_bytes()).hexdigest(), **consent.model_dump(mode="json")}
            for path, consent in used
        ],
    }


def data_hash(cases: Iterable[Case], narratives: Iterable[Narrative] = (), *, root: str | Path | None = None,
              pictures: Mapping[str, str] | None = None) -> str:  # fmt: skip
    """SHA-256 (hex) of all that a run could send of these records: contexts, references, pictures, texts to be judged.

    Whatever the order of cases and narratives, their ids and the names of the pictures: those are never sent. The bytes
    of the pictures are read under `root` and hashed, or their SHA-256 is taken from `pictures` (path -> hex). Without
    both only the texts count, for routes that send no picture. InputError for a picture that cannot be read.
    """
    known = dict(pictures or {})
    lines = set()
    for case in cases:
        shown = []
        for image in case.images if root is not None or pictures is not None else ():
            if image.path not in known:
                known[image.path] = _digest(root, image.path)
            shown.append(known[image.path])
        lines.add(hash_value(["case", case.context, case.reference, shown]))
    lines.update(hash_value(["narrative", narrative.hash]) for narrative in narratives)
    return hash_value(sorted(lines))


def template(hosts: Collection[str], data: str) -> str:
    """A consent file to be filled in by a person; as it stands it is refused.

    >>> print(template(["api.example.org"], "0" * 64).splitlines()[3])
    provider: TODO  # who runs the hosts (the company or department, and the contract)
    """
    names = [name for name in sorted({guard.host(text).name for text in hosts}) if not guard.is_loopback(name)]
    filled = {"data": f'"{data}"', "hosts": yaml.safe_dump(names, default_flow_style=True, width=10_000).strip()}
    lines = [f"{field}: {filled.get(field, 'TODO')}  # {what}" for field, what in _FIELDS.items()]
    return "\n".join(["# Consent to send these data to these hosts; every TODO is written by the person who allows it.",
                      *lines, ""])  # fmt: skip


def _digest(root: str | Path | None, path: str) -> str:
    if root is None:
        raise InputError(f"the hash of picture {visible(path)} is not given, nor a folder to read it from")
    try:
        return sha256(_read(root, path, MAX_BYTES)).hexdigest()
    except _Refused as error:
        raise InputError(f"image {path!r}: {error}") from error


def _complaint(error: Any) -> str:
    field = str(error["loc"][0]) if error["loc"] else "consent"
    if error["type"] == "missing":
        return f"{field}: is missing; {_FIELDS[field]}"
    if field not in _FIELDS:
        return f"{visible(field)}: is no field of a consent file; there are {', '.join(_FIELDS)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{field}: {message}; it says {_FIELDS[field]}"
