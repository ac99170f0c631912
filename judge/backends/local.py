"""A judge that runs here: a transformers image-text-to-text model, a PEFT adapter, and score slots.

All slots are read in one forward pass: the expected value over the tokens of the rubric's levels after each "Name:".
A judge of the order "critique" first writes its critique and is then read behind it.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForImageTextToText, StoppingCriteria, StoppingCriteriaList
from transformers.utils.logging import disable_progress_bar

from ..critique import read_critique
from ..prompt import Form, template_hash
from ..records import Score
from ..rubric import Rubric
from .base import Answer, Question
from .bases import load_processor
from .card_checks import check_card
from .domain import Domain, pooled, watch_pictures
from .encoding import CRITIQUE, SCORES, Encoded, Encoder
from .folder import read_card, refuse_unsafe, settings_hash, weights_hash

warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft's, not the user's
disable_progress_bar()  # loading takes a second; a bar for it would stand in the way of ours

MASS_FLOOR = 0.5
WORDS = 256  # tokens of a critique at most, unless the judge's card says otherwise
ROWS = 8  # read at once on a CPU; more spill the cache and are slower


def read_slots(
    logits: torch.Tensor, levels: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Expected value over the level tokens.

    logits: float [batch, dimensions, vocabulary]; levels: token ids [dimensions, levels]; values: [levels].
    Returns expected [batch, dimensions], distribution [batch, dimensions, levels] (sums to 1), mass [batch,
    dimensions] (probability on the level tokens before renormalising).
    """
    wide = logits.float()
    chosen = torch.gather(wide, 2, levels.expand(wide.shape[0], -1, -1))
    mass = torch.exp(torch.logsumexp(chosen, -1) - torch.logsumexp(wide, -1))
    distribution = torch.softmax(chosen, -1)
    return distribution @ values, distribution, mass


