"""Which family a model is of, by its name: judges favour their own kin, so it must be known who judges whom."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..judge.errors import InputError

# The first that fits counts, so what is built on another model stands before it.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("medgemma", "gemma"), ("paligemma", "gemma"), ("gemma", "gemma"), ("gemini", "gemini"),
    ("claude", "claude"), ("deepseek", "deepseek"), ("internvl", "internvl"), ("internlm", "internvl"),
    ("llava", "llama"), ("llama", "llama"), ("vicuna", "llama"),
    ("qwen", "qwen"), ("qwq", "qwen"), ("qvq", "qwen"), ("huatuogpt", "qwen"), ("lingshu", "qwen"),
    ("pixtral", "mistral"), ("ministral", "mistral"), ("magistral", "mistral"), ("mistral", "mistral"),
    ("mixtral", "mistral"), ("grok", "grok"), ("glm", "glm"), ("minicpm", "minicpm"), ("molmo", "molmo"),
    ("phi", "phi"), ("idefics", "idefics"), ("smolvlm", "idefics"), ("command", "cohere"), ("aya", "cohere"),
    ("nova", "nova"), ("kimi", "kimi"), ("gpt", "gpt"), ("chatgpt", "gpt"), ("o1", "gpt"), ("o3", "gpt"), ("o4", "gpt"),
)  # fmt: skip
# Those that Google makes are kin: Gemma is distilled from Gemini.
_KIN = {"gemma": "google", "gemini": "google"}
_VERSION = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest|preview|v\d+:\d+)$")


def family(model: str) -> str:
    """The family of a model by its name, "" if it is not known; a name may carry a route and what differs.

    >>> family("litellm:openai/gpt-4o-2024-08-06"), family("google/medgemma-4b-it"), family("our-own-model")
    ('gpt', 'gemma', '')
    """
    words = re.findall(r"[a-z]+[0-9]*|[0-9]+", bare_name(model))
    for start, name in _FAMILIES:
        if start in words or start in (word.rstrip("0123456789") for word in words):
            return name
    return next((name for start, name in _FAMILIES if len(start) > 4 and start in bare_name(model)), "")


def bare_name(model: str) -> str:
    """The name of a model without route, provider, date and what a judge adds behind a "+"; lower case.

    >>> bare_name("endpoint:http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct+reference")
    'qwen2.5-vl-7b-instruct'
    """
    name = model.strip().casefold().rsplit("#", 1)[-1]
    name = re.sub(r"^(?:local|endpoint|litellm|replay|hf):", "", name).split("+", 1)[0].rstrip("/").rsplit("/", 1)[-1]
    while (short := _VERSION.sub("", name)) != name and short:
        name = short
    return name


def same_family(judge: str, systems: Iterable[str]) -> tuple[str, ...]:
    """A note for every candidate that is of the judge's family (Gemini and Gemma count as kin); () if none is.

    >>> same_family("litellm:openai/gpt-4o-2024-08-06", ["gpt-5-mini", "medgemma-4b"])
    ("judge 'gpt-4o' and candidate 'gpt-5-mini' are both of the family gpt: it may favour its own kin",)
    """
    own = family(judge)
    notes = []
    for system in sorted(set(systems)):
        other = family(system)
        if own and _KIN.get(own, own) == _KIN.get(other, other):
            both = own if own == other else f"{own} and {other}"
            text = f"judge '{bare_name(judge)}' and candidate '{system}' are both of the family {both}"
            notes.append(f"{text}: it may favour its own kin")
    return tuple(notes)


def check_judge(judge: str, systems: Iterable[str], *, allow_self: bool = False) -> tuple[str, ...]:
    """The notes of `same_family`; InputError if the judge itself is among the candidates, unless `allow_self`.

    Two names are one model if they differ only in route, provider or date.
    """
    named = sorted(set(systems))
    if not allow_self and (own := [system for system in named if bare_name(system) == bare_name(judge)]):
        raise InputError(
            f"judge '{judge}' is the candidate '{own[0]}': a model that rates itself is no judge; name another one, "
            "or say that this is meant (allow_self)"
        )
    return same_family(judge, named)
