from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.calls.prices import Price, hosted_price, picture_tokens, price_of, read_prices, text_tokens
from dermjudge.judge.errors import InputError

MINE = Price(input_per_million=0.5, output_per_million=2.0, currency="EUR")


def test_unknown_is_none_not_0():
    assert price_of("endpoint:http://localhost:8000/v1#qwen") is None
    assert MINE(None, 3) is None
    assert MINE(3, None) is None
    assert MINE(0, 0) == 0.0
    assert MINE(1_000_000, 500_000) == 1.5


YAML = """
qwen2.5-vl-7b: {input_per_million: 0, output_per_million: 0, currency: EUR}
litellm:openai/gpt-4o-2024-08-06: {input_per_million: 2, output_per_million: 8}
"""
CSV = """model,input_per_million,output_per_million,currency
qwen2.5-vl-7b,0,0,EUR
litellm:openai/gpt-4o-2024-08-06,2,8,
"""


@pytest.mark.parametrize(("name", "text"), [("p.yaml", YAML), ("p.csv", CSV)])
def test_price_lists(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    prices = read_prices(path)
    free = price_of("endpoint:http://localhost:8000/v1#qwen2.5-vl-7b", prices)
    assert (free(10, 10), free.currency, free.source) == (0.0, "EUR", name)
    mine = price_of("litellm:openai/gpt-4o-2024-08-06", prices)
    assert (mine(1_000_000, 0), mine.currency) == (2.0, "USD")  # the list counts before litellm's map
    assert price_of("local:other", prices) is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.yaml", "m: {input_per_million: -1, output_per_million: 1}", "input_per_million"),
        ("p.yaml", "m: {input_per_million: .nan, output_per_million: 1}", "input_per_million"),
        ("p.yaml", "m: {input_per_million: '1', output_per_million: 1}", "input_per_million"),
        ("p.yaml", "m: {input_per_million: 1}", "output_per_million"),
        ("p.yaml", "m: {input_per_million: 1, output_per_million: 1, per: token}", "per"),
        ("p.yaml", "m: 3", "m: "),
        ("p.yaml", "[1]", "mapping"),
        ("p.csv", "model,input_per_million,output_per_million\nm,1,\n", "output_per_million"),
        ("p.csv", "model,input_per_million,output_per_million\nm,1,1\nm,2,2\n", "twice"),
        ("p.csv", "model,input_per_million,output_per_million\n,1,1\n", "names no model"),
        ("p.csv", "model,input_per_million,output_per_million\nm,one,1\n", "input_per_million"),
        ("p.json", "{}", "ends in"),
    ],
)
def test_lists_that_are_wrong(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_prices(path)


def test_litellms_local_map():
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    price = hosted_price("openai/gpt-4o-2024-08-06")
    assert (price.input_per_million, price.output_per_million) == (2.5, 10.0)  # OpenAI's list price since October 2024
    assert price_of("litellm:anthropic/claude-sonnet-4-5-20250929")(1_000_000, 0) == 3.0
    assert hosted_price("openai/no-such-model-2026-01-01") is None
    assert hosted_price("anthropic/gpt-4o-2024-08-06") is None  # a name alone is no price: the provider must fit


PROSE = {
    "en": "A pearly papule with arborising vessels on the left nasal ala, 6 mm, slowly growing for two years.",
    "de": "Die Patientin berichtet über eine seit drei Monaten bestehende, scharf begrenzte erythematosquamöse Plaque.",
    "fr": "La patiente présente depuis trois mois une plaque érythémato-squameuse prurigineuse bien limitée du coude.",
    "es": "La paciente presenta desde hace tres meses una placa eritematodescamativa pruriginosa bien delimitada.",
    "it": "La paziente presenta da tre mesi una placca eritemato-squamosa pruriginosa ben delimitata al gomito.",
    "zh": "患者左肘部出现边界清楚的红斑鳞屑性斑块三个月，伴瘙痒。",
    "json": json.dumps({"Accuracy": 4, "Safety": 5, "scores": [1, 2, 3.5], "critique": {"Accuracy": "ok"}}, indent=1),
}


@pytest.mark.parametrize("language", PROSE)
def test_text_tokens_are_an_upper_end(language, monkeypatch):
    """Against the two encodings of OpenAI that litellm carries in its package; at most twice of what is counted."""
    tiktoken, litellm = pytest.importorskip("tiktoken"), importlib.util.find_spec("litellm")
    if litellm is None:
        pytest.skip("litellm is not installed")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(Path(litellm.origin).parent / "litellm_core_utils/tokenizers"))
    text = PROSE[language] * 3
    for name in ("cl100k_base", "o200k_base"):
        counted = len(tiktoken.get_encoding(name).encode(text))
        assert counted <= text_tokens(text) <= 2 * counted


@given(st.text(), st.text())
def test_text_tokens_grow_with_the_text(one, two):
    assert max(text_tokens(one), text_tokens(two)) <= text_tokens(one + two) <= text_tokens(one) + text_tokens(two)
    assert text_tokens("") == 0


@pytest.mark.parametrize(
    ("size", "model", "least"),
    [
        # What providers state for a picture of this size, which the estimate must not fall below.
        ((1024, 1024), "openai/gpt-4o-2024-08-06", 765),
        ((2048, 4096), "openai/gpt-4o-2024-08-06", 1105),
        ((2048, 4096), "openai/gpt-4o-mini-2024-07-18", 2833 + 6 * 5667),
        ((1024, 1024), "openai/gpt-4.1-nano-2025-04-14", 2520),
        ((1000, 1000), "anthropic/claude-sonnet-4-5-20250929", 1334),
        ((200, 200), "gemini/gemini-3-pro-preview", 1120),
        ((1000, 1000), "local:qwen2.5-vl", 1296),
    ],
)
def test_picture_tokens(size, model, least):
    assert least <= picture_tokens(*size, model)
