"""Any model behind an API as a judge: with the pictures, with the certified reference, or with both.

Every paid answer stands in the journal before anything else is asked about the same narrative, so a killed run asks
again only what was in flight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ..calls.budget import Budget
from ..calls.chat import Picture, Request, Route
from ..calls.pace import Pace
from ..calls.pictures import PictureSettings, encoded, sent
from ..calls.pump import Call, Outcome, pump
from ..calls.retry import RetryPolicy
from ..errors import InputError
from ..images import prepare
from ..manifest import hash_value
from ..probes import GREY, Shown
from ..prompt import Form, Prompt, answer_schema, render, template_hash
from ..promptfile import PromptFile
from ..records import Case, Narrative
from ..rubric import Rubric
from .asking import Feed
from .base import Answer, Job, Part, Question
from .chances import MASS_FLOOR
from .reading import READS, NoChances, Read, Reading, asked_rubric, failed, read_reply

Mode = Literal["image", "reference", "both"]
MODES: tuple[Mode, ...] = Mode.__args__  # type: ignore[attr-defined]
MAX_AGAIN, MAX_SAMPLES = 5, 50
TURN = 1_000_000  # between the seeds of an answer and of the same one asked again


class ApiJudge:
    """A judge that is asked in words through a `Route`.

    mode: "image" (pictures and narrative), "reference" (narrative and certified reference, no picture: DermBench's
    protocol) or "both". read: "written" numbers, or "expected" values from token log-probabilities (an error where the
    route gives none). samples: independent answers whose mean is the score. again: how often a malformed answer is
    asked again; the first readable one counts. settings: as in `Request` (temperature 0 for a single answer, the
    provider's own for several, and 4096 tokens, unless given). schema: ask for a JSON object and let the route enforce
    it. prompt_file: the user's own words with slots, see `PromptFile`. name: of the rater in place of the route's with
    what differs from the defaults. InputError for what does not go together.
    """

    form: Form = "full"
    batch_size = 64  # only for those who ask in batches; answers do not depend on it

    def __init__(
        self,
        route: Route,
        rubric: Rubric,
        *,
        mode: Mode = "image",
        read: Read = "written",
        samples: int = 1,
        again: int = 1,
        settings: Mapping[str, Any] | None = None,
        schema: bool = False,
        prompt_file: str | Path | None = None,
        pictures: PictureSettings | None = None,
        max_images: int | None = None,
        policy: RetryPolicy | None = None,
        pace: Pace | None = None,
        budget: Budget | None = None,
        on_call: Callable[[Call], None] | None = None,
        name: str = "",
    ):
        if mode not in MODES or read not in READS:
            raise InputError(f"a judge's mode is {' or '.join(MODES)}, its scores are {' or '.join(READS)}")
        if not 1 <= samples <= MAX_SAMPLES or not 0 <= again <= MAX_AGAIN:
            raise InputError(f"samples go from 1 to {MAX_SAMPLES}, again from 0 to {MAX_AGAIN}")
        self.settings = {**({"temperature": 0.0} if samples == 1 else {}), "max_tokens": 4096, **(settings or {})}
        if samples > 1 and self.settings.get("temperature") == 0:
            raise InputError("at temperature 0 all samples would be one answer; raise it or ask for samples=1")
        self.route, self.rubric = route, rubric
        self.mode, self.read, self.samples, self.again = mode, read, samples, again
        self.file = PromptFile(prompt_file) if prompt_file else None
        self._check_file(schema)
        self.asked = asked_rubric(rubric, read)
        self.schema = answer_schema(self.asked) if schema else None
        self.top_logprobs = min(20, len(rubric.scale.levels) + 5) if read == "expected" else 0
        self.pictures, self.max_images = pictures or PictureSettings(), max_images
        self.blind = mode == "reference"
        self.policy, self.pace, self.budget = policy or RetryPolicy(), pace or Pace(), budget or Budget()
        self.on_call = on_call
        self._chances_seen = False
        marks: list[str] = [mode] * (mode != "image") + [read] * (read != "written")
        marks += [f"mean-of-{samples}"] * (samples > 1) + ([f"file-{self.file.hash[:8]}"] if self.file else [])
        self.name = name or "+".join([route.name, *marks])
        self.notes = tuple(self._notes())

    @property
    def signature(self) -> Mapping[str, Any]:
        """Everything that moves its scores."""
        words = template_hash(
            self.asked, "full", pictures=not self.blind, reference=self.mode != "image", schema=bool(self.schema)
        )
        return {
            "judge": self.name,
            "rubric": f"{self.rubric.id}:{self.rubric.hash}",
            "form": self.form,
            "template": f"file:{self.file.hash}" if self.file else words,
            "route": dict(self.route.signature),
            "mode": self.mode,
            "read": self.read,
            "samples": self.samples,
            "ask_again": self.again,
            "settings": dict(self.settings),
            "schema": hash_value(self.schema)[:16] if self.schema else None,
            "mass_floor": MASS_FLOOR if self.read == "expected" else None,
            "top_logprobs": self.top_logprobs,
            "pictures": None if self.blind else self.pictures.signature,
            "max_images": self.max_images,
        }

    def prompt(self, case: Case, narrative: Narrative, seed: int = 0, turn: int = 0) -> Prompt:
        """What is asked about one narrative; InputError for an empty narrative or a missing reference."""
        if self.file:
            return self.file.render(case, narrative, self.asked, seed, turn, not self.blind)
        return render(
            case,
            narrative,
            self.asked,
            seed=seed,
            turn=turn,
            pictures=not self.blind,
            reference=self.mode != "image",
            schema=bool(self.schema),
        )

    def picture(self, root: Path, path: str, shown: Shown) -> Picture:
        """A picture's file as it is sent, or a grey one of its size for the blank probe."""
        if shown.probe != "blank":
            return sent(root, path, self.pictures)
        size = prepare(root, path, max_side=self.pictures.max_side).pixels.size
        return encoded(Image.new("RGB", size, GREY), f"grey {size}", self.pictures)

    def request(self, question: Question, sample: int = 0, turn: int = 0) -> Request:
        """What is sent for one answer: the pictures, then the prompt."""
        pictures = [p if isinstance(p, Picture) else self._in_memory(p) for p in question.pictures]
        settings = dict(self.settings)
        if isinstance(seed := settings.get("seed"), int):  # another draw for every answer
            settings["seed"] = seed + turn * TURN + question.repeat * self.samples + sample
        return Request(
            question.key,
            (*pictures, question.prompt.text),
            settings=settings,
            schema=self.schema,
            top_logprobs=self.top_logprobs,
        )

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order, without a journal."""
        found: dict[str, Answer] = {}
        for finished in self.stream([Job(q.key, lambda turn=0, q=q: q) for q in questions]):
            found |= {one[0]: one[1] for one in finished if not isinstance(one, Part)}
        return [found[question.key] for question in questions]

    def stream(self, jobs: Iterable[Job]) -> Iterator[list[tuple[str, Answer] | Part]]:
        """Answers as they come, and the paid answers before them, see `Streaming`.

        CallsStopped when no further call makes sense, NoChances (both InputError) when expected scores are wanted and
        the first answer has no log-probabilities.
        """
        feed = Feed(self, jobs)
        while True:
            with closing(
                pump(self.route, feed, policy=self.policy, pace=self.pace, budget=self.budget, on_call=self.on_call)
            ) as lists:
                for outcomes in lists:
                    found, again = feed.take(outcomes)
                    yield found
                    feed.waiting += again  # only now: what was paid for is on the disk
            if not feed.waiting:
                return

    def reading(self, outcome: Outcome, nonce: str) -> Reading:
        """The scores of one call, or the state that says why there are none."""
        if (reply := outcome.reply) is None:
            status = f" (status {outcome.status})" if outcome.status else ""
            if outcome.kind == "input_error":
                return failed(self.rubric, "input_error", outcome.message)
            return failed(
                self.rubric, "filtered" if outcome.kind == "filtered" else "api_error", f"{outcome.kind}{status}"
            )
        if self.read == "expected":
            self._chances_seen |= reply.logprobs is not None
            if not self._chances_seen and reply.text.strip() and not reply.refusal:
                raise NoChances(self.name)
        free = bool(self.schema) or (self.file is not None and not self.file.answer)
        return read_reply(reply, self.asked, None if free else nonce, self.read, bool(self.schema))

    def _in_memory(self, pixels: Any) -> Picture:
        return encoded(pixels, hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).hexdigest(), self.pictures)

    def _check_file(self, schema: bool) -> None:
        if self.file and schema:
            raise InputError("a prompt file asks for its own form of answer; take schema or prompt_file, not both")
        if self.file and self.file.reference != (self.mode != "image"):
            wanted = "has a slot for the reference: mode 'reference' or 'both'" if self.file.reference else \
                "has no slot {reference}: mode 'image', or add the slot"  # fmt: skip
            raise InputError(f"the prompt file {wanted}; mode is '{self.mode}'")

    def _notes(self) -> Iterator[str]:
        if self.mode == "reference":
            yield f"{self.name} compares the narrative with the case's reference and sees no picture"
        if self.mode == "both":
            yield f"{self.name} sees the pictures and the case's reference"
        if self.samples > 1:
            yield f"each score of {self.name} is the mean of {self.samples} answers"
        if self.read == "expected":
            yield f"scores of {self.name} are expected values over the levels {self.rubric.scale.levels}"
