"""Options that several verbs share, and the YAML file that can stand for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..judge.errors import InputError


def from_yaml(context: typer.Context, value: Path | None) -> Path | None:
    """Fill in options from a YAML file; flags win, unknown keys are errors."""
    if value is None:
        return None
    import yaml

    try:
        given = yaml.safe_load(value.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read config {value}: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{value}: a config is a mapping of options, such as 'judge: embedded'")
    known = {parameter.name for parameter in context.command.params if parameter.name not in ("config", "help")}
    keys = {str(key).replace("-", "_"): entry for key, entry in given.items()}
    if unknown := sorted(set(keys) - known):
        raise InputError(f"{value}: unknown key '{unknown[0]}'; this verb has {', '.join(sorted(known))}")
    several = {p.name for p in context.command.params if getattr(p, "multiple", False)}
    keys = {k: [v] if k in several and not isinstance(v, list) else v for k, v in keys.items()}
    context.default_map = {**(context.default_map or {}), **keys}
    return value


Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
Config = Annotated[
    Path | None, typer.Option(help="YAML with the options of this verb; flags win.", callback=from_yaml, is_eager=True)
]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N narratives.")]
RubricName = Annotated[str, typer.Option("--rubric", help="Shipped rubric or a path to a .yaml.")]
Map = Annotated[
    list[str] | None, typer.Option("--map", help="THEIRS=OURS, a column of the file and our name; repeatable.")
]
Folder = Annotated[Path, typer.Option("--out", help="Folder to write.")]


def columns_of(values: list[str] | None) -> dict[str, Any] | None:
    """ROLE=COLUMN pairs; context and tags may stand several times."""
    roles: dict[str, Any] = {}
    for role, name in (pair for value in values or [] for pair in pairs([value]).items()):
        if role in ("context", "tags"):
            roles.setdefault(role, []).append(name)
        else:
            roles[role] = name
    return roles or None


def pairs(values: list[str] | None) -> dict[str, str]:
    """THEIRS=OURS pairs as a mapping."""
    found: dict[str, str] = {}
    for value in values or []:
        theirs, equals, ours = value.partition("=")
        if not (theirs and equals and ours):
            raise InputError(f"a pair is written NAME=NAME, such as item=case_id, not '{value}'")
        found[theirs] = ours
    return found