def slot_logits(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Logits at the slots, float [batch, dimensions, vocabulary]; only the tail of the text goes through the head."""
    inputs = {k: v for k, v in batch.items() if k != "slots"}
    slots, length = batch["slots"], inputs["input_ids"].shape[1]
    keep = length - int(slots.min())
    logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits
    index = (slots - (length - logits.shape[1])).unsqueeze(-1).expand(-1, -1, logits.shape[-1])
    return torch.gather(logits, 1, index)


class LocalJudge:
    """Loads base and adapter (merged), checks that they belong together, and scores batches."""

    def __init__(
        self,
        base: Path,
        adapter: Path | None,
        rubric: Rubric,
        *,
        name: str,
        batch_size: int = 32,
        device: str | None = None,
        critique: bool = False,
    ):
        for folder in filter(None, (base, adapter)):
            refuse_unsafe(Path(folder))
        card = read_card(adapter or base)
        self.weights = check_card(card, base, adapter, rubric)
        self.name, self.rubric, self.batch_size = name, rubric, batch_size
        self.form: Form = card.get("form", "full")
        self.order, self.words = card.get("order", "scores"), int(card.get("critique_tokens", WORDS))
        self.critique = critique or self.order == "critique"  # which cannot score without
        self.max_images: int | None = card.get("max_images")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.bfloat16 if self.device != "cpu" or _fast_bf16() else torch.float32
        processor = load_processor(base, card.get("images"))
        here: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        stored = AutoConfig.from_pretrained(base, **here).dtype
        # peft adds a float32 product to the weights and rounds once; weights of another kind would be rounded twice.
        kind = self.dtype if stored == self.dtype else torch.float32
        model = AutoModelForImageTextToText.from_pretrained(base, dtype=kind, **here)
        if adapter:
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        self.model = model.to(self.device, self.dtype).eval()
        self.encoder = Encoder(processor, rubric)
        self.levels = torch.tensor(self.encoder.levels, device=self.device)
        self.values = torch.tensor(rubric.scale.levels, dtype=torch.float32, device=self.device)
        self.blind, self.card = bool(card.get("blind")), card
        self.domain = Domain(Path(adapter or base), card.get("domain"), self.device)
        self.rows = ROWS if self.device == "cpu" else batch_size
        self.notes = tuple(card.get("notes", ()))
        self.limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.signature = {
            "judge": name,
            "rubric": f"{rubric.id}:{rubric.hash}",
            "form": self.form,
            "template": template_hash(rubric, self.form),
            "base": self.weights,
            "settings": settings_hash(base) + (settings_hash(adapter) if adapter else ""),
            "blind": self.blind,
            "adapter": weights_hash(adapter) if adapter else None,
            "read": "slots",
            "order": self.order,
            "critique": self.critique,
            "critique_tokens": self.words if self.critique else None,
            "mass_floor": MASS_FLOOR,
            "batch_size": batch_size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "max_images": self.max_images,
            "images": card.get("images"),
        }

    def writing(self) -> LocalJudge:
        """The same judge, loaded once, that also writes critiques."""
        twin = copy(self)
        twin.critique = True
        twin.signature = self.signature | {"critique": True, "critique_tokens": self.words}
        return twin

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Scores of one batch.

        Inside, rows of like length are read a few at a time, and written a batch at a time (what they are run with
        depends on the batch alone); rows with and without pictures apart, since they cannot share a tensor.
        """
        results: list[Answer | None] = [None] * len(questions)
        ready: dict[bool, list[tuple[int, Encoded]]] = {True: [], False: []}
        for i, question in enumerate(questions):
            pictures = () if self.blind else question.pictures
            encoded = self.encoder.encode(question.prompt, pictures)
            room = self.words if self.order == "critique" else 0
            if self.limit and len(encoded.ids) + room > self.limit:
                more = f" and {room} for its critique" if room else ""
                reason = f"{len(encoded.ids)} tokens{more}, the model takes {self.limit}"
                results[i] = Answer(dict.fromkeys(self.rubric.names, Score(None, "input_error", reason)))
            else:
                ready[bool(pictures)].append((i, encoded))
        for group in ready.values():
            group.sort(key=lambda entry: len(entry[1].ids))
            for start in range(0, len(group), self.batch_size):
                part = group[start : start + self.batch_size]
                answered = self._run([questions[i] for i, _ in part], [encoded for _, encoded in part])
                for (i, encoded), (scores, feature, written) in zip(part, answered, strict=True):
                    text = [s.text for s in questions[i].prompt.segments if s.foreign][-1]  # the narrative
                    flags = self.domain.flags(text, encoded.sizes[-1], feature)
                    critique = read_critique(written.text, self.rubric)
                    results[i] = Answer(scores, critique, written.text, None, flags)
        return [r for r in results if r is not None]

    @torch.inference_mode()
    def _run(
        self, questions: Sequence[Question], encoded: Sequence[Encoded]
    ) -> list[tuple[dict[str, Score], Any, Written]]:
        written = [Written("", "scores")] * len(encoded)
        if self.order == "critique":
            before = [self.encoder.before(e) + self.encoder.fixed(CRITIQUE) for e in encoded]
            written = self._write([e._replace(ids=ids) for e, ids in zip(encoded, before, strict=True)])
            encoded = [
                self.encoder.encode(q.prompt, q.pictures if e.pictures else (), self.encoder.said(w.text))
                for q, e, w in zip(questions, encoded, written, strict=True)
            ]
        read = [self._read(encoded[start : start + self.rows]) for start in range(0, len(encoded), self.rows)]
        if self.critique and self.order == "scores":  # words behind the slots; the scores are those without them
            lead = self.encoder.fixed(f"\n{CRITIQUE}")
            written = self._write([e._replace(ids=e.ids + lead) for e in encoded])
        results = []
        for (scores, feature), w in zip(itertools.chain.from_iterable(read), written, strict=True):
            if self.order == "critique" and w.end != "scores":
                scores = dict.fromkeys(self.rubric.names, _unreached(w, self.words))
            results.append((scores, feature, w))
        return results

    def _read(self, encoded: Sequence[Encoded]) -> list[tuple[dict[str, Score], Any]]:
        """Scores at the slots, and what the vision tower saw, of rows in one pass."""
        batch = self._batch(encoded)
        with watch_pictures(self.model, bool(self.domain.pictures) and "pixel_values" in batch) as seen:
            logits = slot_logits(self.model, batch)
        expected, distribution, mass = read_slots(logits, self.levels, self.values)
        features = pooled(seen, [e.pictures for e in encoded])
        return [
            ({name: _score(e[k], d[k], m[k]) for k, name in enumerate(self.rubric.names)}, feature)
            for e, d, m, feature in zip(expected.tolist(), distribution.tolist(), mass.tolist(), features, strict=True)
        ]

    def _batch(self, encoded: Sequence[Encoded]) -> dict[str, Any]:
        batch = self.encoder.batch(encoded, self.device)
        return {k: v.to(self.dtype) if torch.is_floating_point(v) else v for k, v in batch.items()}

    def _write(self, encoded: Sequence[Encoded]) -> list[Written]:
        """What the model goes on to write behind these tokens, greedily, up to the line of the scores."""
        tokenizer = self.encoder.tokenizer
        side, tokenizer.padding_side = tokenizer.padding_side, "left"
        try:
            batch = self._batch(encoded)
        finally:
            tokenizer.padding_side = side
        batch.pop("slots")
        start = batch["input_ids"].shape[1]
        stop = StoppingCriteriaList([_Reached(tokenizer, start)])
        out = self.model.generate(**batch, max_new_tokens=self.words, do_sample=False, stopping_criteria=stop)[
            :, start:
        ]
        results = []
        for ids, whole in zip(out, tokenizer.batch_decode(out, skip_special_tokens=True), strict=True):
            text, reached, _ = whole.partition(SCORES)
            ended = tokenizer.eos_token_id in ids.tolist()
            results.append(Written(text.strip(), "scores" if reached else "stop" if ended else "length"))
        return results


class Written(NamedTuple):
    """Words of a judge; `end`: "scores" (their line was reached), "stop" (it ended) or "length" (it was cut)."""

    text: str
    end: str


class _Reached(StoppingCriteria):
    """Ends a row once the line of the scores stands behind what it wrote; whatever else it writes is not read."""

    def __init__(self, tokenizer: Any, start: int):
        self.tokenizer, self.start = tokenizer, start

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        tail = input_ids[:, max(self.start, input_ids.shape[1] - len(SCORES)) :]  # a token is a byte or more
        ended = [SCORES in text for text in self.tokenizer.batch_decode(tail)]
        return torch.tensor(ended, device=input_ids.device)


def _unreached(written: Written, limit: int) -> Score:
    if written.end == "length":
        return Score(None, "truncated", f"the critique was not at its end after {limit} tokens")
    return Score(None, "unparsable", "the judge stopped before it came to the scores")


def _score(expected: float, distribution: list[float], mass: float) -> Score:
    if not math.isfinite(mass) or not math.isfinite(expected):
        return Score(None, "unparsable", "the model returned a number that is not finite")
    if mass < MASS_FLOOR:
        reason = f"only {mass:.2f} of the probability is on the scale's levels (floor {MASS_FLOOR})"
        return Score(None, "unparsable", reason, tuple(distribution), mass)
    return Score(expected, "scored", "", tuple(distribution), mass)


def _fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX); elsewhere float32 is faster."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text
