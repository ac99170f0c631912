"""What every verb needs that asks models behind an API: options, permission, prices, pace, budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..judge.errors import InputError
from ..judge.records import Case, Narrative

if TYPE_CHECKING:
    from ..judge.calls.budget import Budget, Spent
    from ..judge.calls.pace import Pace
    from ..judge.calls.prices import Price

REMOTE = ("endpoint", "litellm")
PRIVATE = ("refuse", "redact", "send")
PANEL = "Models behind an API"

AllowRemote = Annotated[
    list[str] | None,
    typer.Option("--allow-remote", help="A host that data may be sent to; repeatable.", rich_help_panel=PANEL),
]
ConsentFile = Annotated[
    list[Path] | None,
    typer.Option("--consent", help="Consent file for it (--dry-run prints one).", rich_help_panel=PANEL),
]
Proxy = Annotated[str | None, typer.Option(help="The one proxy to use; variables are ignored.", rich_help_panel=PANEL)]
CaFile = Annotated[Path | None, typer.Option(help="Certificate of a private authority.", rich_help_panel=PANEL)]
Prices = Annotated[Path | None, typer.Option(help="Price list (.yaml, .csv).", rich_help_panel=PANEL)]
MaxCalls = Annotated[
    int | None, typer.Option(min=0, help="Budget of models behind an API: calls.", rich_help_panel=PANEL)
]
MaxTokens = Annotated[
    int | None, typer.Option(min=0, help="The same: tokens of all calls together.", rich_help_panel=PANEL)
]
MaxMoney = Annotated[
    float | None, typer.Option(min=0, help="The same: money, as in the prices.", rich_help_panel=PANEL)
]
Concurrency = Annotated[int, typer.Option(min=1, help="Calls in flight at most.", rich_help_panel=PANEL)]
PerMinute = Annotated[float | None, typer.Option("--rpm", help="Requests per minute.", rich_help_panel=PANEL)]
TokensPerMinute = Annotated[float | None, typer.Option("--tpm", help="Tokens per minute.", rich_help_panel=PANEL)]
PrivateWords = Annotated[
    str,
    typer.Option(
        help="Texts with names, dates or numbers, to other machines: refuse, redact, send.", rich_help_panel=PANEL
    ),
]
AllowAlias = Annotated[
    bool, typer.Option("--allow-alias", help="Take a model name without a date.", rich_help_panel=PANEL)
]


@dataclass(frozen=True)
class Remote:
    """The options of one command."""

    allow: Sequence[str] = ()
    consent: Sequence[Path] = ()
    proxy: str | None = None
    ca_file: Path | None = None
    prices: Path | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_money: float | None = None
    concurrency: int = 32
    rpm: float | None = None
    tpm: float | None = None
    allow_alias: bool = False

    def hosts(self, spec: str) -> list[str]:
        """The hosts that a model spec sends to: its own, or those of its provider; [] for a local one."""
        from ..judge.calls.guard import url_host
        from ..judge.calls.hosted import HostedRoute

        kind, _, rest = spec.partition(":")
        if kind == "endpoint":
            url, _, model = rest.rpartition("#")
            if not url or not model:
                raise InputError(f"'{spec}': an endpoint is written endpoint:URL#MODEL")
            return [url_host(url).name]
        if kind == "litellm":
            return [HostedRoute(rest, allow_alias=self.allow_alias).host.name]
        return []

    def open(self) -> None:
        """Let this process reach the hosts that were allowed, and no other; silence what libraries would send."""
        from ..judge.calls.guard import allow, quiet_environment

        quiet_environment()
        allow(self.allow)

    def permission(
        self, specs: Sequence[str], cases: Sequence[Case], narratives: Sequence[Narrative], root: Path
    ) -> dict[str, Any]:
        """What the manifest keeps of the consent; InputError (with what would do) without one."""
        from ..judge.calls.consent import data_hash, require

        hosts = self.remote_hosts(specs)
        if not hosts:
            return {}
        refused = [h for h in hosts if h not in {a.partition(":")[0] for a in self.allow}]
        if refused:
            raise InputError(
                f"nothing is sent to {', '.join(refused)} unless it is named: add --allow-remote {refused[0]} and "
                "--consent FILE (--dry-run prints a consent file to fill in)"
            )
        return require(hosts, list(self.consent), data_hash(cases, narratives, root=root))

    def remote_hosts(self, specs: Sequence[str]) -> list[str]:
        """Every host but this machine that would see the data, a proxy included."""
        from ..judge.calls.guard import is_loopback, url_host

        names = [h for spec in specs for h in self.hosts(spec)]
        if names and self.proxy:
            names.append(url_host(self.proxy).name)
        return sorted({name for name in names if not is_loopback(name)})

    def consent_template(
        self, specs: Sequence[str], cases: Sequence[Case], narratives: Sequence[Narrative], root: Path
    ) -> str:
        """A consent file to fill in; "" if nothing leaves the machine."""
        from ..judge.calls.consent import data_hash, template

        hosts = self.remote_hosts(specs)
        return template(hosts, data_hash(cases, narratives, root=root)) if hosts else ""

    def price(self, spec: str) -> Price | None:
        from ..judge.calls.prices import hosted_price, price_of, read_prices

        kind, _, rest = spec.partition(":")
        model = rest.rpartition("#")[2] if kind == "endpoint" else rest
        if self.prices and (found := price_of(model, read_prices(self.prices))):
            return found
        return hosted_price(rest) if kind == "litellm" else None

    def route(self, spec: str) -> dict[str, Any]:
        """Options of the route of one model."""
        common: dict[str, Any] = {"proxy": self.proxy, "ca_file": str(self.ca_file) if self.ca_file else None}
        if spec.startswith("litellm:"):
            common |= {"allow_alias": self.allow_alias, "price": self.price(spec)}
        return common

    def pace(self) -> Pace:
        from ..judge.calls.pace import Pace

        return Pace(self.concurrency, requests_per_minute=self.rpm, tokens_per_minute=self.tpm)

    def budget(self, spec: str, already: Spent | None = None) -> Budget:
        from ..judge.calls.budget import Budget, Spent

        return Budget(
            calls=self.max_calls, tokens=self.max_tokens, money=self.max_money, price=self.price(spec),
            already=already or Spent(),
        )  # fmt: skip


def is_remote(spec: str) -> bool:
    """Whether a model spec is asked through calls (which may well stay on this machine)."""
    return spec.partition(":")[0] in REMOTE


def dry_run_text(rows: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {'unknown' if value is None else value}" for name, value in rows.items())


def without_private_words(
    cases: Sequence[Case], narratives: Sequence[Narrative], rule: str
) -> tuple[list[Case], list[Narrative], dict[str, str]]:
    """Contexts and narratives as they may be sent to another machine, and what the tags in them stand for.

    `rule`: refuse (InputError that names the cases, not the words), redact or send. References are texts of a
    benchmark and are left alone.
    """
    from collections import Counter
    from dataclasses import replace

    from ..judge.private_words import redact, scan

    if rule not in PRIVATE:
        raise InputError(f"--private-words is one of {', '.join(PRIVATE)}, not '{rule}'")
    if rule == "send":
        return list(cases), list(narratives), {}
    hits = [(c.id, f) for c in cases for f in scan(c.context)]
    hits += [(n.case_id, f) for n in narratives for f in scan(n.text)]
    if rule == "refuse" and hits:
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(f.kind for _, f in hits).most_common())
        named = list(dict.fromkeys(case for case, _ in hits))
        raise InputError(
            f"contexts or narratives of {len(named)} cases hold what may name a patient ({kinds}), such as case "
            f"{', '.join(named[:3])}; --private-words redact puts tags in their place, send leaves them as they are"
        )
    of_case: dict[str, dict[str, str]] = {}
    kept, texts = [], []
    for case in cases:
        context, of_case[case.id] = redact(case.context, case.id)
        kept.append(replace(case, context=context) if context != case.context else case)
    for narrative in narratives:
        key = narrative.case_id
        text, of_case[key] = redact(narrative.text, key, of_case.get(key))
        texts.append(replace(narrative, text=text) if text != narrative.text else narrative)
    return kept, texts, {tag: words for tags in of_case.values() for tag, words in tags.items()}
