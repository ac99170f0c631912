"""A candidate that runs here: a transformers image-text-to-text model with an optional LoRA adapter, asked in batches.

It takes the same requests as a server does, so that it sees the same words and the same bytes of each picture.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, StoppingCriteria
from transformers.utils.logging import disable_progress_bar

from ..backends.bases import load_processor
from ..backends.encoding import Encoded, Encoder
from ..backends.folder import read_card, refuse_unsafe, settings_hash, weights_hash
from ..errors import InputError
from ..records import identity
from .chat import Picture, Reply, Request

warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft's
disable_progress_bar()
SETTINGS = ("temperature", "top_p", "top_k", "max_tokens", "repetition_penalty", "seed")
_TEXT = "\ue000"  # where the text goes once the chat template is applied
KEPT = 16  # decoded pictures


class LocalRoute:
    """Generates from a folder with a model, `adapter` (a PEFT folder) merged into it; nothing is downloaded.

    Requests that are answered together move each other's words a little, so the caller fixes the batches. Foreign text
    can produce no special token. InputError for a folder that is no such model, that holds anything but safetensors and
    data, and for an adapter that belongs to another base.
    """

    def __init__(self, base: str | Path, adapter: str | Path | None = None, *, name: str = "",
                 batch_size: int = 8, device: str | None = None):  # fmt: skip
        folders = [Path(folder) for folder in (base, adapter) if folder]
        for folder in folders:
            refuse_unsafe(folder)
        if batch_size < 1:
            raise InputError(f"a batch has at least 1 request, not {batch_size}")
        weights = weights_hash(folders[0])
        if adapter and read_card(folders[-1]).get("base_weights") not in (None, weights):
            raise InputError(f"adapter {adapter} belongs to another base than {base} (weights {weights})")
        self.name = name or "+".join(folder.resolve().name for folder in folders)
        self.batch_size = batch_size
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.bfloat16 if self.device != "cpu" else torch.float32
        processor = load_processor(Path(base))
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                base, dtype=self.dtype, trust_remote_code=False, local_files_only=True
            )
            if adapter:
                model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name} cannot be loaded: {str(error).splitlines()[0]}") from error
        self.model = model.to(self.device).eval()
        self.encoder = _Chat(processor)
        self.limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        ends = self.model.generation_config.eos_token_id
        self.ends = {self.encoder.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self.stopped = threading.Event()
        self._pictures: OrderedDict[str, Image.Image] = OrderedDict()
        self.signature: Mapping[str, Any] = {
            "route": "local",
            "base": weights,
            "adapter": weights_hash(folders[-1]) if adapter else None,
            "settings": "".join(map(settings_hash, folders)),
            "batch_size": batch_size,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def answer(self, requests: Sequence[Request]) -> list[Reply | InputError]:
        """Replies in order; an InputError in the place of a request that does not fit into the model.

        Rows with the same number of pictures run together. Draws follow from the setting `seed` and the keys of the
        batch, so a batch asked again gives the same words.
        """
        found: list[Reply | InputError] = [InputError("not asked")] * len(requests)
        groups: dict[tuple[int, str], list[tuple[int, Encoded]]] = {}
        for place, request in enumerate(requests):
            try:
                encoded = self._encode(request)
            except InputError as error:
                found[place] = error
                continue
            groups.setdefault((encoded.pictures, repr(sorted(request.settings.items()))), []).append((place, encoded))
        for group in groups.values():
            chosen = [requests[place] for place, _ in group]
            replies = self._run([encoded for _, encoded in group], chosen)
            for (place, _), reply in zip(group, replies, strict=True):
                found[place] = reply
        return found

    def stop(self) -> None:
        """End what is being generated (from another thread); its words are of no use then."""
        self.stopped.set()

    def _encode(self, request: Request) -> Encoded:
        if unknown := sorted(set(request.settings) - set(SETTINGS)):
            raise InputError(f"a local model has no setting '{unknown[0]}'; there are {', '.join(SETTINGS)}")
        pictures = [self._picture(part) for part in request.content if isinstance(part, Picture)]
        texts = [part for part in (request.system, *request.content) if part and not isinstance(part, Picture)]
        encoded = self.encoder.request("\n\n".join(texts), pictures)
        room = self.limit - len(encoded.ids) if self.limit else None
        if room is not None and room < _new_tokens(request):
            raise InputError(f"{len(encoded.ids)} tokens and {_new_tokens(request)} to come; the model takes "
                             f"{self.limit}: fewer or smaller pictures, or a lower max_tokens")  # fmt: skip
        return encoded

    @torch.inference_mode()
    def _run(self, encoded: Sequence[Encoded], requests: Sequence[Request]) -> list[Reply]:
        tokenizer = self.encoder.tokenizer
        side, tokenizer.padding_side = tokenizer.padding_side, "left"
        batch = self.encoder.batch(encoded, self.device)
        tokenizer.padding_side = side
        batch.pop("slots")
        batch = {k: v.to(self.dtype) if torch.is_floating_point(v) else v for k, v in batch.items()}
        settings, start = requests[0].settings, time.monotonic()
        keys = "\n".join(identity(request.key) for request in requests)
        digest = hashlib.sha256(f"{settings.get('seed', 0)}\n{keys}".encode("utf-8", "surrogatepass")).digest()
        with torch.random.fork_rng(enabled=True):
            torch.manual_seed(int.from_bytes(digest[:7], "big"))
            out = self.model.generate(**batch, **_generation(settings), max_new_tokens=_new_tokens(requests[0]),
                                      pad_token_id=tokenizer.pad_token_id or 0,
                                      stopping_criteria=[_Stop(self.stopped)])  # fmt: skip
        seconds = time.monotonic() - start
        replies = []
        for row, asked in zip(out[:, batch["input_ids"].shape[1] :].tolist(), encoded, strict=True):
            end = next((i for i, token in enumerate(row) if token in self.ends), None)
            text = tokenizer.decode(row if end is None else row[:end], skip_special_tokens=True)
            count = len(row) if end is None else end + 1
            replies.append(Reply(text.strip(), "length" if end is None else "stop", model=self.name,
                                 input_tokens=len(asked.ids), output_tokens=count, seconds=seconds))  # fmt: skip
        return replies

    def _picture(self, picture: Picture) -> Image.Image:
        """Decoded once: the same object each time, by which the encoder knows it again."""
        if picture.sha256 not in self._pictures:
            with Image.open(io.BytesIO(picture.data), formats=["JPEG"]) as opened:
                self._pictures[picture.sha256] = opened.convert("RGB")
            while len(self._pictures) > KEPT:
                self._pictures.popitem(last=False)
        return self._pictures[picture.sha256]


class _Chat(Encoder):
    """The judge's encoder without score slots: one text of the user's turn, which yields no special token."""

    def __init__(self, processor: Any):
        super().__init__(processor, None)  # type: ignore[arg-type]  # the rubric is for the slots only

    def _slot_tokens(self) -> tuple[list[list[int]], list[list[int]]]:
        return [], []

    def request(self, text: str, pictures: Sequence[Any]) -> Encoded:
        content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": _TEXT}]
        words = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        if words.count(_TEXT) != 1:
            raise InputError("the chat template of this model changes the text of a message; it cannot be used here")
        head, _, tail = words.partition(_TEXT)
        ids, media = self.head(head, pictures)
        return Encoded([*ids, *self.plain(text), *self.fixed(tail)], [], (), (), len(pictures), media)


class _Stop(StoppingCriteria):
    def __init__(self, stopped: threading.Event):
        self.stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.stopped.is_set(), device=input_ids.device, dtype=torch.bool)


def _new_tokens(request: Request) -> int:
    return int(request.settings.get("max_tokens", 1024))


def _generation(settings: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in settings.items() if name not in ("max_tokens", "seed")}
    if not given.get("temperature"):
        return {name: value for name, value in given.items() if name == "repetition_penalty"} | {"do_sample": False}
    return {**given, "do_sample": True}
