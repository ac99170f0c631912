"""The words of one paid call: what is sent to a model, what comes back, and how it can go wrong.

A `Route` makes ONE attempt; retries, pacing, budget and the journal stand above it and are the same for all routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from ..errors import InputError

Kind = Literal[
    "rate_limited",  # 408 and 429: asked again, after what the provider says
    "overloaded",  # 5xx, 529
    "timeout",  # connect, read or total limit; may have been billed
    "connection",  # refused, reset, cut off
    "malformed",  # 200 with a body that is no answer: HTML, cut JSON, no choices
    "bad_request",  # other 4xx: never asked again
    "denied",  # 401, 403, unknown model, quota: ends the run before the second item
    "filtered",  # a content filter spoke: a result, never asked again
    "wrong_model",  # another model answered than was asked
    "not_allowed",  # the host is not one that this run may send to
]
AGAIN: frozenset[Kind] = frozenset({"rate_limited", "overloaded", "timeout", "connection", "malformed"})
MAYBE_BILLED: frozenset[Kind] = frozenset({"timeout", "connection", "malformed", "filtered", "wrong_model"})


class CallError(Exception):
    """One attempt failed. `retry_after` in seconds if the provider named it; the message holds no key and no text.

    `billed`: whether the provider may have charged for it; without a word by its kind.
    """

    def __init__(self, kind: Kind, message: str, *, status: int | None = None, retry_after: float | None = None,
                 billed: bool | None = None):  # fmt: skip
        super().__init__(message)
        self.kind: Kind = kind
        self.status = status
        self.retry_after = retry_after
        self.billed = kind in MAYBE_BILLED if billed is None else billed


class CallsStopped(InputError):
    """No further call makes sense; what was answered is safe and the same command goes on later.

    `kind`: "budget" (used up), "denied" and "not_allowed" (as of a call), "rate_limited" (a wait longer than a run
    waits), "no_answers" (item after item ended without one).
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Picture(NamedTuple):
    """An encoded picture without metadata: what is sent, and the SHA-256 of it (hex)."""

    data: bytes
    media_type: str
    sha256: str


class TokenChance(NamedTuple):
    """A token of the answer with its natural-log probability, and the alternatives that the provider listed."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: a system text and one user turn of texts and pictures in reading order.

    `settings`: temperature, top_p, max_tokens, seed, stop ... as OpenAI names them. `schema`: JSON schema that the
    answer shall obey, where the route can enforce one. `top_logprobs`: alternatives wanted per token; 0: none.
    """

    key: str
    content: tuple[str | Picture, ...]
    system: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. `finish_reason` is the provider's word; tokens and cost are None where unknown.

    `reasoning`: a separate reasoning field, if the provider has one (kept, never judged). `seconds`: of this attempt.
    `cost`: in the currency of the price list; None is unknown, never 0.
    """

    text: str
    finish_reason: str = ""
    refusal: str = ""
    reasoning: str = ""
    model: str = ""
    fingerprint: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    logprobs: tuple[TokenChance, ...] | None = None
    cost: float | None = None
    seconds: float = 0.0


class Route(Protocol):
    """One way to one model; `name` as in `endpoint:URL#MODEL`, `signature` all that decides its answers."""

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> Mapping[str, Any]: ...

    async def send(self, request: Request) -> Reply:
        """One attempt over HTTP, no retry. Raises CallError, and nothing else for what a server can do."""
        ...

    async def close(self) -> None:
        """Free the connections; a later `send`, perhaps in another event loop, opens new ones."""
        ...
