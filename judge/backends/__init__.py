"""Judges by name: `open_judge` is the one place that knows which backends there are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rubric import Rubric
from .base import Judge
from .folder import read_card, refuse_unsafe, weights_hash

# Before torch is imported: threads that wait must not spin (three times slower on two shared cores), and no library
# may ask a hub for anything.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
KNOWN = "embedded, embedded-text-only, local:BASE[+ADAPTER], replay:FILE, endpoint:URL#MODEL, litellm:PROVIDER/MODEL"


def open_judge(
    spec: str,
    rubric: Rubric,
    *,
    batch_size: int | None = None,
    critique: bool = False,
    route: Mapping[str, Any] | None = None,
    **asking: Any,
) -> Judge:
    """Load the judge that `spec` names; InputError for an unknown one, MissingExtra if what it needs is not installed.

    For models behind an API (their critique comes in any case): `route` are the options of `EndpointRoute` or
    `HostedRoute`, all others those of `ApiJudge` (mode, read, samples, again, settings, schema, prompt_file ...).
    """
    kind, _, rest = spec.partition(":")
    if (asking or route) and kind not in ("endpoint", "litellm"):
        names = ", ".join([*asking, *(route or {})])
        raise InputError(f"{names}: only for judges behind an API (endpoint:, litellm:), not for '{spec}'")
    match kind:
        case "embedded" | "embedded-text-only" if not rest:
            folder = embedded_folder()
            return _local(
                folder / "base",
                folder / ("judge" if kind == "embedded" else "text_only"),
                rubric,
                kind,
                batch_size,
                critique,
            )
        case "local" if rest:
            base, _, adapter = rest.partition("+")
            folder = Path(adapter or base)
            refuse_unsafe(folder)
            name = f"local:{read_card(folder).get('name') or folder.name}@{weights_hash(folder)[:8]}"
            return _local(Path(base), Path(adapter) if adapter else None, rubric, name, batch_size, critique)
        case "replay" if rest:
            from .replay import ReplayJudge

            return ReplayJudge(Path(rest), rubric)
        case "endpoint" if rest:
            from ..calls.endpoint import EndpointRoute
            from .api import ApiJudge

            url, _, model = rest.rpartition("#")
            if not url or not model:
                raise InputError(f"'{spec}': an endpoint is written endpoint:URL#MODEL")
            return ApiJudge(EndpointRoute(url, model, **(route or {})), rubric, **asking)
        case "litellm" if rest:
            from ..calls.hosted import HostedRoute
            from .api import ApiJudge

            return ApiJudge(HostedRoute(rest, **(route or {})), rubric, **asking)
    raise InputError(f"unknown judge '{spec}'; known: {KNOWN}")


def embedded_folder() -> Path:
    """The folder of the judge that comes with the package: base, judge, text_only."""
    folder = Path(str(files("dermjudge.judge").joinpath("embedded")))
    if not (folder / "base").is_dir():
        raise InputError(f"the embedded judge is not in this installation ({folder} is missing)")
    return folder


def _local(
    base: Path, adapter: Path | None, rubric: Rubric, name: str, batch_size: int | None, critique: bool
) -> Judge:
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        from .local import LocalJudge
    except ImportError as error:
        from .bases import import_trouble

        raise import_trouble(error, "a local model", "local") from error
    return LocalJudge(base, adapter, rubric, name=name, batch_size=batch_size or 32, critique=critique)
