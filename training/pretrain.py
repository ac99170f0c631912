"""A base model from nothing: a small vision-language transformer that learns to see attributes and to check claims.

Three stages, each the ground of the next (the order was found by experiment; joint training from scratch stays at the
majority rate): attributes (the picture's tokens land in the vocabulary of the value words), claims (lists of
"attribute value", judged right or wrong at each value), narratives (the same judgement inside real sentences, with
score slots and critiques). What it learns from is in the benchmark folder: tags, spans, truth. SYNTHETIC data only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..judge.prompt import render
from ..judge.records import Case, Narrative
from ..judge.rubric import Rubric
from .descent import Descent

SPECIAL = ("<pad>", "<bos>", "<eos>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
VERDICTS = ("ok", "wrong", "contradictory", "vague", "invented", "mild", "severe")
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endfor %}"
)


class Corpus(NamedTuple):
    """pixels: uint8 [cases, side, side, 3]; narratives with the index of their case; critique texts by narrative."""

    pixels: np.ndarray
    cases: Sequence[Case]
    narratives: Sequence[Narrative]
    case_of: np.ndarray
    critiques: Sequence[str]


def build_tokenizer(texts: Sequence[str], words: Sequence[str], size: int) -> Any:
    """Byte-level BPE (every byte is in the vocabulary, so any text can be read); digits are ordinary single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator([*texts, *[f" {word}" for word in words] * 50], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side="right",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def build_processor(tokenizer: Any, side: int, image_tokens: int) -> Any:
    from transformers import Idefics3ImageProcessorPil, Idefics3Processor

    images = Idefics3ImageProcessorPil(
        do_image_splitting=False,
        size={"longest_edge": side},
        max_image_size={"longest_edge": side},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=image_tokens, chat_template=TEMPLATE)


def build_model(tokenizer: Any, shape: dict[str, int]) -> Any:
    """Idefics3 from config; shape: side, patch, shuffle, vision_width, vision_layers, width, layers, feed_forward."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    ids = dict(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    config = Idefics3Config(
        vision_config=dict(
            hidden_size=shape["vision_width"],
            intermediate_size=4 * shape["vision_width"],
            num_hidden_layers=shape["vision_layers"],
            num_attention_heads=4,
            image_size=shape["side"],
            patch_size=shape["patch"],
        ),
        text_config=dict(
            model_type="llama",
            vocab_size=len(tokenizer),
            hidden_size=shape["width"],
            intermediate_size=shape["feed_forward"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            **ids,
        ),
        scale_factor=shape["shuffle"],
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        attn_implementation="eager",
        **ids,
    )
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def to_pixels(pictures: np.ndarray) -> Any:
    """uint8 [n, side, side, 3] to float [n, 1, 3, side, side] in [-1, 1], as the image processor does."""
    import torch

    return (torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1).unsqueeze(1)


def see(model: Any, pixels: Any) -> Any:
    """Picture tokens as the language model gets them, float [n, tokens, width]."""
    states = model.model.vision_model(pixels.flatten(0, 1)).last_hidden_state
    return model.model.connector(states)


def learn_attributes(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    attributes: dict[str, list[str]],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Stage 1: the picture tokens name each attribute; the class weights are the embeddings of the value words.

    Every token has its say (log-sum-exp), so that the one token with a small lesion can speak for the picture.

    Yields (step, loss, share right per attribute on the last batches).
    """
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(seed)
    ids = {name: torch.tensor([tokenizer.encode(f" {v}")[0] for v in values]) for name, values in attributes.items()}
    gold = {
        name: torch.tensor([values.index(c.tags["attributes"][name]) for c in corpus.cases])
        for name, values in attributes.items()
    }
    parts = (model.model.vision_model, model.model.connector, model.get_input_embeddings())
    descent = Descent([p for part in parts for p in part.named_parameters()], rate, steps)
    right: dict[str, float] = dict.fromkeys(attributes, 0.0)
    for step in range(steps):
        chosen = rng.integers(0, len(corpus.cases), batch)
        pictures = corpus.pixels[chosen]
        pictures = np.rot90(pictures, int(rng.integers(4)), (1, 2))
        pictures = pictures[:, :, ::-1] if rng.random() < 0.5 else pictures
        with torch.autocast("cpu", torch.bfloat16):
            tokens = see(model, to_pixels(pictures))
        each = F.rms_norm(tokens.float(), (tokens.shape[-1],)) * 3
        table, loss = model.get_input_embeddings().weight, torch.zeros(())
        for name in attributes:
            logits = torch.logsumexp(each @ table[ids[name]].T, 1)
            loss = loss + F.cross_entropy(logits, gold[name][chosen]) / len(attributes)
            share = float((logits.argmax(1) == gold[name][chosen]).float().mean())
            right[name] = 0.98 * right[name] + 0.02 * share if step > 20 else share
        descent.step(loss)
        yield step, float(loss.detach()), right


def picture_tokens(model: Any, corpus: Corpus, batch: int = 128) -> Any:
    """Picture tokens of every case, bf16 [cases, tokens, width]; the vision tower is frozen from here on."""
    import torch

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return torch.cat(
            [see(model, to_pixels(corpus.pixels[i : i + batch])).bfloat16() for i in range(0, len(corpus.cases), batch)]
        ).clone()


def learn_claims(
    model: Any, tokenizer: Any, corpus: Corpus, seen: Any, *, steps: int, batch: int, rate: float, seed: int
) -> Iterator[tuple[int, float, float]]:
    """Stage 2: "<picture> colour red shape round ...", and at each value whether it is so.

    Yields step, loss, share right.
    """

    rng = random.Random(seed)
    tags = [case.tags["attributes"] for case in corpus.cases]
    values = {name: sorted({t[name] for t in tags}) for name in tags[0]}
    names = {name: tokenizer.encode(f" {name}") for name in values}
    coded = {name: {v: tokenizer.encode(f" {v}") for v in values[name]} for name in values}
    verdict = {name: tokenizer.encode(f" {name}")[0] for name in VERDICTS}
    head = picture_head(tokenizer, seen.shape[1])
    descent = Descent(list(model.model.text_model.named_parameters()), rate, steps)
    right = 0.5
    for step in range(steps):
        rows, marks, chosen = [], [], []
        for row in range(batch):
            case = rng.randrange(len(tags))
            ids = list(head)
            order = list(values)
            rng.shuffle(order)
            for name in order:
                value = tags[case][name] if rng.random() < 0.5 else rng.choice(values[name])
                ids += names[name] + coded[name][value]
                marks.append((row, len(ids) - 1, verdict["ok" if value == tags[case][name] else "wrong"]))
            rows.append(ids)
            chosen.append(case)
        hidden = hidden_states(model, tokenizer, rows, seen[chosen])
        loss, share = verdict_loss(model, hidden, marks, list(verdict.values()))
        right = 0.98 * right + 0.02 * share
        descent.step(loss)
        yield step, float(loss.detach()), right


def learn_narratives(
    model: Any,
    encoder: Any,
    corpus: Corpus,
    seen: Any,
    rubric: Rubric,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    critiques: float,
    scores: bool = True,
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Stage 3: narratives in the judge's own prompt; a verdict at the end of every span, the true score in the slots.

    critiques: share of rows (0-1) that also learn to write the critique. Without `scores` a level drawn by lot stands
    in every slot: a level belongs there, nothing says which. Yields step, loss, running figures.
    """
    import torch
    from torch.nn import functional as F

    from .losses import slot_loss

    rng = random.Random(seed)
    tokenizer = encoder.tokenizer
    verdict = {name: tokenizer.encode(f" {name}")[0] for name in VERDICTS}
    lead, end = encoder.fixed("\nCritique:"), [tokenizer.eos_token_id]
    levels = torch.tensor(encoder.levels)
    by_case = {int(c): k for k, c in enumerate(range(len(corpus.cases)))}
    lookup = {case.id: case for case in corpus.cases}
    dummy = [_blank(corpus.pixels.shape[1])]
    descent = Descent(list(model.model.text_model.named_parameters()), rate, steps)
    figures = {"right": 0.8}
    for step in range(steps):
        rows, marks, slots, gold, chosen, words = [], [], [], [], [], []
        for row in range(batch):
            k = rng.randrange(len(corpus.narratives))
            narrative = corpus.narratives[k]
            encoded = encoder.encode(render(lookup[narrative.case_id], narrative, rubric, "bound", seed=step), dummy)
            start = encoded.starts[-1]
            offsets = tokenizer(narrative.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            last = {stop: i for i, (_, stop) in enumerate(offsets)}
            marks += [
                (row, start + last[stop], verdict[label])
                for _, stop, label in narrative.provenance["spans"]
                if stop in last
            ]
            ids = encoded.ids
            if rng.random() < critiques:
                written = tokenizer.encode(" " + corpus.critiques[k]) + end
                words += [(row, len(ids) + len(lead) - 1 + i, token) for i, token in enumerate(written)]
                ids = ids + lead + written
            rows.append(ids)
            slots.append(encoded.slots)
            truth = narrative.provenance["truth"]
            gold.append([truth[name] if scores else rng.choice(rubric.scale.levels) for name in rubric.names])
            chosen.append(by_case[int(corpus.case_of[k])])
        hidden = hidden_states(model, tokenizer, rows, seen[chosen])
        loss, share = verdict_loss(model, hidden, marks, list(verdict.values()))
        at = torch.tensor(slots)
        logits = model.lm_head(hidden[torch.arange(batch)[:, None], at])
        scored, expected = slot_loss(
            logits,
            levels,
            torch.tensor(rubric.scale.levels, dtype=torch.float32),
            torch.tensor(gold, dtype=torch.float32),
        )
        loss = loss + 0.5 * scored
        if words:
            where = torch.tensor(words)
            loss = loss + 0.3 * F.cross_entropy(model.lm_head(hidden[where[:, 0], where[:, 1]]).float(), where[:, 2])
        figures["right"] = 0.98 * figures["right"] + 0.02 * share
        for d, name in enumerate(rubric.names if scores else ()):
            error = float((expected[:, d].detach() - torch.tensor(gold)[:, d]).abs().mean())
            figures[name] = 0.97 * figures.get(name, error) + 0.03 * error
        descent.step(loss)
        yield step, float(loss.detach()), figures


def picture_head(tokenizer: Any, tokens: int) -> list[int]:
    """Token ids of a picture of `tokens` picture tokens, as the processor writes it."""
    return tokenizer.encode("<fake_token_around_image><global-img>" + "<image>" * tokens + "<fake_token_around_image>")


def _blank(side: int) -> Any:
    from PIL import Image

    return Image.new("RGB", (side, side), (128, 128, 128))


def hidden_states(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], seen: Any) -> Any:
    """Last hidden states, right-padded [rows, length, width], with the picture tokens in their places."""
    import torch

    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    with torch.autocast("cpu", torch.bfloat16):
        embedded = model.get_input_embeddings()(ids)
        place = (ids == tokenizer.convert_tokens_to_ids("<image>")).unsqueeze(-1).expand_as(embedded)
        embedded = embedded.masked_scatter(place, seen.to(embedded.dtype))
        return model.model.text_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False).last_hidden_state


def verdict_loss(
    model: Any, hidden: Any, marks: Sequence[tuple[int, int, int]], verdicts: Sequence[int]
) -> tuple[Any, float]:
    """Cross-entropy over the verdict tokens at marks (row, position, token), and the share that is right (0-1)."""
    import torch
    from torch.nn import functional as F

    where = torch.tensor(marks)
    logits = model.lm_head(hidden[where[:, 0], where[:, 1]].float())
    best = torch.tensor(verdicts)[logits[:, verdicts].argmax(1)]
    return F.cross_entropy(logits, where[:, 2]), float((best == where[:, 2]).float().mean())
