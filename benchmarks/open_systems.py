"""From the candidates' names to the systems of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..judge.calls.chat import Route
from ..judge.calls.pace import Pace
from ..judge.calls.prices import Price, price_of
from ..judge.calls.retry import RetryPolicy
from ..judge.errors import InputError
from ..judge.files import sha256_file
from ..judge.records import Narrative, identity
from .class_probabilities import TOP, read_recorded
from .systems import ApiSystem, Asking, LocalSystem, RecordedSystem, Spec, System, local_name, read_spec


def make_systems(
    specs: Sequence[str],
    *,
    asking: Asking | Mapping[str, Asking] = Asking(),  # noqa: B008 - immutable
    in_flight: int = 32,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    policy: RetryPolicy | None = None,
    prices: Mapping[str, Price] | None = None,
    route: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    device: str | None = None,
    arm: str = "image_only",
    top: int = TOP,
) -> list[System]:
    """The candidates of a run, none of them opened yet.

    asking: for all, or by a system's name ("" for the others). in_flight, requests_per_minute, tokens_per_minute,
    policy: each candidate's own. route: options of `EndpointRoute` and `HostedRoute`, each of which takes what it
    knows; `timeout`: seconds per call. arm, top: for recorded narratives, see `read_recorded`; a file of several
    systems (readers) gives several candidates. InputError for unknown forms and for two candidates of one name.
    """
    by_name = {"": asking} if isinstance(asking, Asking) else dict(asking)

    def how(name: str) -> Asking:
        return by_name.get(name, by_name.get("", Asking()))

    systems: list[System] = []
    for text in specs:
        spec = read_spec(text)
        if spec.kind == "replay":
            systems += _recorded(spec, arm, top)
        elif spec.kind == "local":
            base, _, adapter = spec.rest.partition("+")
            model = local_name(Path(base), Path(adapter) if adapter else None)
            name = spec.name or model
            systems.append(LocalSystem(name, model, Path(base), Path(adapter) if adapter else None, how(name),
                                       batch_size, device))  # fmt: skip
        else:
            model = spec.rest.rpartition("#")[2]
            name = spec.name or model
            pace = Pace(in_flight, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
            systems.append(ApiSystem(name, model, _opener(spec, dict(route or {})), how(name), pace,
                                     policy or RetryPolicy(), price_of(spec.text, prices)))  # fmt: skip
    names = [identity(system.name) for system in systems]
    if double := [system.name for system in systems if names.count(identity(system.name)) > 1]:
        raise InputError(f"two candidates are called '{double[0]}'; name one of them yourself, as in NAME=endpoint:...")
    if unknown := set(by_name) - {system.name for system in systems} - {""}:
        raise InputError(f"no candidate is called '{min(unknown)}'; there are {', '.join(s.name for s in systems)}")
    return systems


def hosts_of(specs: Sequence[str]) -> list[str]:
    """The hosts that these candidates send to, without those that run here."""
    return list(dict.fromkeys(host for text in specs if (host := read_spec(text).host)))


_HOSTED = ("timeout", "proxy", "allow_alias", "base_url", "expect_model", "ca_file")
_ENDPOINT = ("key_env", "expect_model", "proxy", "ca_file")


def _opener(spec: Spec, options: dict[str, Any]) -> Callable[[], Route]:
    if unknown := set(options) - {*_HOSTED, *_ENDPOINT}:
        raise InputError(f"unknown option '{min(unknown)}' of a route; there are {', '.join((*_ENDPOINT, *_HOSTED))}")

    def endpoint() -> Route:
        from ..judge.calls.endpoint import LIMITS, EndpointRoute

        url, _, model = spec.rest.rpartition("#")
        given = {name: value for name, value in options.items() if name in _ENDPOINT}
        if (limit := options.get("timeout")) is not None:
            given["timeouts"] = LIMITS._replace(connect=min(LIMITS.connect, limit), read=limit, total=limit)
        return EndpointRoute(url, model, **given)

    def hosted() -> Route:
        from ..judge.calls.hosted import HostedRoute

        return HostedRoute(spec.rest, **{name: value for name, value in options.items() if name in _HOSTED})

    return endpoint if spec.kind == "endpoint" else hosted


def _recorded(spec: Spec, arm: str, top: int) -> list[System]:
    by_system: dict[str, dict[tuple[str, str, int], Narrative]] = {}
    for narrative in read_recorded(spec.rest, name=spec.name, arm=arm, top=top):
        own = by_system.setdefault(narrative.system, {})
        own[identity(narrative.case_id), narrative.arm, narrative.sample] = narrative
    if spec.name and list(by_system) != [spec.name]:
        if len(by_system) > 1:
            raise InputError(f"{spec.rest} holds {len(by_system)} systems, so it cannot be called '{spec.name}'")
        by_system = {spec.name: by_system.popitem()[1]}
    digest = sha256_file(spec.rest)[:16]
    return [RecordedSystem(name, f"replay:{Path(spec.rest).name}", digest, own) for name, own in by_system.items()]
