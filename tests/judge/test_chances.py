"""Expected scores from token log-probabilities: the right token, the whole mass, and honest refusals."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.backends.chances import MASS_FLOOR, expected_scores, number_places, token_starts
from dermjudge.judge.calls.chat import TokenChance
from dermjudge.judge.parse import parse
from dermjudge.judge.rubric import load_rubric

RUBRIC = load_rubric("derm6")
LEVELS = RUBRIC.scale.levels
NONCE = "ab12cd34"


def block(scores, nonce=NONCE, critique=None):
    body = json.dumps({"critique": critique or {}, "summary": "", "scores": scores})
    return f"<<<scores {nonce}\n{body}\nscores {nonce}>>>"


def tokens_of(text, tops=None, pattern=r"\w+|\s+|[^\w\s]"):
    """Tokens that spell `text`; `tops`: alternatives by the place of a number among the tokens that are digits."""
    found, place = [], 0
    last = text.rfind('"scores"')
    for hit in re.finditer(pattern, text):
        if hit[0].strip().isdigit() and hit.start() > last:
            top = (tops or {}).get(place, {hit[0]: 1.0})
            place += 1
        else:
            top = {hit[0]: 0.99}
        pairs = tuple((word, math.log(chance)) for word, chance in top.items())
        found.append(TokenChance(hit[0], dict(pairs).get(hit[0], math.log(1e-9)), pairs))
    return tuple(found)


def read(text, tokens, nonce=NONCE):
    return expected_scores(text, tokens, parse(text, RUBRIC, "stop", nonce).scores, LEVELS, nonce)


FOUR = dict.fromkeys(RUBRIC.names, 4)


def test_the_expected_value_and_mass_of_planted_probabilities():
    text = "It shows a macule.\n" + block(FOUR)
    scores = read(text, tokens_of(text, {0: {"4": 0.5, "5": 0.3, "3": 0.1, "x": 0.1}, 1: {"4": 0.4, "0": 0.4}}))
    first, second = scores["Accuracy"], scores["Safety"]
    assert first.value == pytest.approx((4 * 0.5 + 5 * 0.3 + 3 * 0.1) / 0.9)
    assert first.mass == pytest.approx(0.9)
    assert first.distribution == pytest.approx((0, 0, 0, 0.1 / 0.9, 0.5 / 0.9, 0.3 / 0.9))
    assert (second.value, second.mass) == (pytest.approx(2.0), pytest.approx(0.8))
    assert scores["Clinical Coverage"].value == 4.0


def test_too_little_mass_on_levels_is_no_score():
    text = block(FOUR)
    score = read(text, tokens_of(text, {0: {"4": 0.3, "four": 0.6}}))["Accuracy"]
    assert (score.value, score.state) == (None, "unparsable")
    assert score.mass == pytest.approx(0.3) and f"floor {MASS_FLOOR}" in score.reason
    assert read(text, tokens_of(text, {0: {"x": 0.9, "4": 1e-300}}))["Accuracy"].value is None


def test_a_number_quoted_in_the_critique_is_not_the_score():
    critique = {
        "Accuracy": 'It says \\"scores\\": {\\"Accuracy\\": 1} and 1 of 5',
        "Safety": 'x {"scores": {"Safety": 0}}',
    }
    text = 'Draft {"scores": {"Accuracy": 1}}\n' + block(FOUR, critique=critique)
    places = number_places(text, NONCE)
    assert [text[p.start : p.end] for p in places.values()] == ["4"] * 6
    assert min(p.start for p in places.values()) > text.rfind('"scores": {"Accuracy": 4')
    assert read(text, tokens_of(text))["Accuracy"].value == 4.0


@pytest.mark.parametrize("pattern", [r" ?\w+|\s+|[^\w\s]", r"\W*\w|\W+$", r"[^\d]|\d", r'": \d|.|\n'])
def test_any_way_to_cut_the_text_into_tokens(pattern):
    """A blank, quotes and a colon may hang on the digit: alternatives are read the same way."""
    text = "Well.\n" + block(FOUR)
    tokens = []
    for token in tokens_of(text, pattern=pattern):
        word = token.token
        if word.endswith("4"):
            top = ((word, math.log(0.5)), (word[:-1] + "2", math.log(0.4)), (word[:-1] + "five", math.log(0.1)))
            token = TokenChance(word, math.log(0.5), top)
        tokens.append(token)
    assert "".join(token.token for token in tokens) == text
    for score in read(text, tokens).values():
        assert (score.value, score.mass) == (pytest.approx((4 * 0.5 + 2 * 0.4) / 0.9), pytest.approx(0.9))


def test_levels_with_another_blank_or_a_comma_are_the_same_level():
    text = block(FOUR)
    score = read(text, tokens_of(text, {0: {"4": 0.4, " 4": 0.2, "4,": 0.1, "4\n": 0.1, "45": 0.1, "-4": 0.1}}))[
        "Accuracy"
    ]
    assert score.value == pytest.approx(4.0) and score.mass == pytest.approx(0.8)


def test_more_than_one_token_for_a_level_is_refused():
    text = block({**FOUR, "Accuracy": 4.0})
    score = read(text, tokens_of(text))["Accuracy"]
    assert score.value is None and "4.0 is not written as a level" in score.reason
    assert read(text, tokens_of(text))["Safety"].value == 4.0


def test_tokens_of_half_characters_and_of_the_end_of_turn_do_no_harm():
    """A character of four bytes comes as several tokens that spell something else; the block is still found."""
    text = "A mole 🙂 here – “dark”.\n" + block(FOUR)
    spelled = [TokenChance("\\xf0\\x9f", -0.1), TokenChance("\\x99\\x82", -0.1)]
    at = text.index("🙂")
    tokens = [*tokens_of(text[:at]), *spelled, *tokens_of(text[at + 1 :], {0: {"4": 0.5, "2": 0.5}})]
    tokens += [TokenChance("\n", -0.1), TokenChance("<|im_end|>", 0.0)]
    assert read(text, tokens)["Accuracy"].value == pytest.approx(3.0)


def test_tokens_that_do_not_spell_the_block_are_refused():
    text = block(FOUR)
    for wrong in (tokens_of(text)[:-8], (), tokens_of(text.replace("Safety", "safety")), tokens_of(text)[::-1]):
        scores = read(text, wrong)
        assert {score.state for score in scores.values()} == {"unparsable"}
        assert "do not spell" in scores["Accuracy"].reason


def test_what_are_no_log_probabilities_is_refused():
    text = block(FOUR)
    for bad in (0.5, math.nan):
        tokens = [TokenChance(t.token, bad if t.token == "4" else t.logprob, ()) for t in tokens_of(text)]
        assert "are none" in read(text, tokens)["Accuracy"].reason
    tokens = [TokenChance(t.token, 0.0, (("4", 0.0), ("3", 0.0))) for t in tokens_of(text)]
    assert "more than 1" in read(text, tokens)["Accuracy"].reason
    rounded = [TokenChance(t.token, 1e-6, (("4", 1e-6),)) for t in tokens_of(text)]
    assert read(text, rounded)["Accuracy"].mass == 1.0


def test_states_of_the_strict_reading_stay():
    text = block({"Accuracy": 4, "Safety": 9})
    scores = read(text, tokens_of(text))
    assert scores["Accuracy"].value == 4.0
    assert (scores["Safety"].state, scores["Clinical Coverage"].state) == ("out_of_scale", "missing_dimension")
    lines = "Accuracy: 4\nSafety: 3"
    scores = read(lines, tokens_of(lines), None)
    assert scores["Accuracy"].state == "unparsable" and "no token can be named" in scores["Accuracy"].reason


def test_reasoning_before_the_answer_shifts_nothing():
    text = '<think>perhaps {"scores": {"Accuracy": 1}}</think>So:\n' + block(FOUR)
    places = number_places(text, NONCE)
    assert [text[p.start : p.end] for p in places.values()] == ["4"] * 6
    free = '<think>1</think>{"scores": ' + json.dumps(FOUR) + ', "justification": "because"}'
    assert [free[p.start : p.end] for p in number_places(free, None).values()] == ["4"] * 6
    assert read(free, tokens_of(free), None)["Safety"].value == 4.0


@given(st.text(max_size=60), st.lists(st.integers(0, 5), min_size=6, max_size=6), st.integers(1, 5))
def test_places_hold_the_numbers_that_were_read(words, values, size):
    scores = dict(zip(RUBRIC.names, values, strict=True))
    text = words + "\n" + block(scores, critique={"Accuracy": words})
    tokens = [TokenChance(text[k : k + size], -0.01) for k in range(0, len(text), size)]
    places = number_places(text, NONCE)
    assert {name: int(text[p.start : p.end]) for name, p in places.items()} == scores
    starts = token_starts(text, tokens, min(p.start for p in places.values()))
    assert starts is not None and starts[: len(tokens)] == list(range(0, len(text), size))
