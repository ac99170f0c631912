"""Candidates by name: what can write narratives, and how it is asked.

`[NAME=]endpoint:URL#MODEL`, `[NAME=]litellm:provider/model`, `[NAME=]local:BASE[+ADAPTER]`, `[NAME=]replay:FILE`. What
is named here is opened (keys read, weights loaded) only by `open`, so a dry run opens nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from ..judge.backends.folder import refuse_unsafe, weights_hash
from ..judge.calls.budget import Budget
from ..judge.calls.budget import Price as PriceOf
from ..judge.calls.chat import Reply, Request, Route
from ..judge.calls.guard import quiet_environment, url_host
from ..judge.calls.pace import Pace
from ..judge.calls.pictures import PictureSettings
from ..judge.calls.pump import Outcome, _Pump
from ..judge.calls.retry import RetryPolicy
from ..judge.errors import InputError, MissingExtra
from ..judge.records import Narrative, identity

KINDS = ("endpoint", "litellm", "local", "replay")
FORM = "[NAME=]endpoint:URL#MODEL, litellm:provider/model, local:BASE[+ADAPTER] or replay:FILE"
Rule = Literal["skip", "first"]


class Ask(NamedTuple):
    """One planned narrative of a system; `wanted`: it has no result yet."""

    key: str
    make: Callable[[], Request]
    wanted: bool = True


@dataclass(frozen=True)
class Asking:
    """How a candidate is asked; all of it is part of the run's signature.

    settings: as in `Request`; a value of None takes one of the defaults away. max_images and over_images: at most so
    many pictures, a case with more is skipped or ("first") its first ones are shown. pictures: size and quality.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    max_images: int | None = None
    over_images: Rule = "skip"
    pictures: PictureSettings = field(default_factory=PictureSettings)

    def __post_init__(self) -> None:
        if self.max_images is not None and self.max_images < 1:
            raise InputError(f"an image budget is at least 1 picture, not {self.max_images}; use the arm text_only")
        if self.over_images not in ("skip", "first"):
            raise InputError(f"cases with too many pictures: skip or first, not '{self.over_images}'")

    def sent(self, samples: int, sample: int = 0) -> dict[str, Any]:
        """The settings of one call: temperature 0 for a single narrative, 1 for several, 2048 tokens, unless given."""
        given = {"temperature": 0.0 if samples == 1 else 1.0, "max_tokens": 2048, **self.settings}
        if samples > 1 and given["temperature"] == 0:
            raise InputError("at temperature 0 all samples would be one narrative; raise it or ask for one sample")
        if isinstance(given.get("seed"), int):
            given["seed"] += sample
        return {name: value for name, value in given.items() if value is not None}

    @property
    def signature(self) -> Mapping[str, Any]:
        return {"settings": dict(self.settings), "max_images": self.max_images, "over_images": self.over_images,
                "pictures": self.pictures.signature}  # fmt: skip


class System(Protocol):
    """A candidate: `name` stands in every narrative, `model` is what is asked for, `asking` how it is asked."""

    name: str
    model: str
    asking: Asking

    def open(self) -> Mapping[str, Any]:
        """Read keys, load weights; returns all that decides its words. InputError, MissingExtra."""
        ...

    def stream(self, asks: Sequence[Ask], budget: Budget) -> Iterator[list[Outcome]]: ...
    def stop(self) -> None:
        """End `stream` soon, from another thread; what is finished is yielded before."""
        ...


@dataclass
class ApiSystem:
    """A model behind an API. `make_route` opens the route; `price` per token, if known; limits as in `pump`."""

    name: str
    model: str
    make_route: Callable[[], Route]
    asking: Asking = Asking()
    pace: Pace = field(default_factory=Pace)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    price: PriceOf | None = None
    route: Route | None = None
    _pump: _Pump | None = None
    _stopped: bool = False

    def open(self) -> Mapping[str, Any]:
        self.route = self.route or self.make_route()
        return self.route.signature

    def stream(self, asks: Sequence[Ask], budget: Budget) -> Iterator[list[Outcome]]:
        if self.route is None:
            self.open()
        self._stopped = False
        jobs = ((ask.key, ask.make) for ask in asks if ask.wanted and not self._stopped)
        self._pump = _Pump(self.route, jobs, self.policy, self.pace, budget, None)  # type: ignore[arg-type]
        return self._pump.run()

    def stop(self) -> None:
        self._stopped = True
        if self._pump is not None and hasattr(self._pump, "loop"):
            self._pump._in_loop(self._pump._halt, InterruptedError("stopped"), True)


