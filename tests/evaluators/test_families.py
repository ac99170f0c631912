"""Families of models, and a judge that stands among the candidates."""

import pytest

from dermjudge.evaluators.families import bare_name, check_judge, family, same_family
from dermjudge.judge.errors import InputError


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o-mini", "gpt"), ("GPT-o4-mini", "gpt"), ("o3-mini", "gpt"), ("chatgpt-4o-latest", "gpt"),
        ("litellm:anthropic/claude-3-5-sonnet-20241022", "claude"), ("litellm:gemini/gemini-2.5-flash", "gemini"),
        ("google/medgemma-4b-it", "gemma"), ("gemma3n", "gemma"), ("LLaVA-Med-7B", "llama"),
        ("meta-llama/Llama-3.2-11B-Vision", "llama"), ("Qwen2.5-VL-7B-Instruct+reference", "qwen"),
        ("HuatuoGPT-Vision", "qwen"), ("InternVL3-8B", "internvl"), ("pixtral-12b-2409", "mistral"),
        ("deepseek-reasoner", "deepseek"), ("phi-3.5-vision", "phi"), ("SmolVLM-256M", "idefics"),
        ("Vision-R1", ""), ("our-own", ""), ("novare", ""), ("s1", ""), ("o12", ""),
    ],
)  # fmt: skip
def test_family_by_name(model, expected):
    assert family(model) == expected


def test_bare_name_drops_route_provider_and_date_but_no_version():
    assert bare_name("litellm:openai/gpt-4o-2024-08-06") == bare_name("openai/GPT-4o-latest") == "gpt-4o"
    assert bare_name("derm-v1") != bare_name("derm-v2")


def test_kin_are_noted_and_strangers_are_not():
    notes = same_family("litellm:gemini/gemini-2.5-pro", ["medgemma-4b", "gpt-4o", "gemini-2.5-flash"])
    assert len(notes) == 2 and "gemini and gemma" in notes[1]
    assert same_family("our-judge", ["our-model"]) == ()


def test_a_judge_among_the_candidates_is_refused_by_default():
    with pytest.raises(InputError, match="no judge; name another"):
        check_judge("litellm:openai/gpt-4o-2024-11-20+reference", ["claude-3", "gpt-4o-2024-08-06"])
    assert check_judge("litellm:openai/gpt-4o-2024-11-20", ["gpt-4o"], allow_self=True) != ()
    assert check_judge("embedded", ["x", "y"]) == ()
