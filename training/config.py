"""A recipe is a YAML file: what to train, on what, and how; unknown keys are errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..judge.errors import InputError

Objective = Literal["cross-entropy", "regression", "reward", "soreb", "grpo", "rloo"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Strict):
    """Where the rated narratives are: a benchmark folder, or the synthetic generator."""

    folder: str = ""
    narratives: str = "narratives.jsonl"
    ratings: str = "ratings.parquet"
    split: str = "train"
    synthetic_cases: int = Field(default=0, ge=0)
    synthetic_seed: int = 1
    counterfactuals: float = Field(default=0.0, ge=0, le=1)
    panel_seed: int = 0
    anchors: float = Field(default=1.0, gt=0)


class Stage(_Strict):
    """Steps of training, rows in each, and the highest rate of learning."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    rate: float = Field(gt=0)


class Shape(_Strict):
    """Size of a base that is built from config (pixels, patch, widths, layers)."""

    side: int = 96
    patch: int = 8
    shuffle: int = 3
    vision_width: int = 128
    vision_layers: int = 4
    width: int = 192
    layers: int = 4
    feed_forward: int = 512
    vocabulary: int = 1152


class Pretraining(_Strict):
    """Build and pre-train a base from random weights (synthetic data only)."""

    shape: Shape = Shape()
    attributes: Stage
    claims: Stage
    narratives: Stage
    critiques: float = Field(default=0.2, ge=0, le=1)
    scores: bool = True  # whether the base learns the true scores; without, only that a level stands in each slot


class Lora(_Strict):
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = r"^(?!.*(vision|visual)).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$"

    @field_validator("targets")
    @classmethod
    def _readable(cls, targets: str) -> str:
        try:
            re.compile(targets)
        except re.error as error:
            raise ValueError(f"'{targets}' is no regular expression: {error}") from error
        return targets


class Reward(_Strict):
    """Settings of the objectives that learn from a reward.

    kl: weight of the KL divergence to the judge that training started from; the others are for sampled critiques:
    generations: answers sampled per narrative; tokens: of an answer at most; decay: of soreb's moving baseline.
    """

    kl: float = Field(default=0.05, ge=0)
    generations: int = Field(default=4, ge=2)
    tokens: int = Field(default=256, ge=8)
    temperature: float = Field(default=1.0, gt=0)
    decay: float = Field(default=0.95, ge=0, lt=1)


class Images(_Strict):
    """How a picture reaches the model. longest_edge: in pixels, 0 for what the model's own processor says; tiles: cut
    into several views, where the processor can."""

    longest_edge: int = Field(default=0, ge=0)
    tiles: bool = False


class Recipe(_Strict):
    """One training run. `base` is a model folder, or "pretrained" for the base that `pretraining` builds.
    `label_claims`: steps that first teach a base of this project what the labels of the training pictures look like.

    `order`: "scores" (slots first, critique on demand) or "critique" (critique first, then slots). `objective`:
    "cross-entropy" (trl's SFT on the rounded mean of the experts), "regression" (cross-entropy on soft labels + squared
    error of the expected score), "reward" (expected squared-error reward over the levels, KL to `start`; order
    "scores"), "soreb", "grpo", "rloo" (reward on sampled critiques and scores, KL to `start`; order "critique").
    `start`: an adapter folder to go on from ("embedded": that of the embedded judge); rewards need one.
    `self_critiques`: learn from critiques that `start` writes, in place of the experts' (TRACT's second stage).
    `labels`: for a ladder over numbers of rated narratives. `quantize`, `checkpointing`, `accumulate`: a base in 8 or 4
    bits (needs bitsandbytes), activations computed again to save memory, batches added up before a step. `save_every`:
    steps between checkpoints that a broken-off training goes on from.
    """

    name: str
    rubric: str = "derm6"
    seed: int = 0
    threads: int = Field(default=1, ge=1)
    data: Data
    base: str = "pretrained"
    pretraining: Pretraining | None = None
    label_claims: Stage | None = None
    objective: Objective = "regression"
    order: Literal["scores", "critique"] = "scores"
    self_critiques: bool = False
    reward: Reward = Reward()
    start: str = ""
    labels: tuple[int, ...] = ()
    form: Literal["bound", "full"] = "bound"
    max_images: int = Field(default=1, ge=1)
    images: Images = Images()
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Literal["", "8bit", "4bit"] = ""
    checkpointing: bool = False
    accumulate: int = Field(default=1, ge=1)
    save_every: int = Field(default=0, ge=0)
    lora: Lora = Lora()
    sft: Stage
    mse_weight: float = Field(default=0.3, ge=0)
    image_dropout: float = Field(default=0.1, ge=0, le=1)
    critiques: float = Field(default=0.1, ge=0, le=1)
    text_only: bool = True
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_base(self) -> Recipe:
        if self.pretraining and self.label_claims:
            raise ValueError("label_claims teach a base that is there: name it with base, and leave out pretraining")
        return self


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe; InputError names the file and the key that is wrong."""
    try:
        return Recipe.model_validate(yaml.safe_load(Path(path).read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        wrong = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a slip explains what is missing
        found = [f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in wrong]
        raise InputError(f"{path}: " + "; ".join(found)) from error