@dataclass
class LocalSystem:
    """A transformers model that runs here, asked in batches that the plan fixes: redone whole or not at all."""

    name: str
    model: str
    base: Path
    adapter: Path | None
    asking: Asking = Asking()
    batch_size: int = 8
    device: str | None = None
    route: Any = None
    _stopped: bool = False

    def open(self) -> Mapping[str, Any]:
        if self.route is None:
            quiet_environment()
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not spin
            try:
                from ..judge.calls.local_route import LocalRoute
            except ImportError as error:
                raise MissingExtra(f"a local model ({error.name or error})", "local") from error
            self.route = LocalRoute(self.base, self.adapter, name=self.model, batch_size=self.batch_size,
                                    device=self.device)  # fmt: skip
        return self.route.signature

    def stream(self, asks: Sequence[Ask], budget: Budget) -> Iterator[list[Outcome]]:
        self._stopped = False
        for start in range(0, len(asks), self.batch_size):
            batch = asks[start : start + self.batch_size]
            if self._stopped or not any(ask.wanted for ask in batch):
                continue
            outcomes: dict[str, Outcome] = {}
            requests = []
            for ask in batch:
                try:
                    requests.append(ask.make())
                except InputError as error:
                    outcomes[ask.key] = Outcome(ask.key, None, "input_error", str(error))
            for request, reply in zip(requests, self.route.answer(requests), strict=True):
                outcomes[request.key] = (
                    Outcome(request.key, reply, attempts=("reply",))
                    if isinstance(reply, Reply)
                    else Outcome(request.key, None, "input_error", str(reply))
                )
            if not self._stopped:
                yield [outcomes[ask.key] for ask in batch if ask.wanted]

    def stop(self) -> None:
        self._stopped = True
        if self.route is not None:
            self.route.stop()


@dataclass
class RecordedSystem:
    """Narratives that were written elsewhere: texts, class probabilities, a reader study; nothing is asked."""

    name: str
    model: str
    file_hash: str
    narratives: Mapping[tuple[str, str, int], Narrative]  # by identity of the case, arm, sample
    asking: Asking = Asking()

    def open(self) -> Mapping[str, Any]:
        return {"route": "replay", "file": self.file_hash}

    def find(self, case_id: str, arm: str, sample: int) -> Narrative | None:
        return self.narratives.get((identity(case_id), arm, sample))

    def has(self, arm: str, sample: int) -> bool:
        return any(key[1:] == (arm, sample) for key in self.narratives)

    def stream(self, asks: Sequence[Ask], budget: Budget) -> Iterator[list[Outcome]]:
        return iter(())

    def stop(self) -> None:
        pass


class Spec(NamedTuple):
    """A candidate as named on the command line; `name` is "" where the text gives none."""

    name: str
    kind: str
    rest: str

    @property
    def host(self) -> str:
        """Where it sends to, as in "api.openai.com:443"; "" for what runs here."""
        if self.kind == "endpoint":
            return str(url_host(self.rest.rpartition("#")[0]))
        if self.kind == "litellm":
            from ..judge.calls.hosted import PROVIDERS

            provider = self.rest.partition("/")[0]
            url = (PROVIDERS[provider].base_url if provider in PROVIDERS else "") or os.environ.get("AZURE_API_BASE")
            return str(url_host(url)) if url else ""
        return ""

    @property
    def text(self) -> str:
        return f"{self.kind}:{self.rest}"


def read_spec(text: str) -> Spec:
    """Read a candidate's name; InputError that shows the forms.

    >>> read_spec("mine=endpoint:http://127.0.0.1:8000/v1#qwen").name, read_spec("litellm:openai/gpt-4o").kind
    ('mine', 'litellm')
    """
    found = re.fullmatch(rf"(?:([^:=]+)=)?({'|'.join(KINDS)}):(.+)", text.strip(), re.DOTALL)
    if found is None or (found[2] == "endpoint" and not all(found[3].rpartition("#")[::2])):
        raise InputError(f"'{text}' names no candidate; the forms are {FORM}")
    return Spec((found[1] or "").strip(), found[2], found[3])


def local_name(base: Path, adapter: Path | None) -> str:
    """Folder names and the first digits of the weights' hash, which tells two checkpoints of one name apart."""
    for folder in filter(None, (base, adapter)):
        refuse_unsafe(folder)
    names = "+".join(folder.resolve().name for folder in (base, adapter) if folder)
    return f"{names}@{weights_hash(adapter or base)[:8]}"
