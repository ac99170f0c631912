"""The reward of a written answer: golden values, and no way to earn more by saying less."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dermjudge.judge.rubric import Rubric, load_rubric
from dermjudge.training.score_reward import read_scores, score_reward

RUBRIC = load_rubric("derm6")
NAMES, LEVELS = RUBRIC.names, RUBRIC.scale.levels
levels = st.lists(st.sampled_from(LEVELS), min_size=len(NAMES), max_size=len(NAMES))
golds = st.lists(st.one_of(st.just(np.nan), st.floats(0, 5)), min_size=len(NAMES), max_size=len(NAMES))


def answer(stated, names=NAMES):
    return "Accuracy - no fault\nScores:\n" + "\n".join(
        f"{name}: {level}" for name, level in zip(names, stated, strict=True)
    )


def reward(text, gold):
    return score_reward(read_scores(text, RUBRIC), np.array(gold, float), RUBRIC)


def test_golden_values():
    assert reward(answer([5, 4, 3, 2, 1, 0]), [5, 4, 3, 2, 1, 0]) == 0
    assert reward(answer([0] * 6), [5] * 6) == -1
    assert reward(answer([3] * 6), [3, 3, 3, 3, 3, 4.5]) == pytest.approx(-(1.5**2) / 6 / 25)
    assert reward("", [2.5] * 6) == pytest.approx(-(2.5**2) / 25)  # nothing said costs as much as the worst level
    assert reward("", [4] * 6) == pytest.approx(-16 / 25)
    assert reward(answer([0] * 6), [np.nan] * 6) is None  # nobody rated: no reward, not a perfect one
    assert reward(answer([5, 0, 0, 0, 0, 0]), [5, *[np.nan] * 5]) == 0  # dimensions that nobody rated do not count


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Scores:\nAccuracy: 4", 4),
        ("Scores:\nSafety: 1\nchatter\nAccuracy: 4\nmore", 4),
        ("Accuracy: 4", None),  # not in the block
        ("Accuracy: 4\nScores:\nSafety: 1", None),
        ("Scores: Accuracy: 4", None),
        ("Scores:\nAccuracy: 4\nScores:\nAccuracy: 4", None),  # two blocks
        ("Scores:\nAccuracy: 4\n Scores:", None),
        (" Scores:\nAccuracy: 4", None),
        ("Scores:\nAccuracy: 4\nAccuracy: 4", None),  # said twice, even if the same
        ("Scores:\nAccuracy: 4\naccuracy: 5", None),
        ("Scores:\nAccuracy: 4\nAccuracy: high", None),
        ("Scores:\nAccuracy: 6", None),
        ("Scores:\nAccuracy: -1", None),
        ("Scores:\nAccuracy: 4.5", None),
        ("Scores:\nAccuracy: 4/5", None),
        ("Scores:\nAccuracy:4", None),
        ("Scores:\n**Accuracy**: 4", None),
        ("Scores:\nAccuracy: ٤", None),
        ("Scores:\nAccuracy: 4\r\nSafety: 3", None),
    ],
)
def test_reading_is_strict(text, read):
    assert read_scores(text, RUBRIC)["Accuracy"] == read


@given(levels, golds, st.sampled_from(NAMES), st.data())
def test_dropping_doubling_or_garbling_a_dimension_never_raises_the_reward(stated, gold, name, data):
    assume(not np.isnan(gold).all())
    whole = answer(stated)
    line = f"{name}: {stated[NAMES.index(name)]}"
    valid = {f"{name}: {level}" for level in LEVELS}
    garbled = data.draw(st.one_of(st.text(max_size=20), st.text(max_size=5).map(lambda t: line + t)))
    assume(not valid & set(garbled.split("\n")))  # else it is another answer, which may be a better one
    again = data.draw(st.sampled_from([line, *valid]))
    changed = [
        whole.replace("\n" + line, ""),
        whole.replace(line, f"{line}\n{again}"),
        whole.replace(line, garbled),
        whole.replace("Scores:\n", ""),
        whole[: data.draw(st.integers(0, len(whole)))],
    ]
    for text in changed:
        assert -1 <= reward(text, gold) <= reward(whole, gold) <= 0


@given(st.lists(st.sampled_from(NAMES), unique=True), levels, golds)
def test_the_published_loophole_is_closed_whatever_is_left_out(left_out, stated, gold):
    """Minus the error over the dimensions that were found would rise here whenever the worst are left out."""
    assume(not np.isnan(gold).all())
    kept = [(name, level) for name, level in zip(NAMES, stated, strict=True) if name not in left_out]
    text = answer([level for _, level in kept], [name for name, _ in kept])
    assert reward(text, gold) <= reward(answer(stated), gold)


@given(st.text(max_size=200), golds)
def test_any_text_has_a_reward_in_range(text, gold):
    assume(not np.isnan(gold).all())
    assert -1 <= reward(text, gold) <= 0


def test_another_scale_is_normalised_by_itself():
    content = RUBRIC.model_dump()
    content["scale"] = {"levels": [1, 2, 3]}
    for dimension in content["dimensions"]:
        dimension["anchors"] = {level: "x" for level in (1, 2, 3)}
    rubric = Rubric.model_validate(content)
    scores = read_scores("Scores:\nAccuracy: 1\nSafety: 4", rubric)
    assert scores["Accuracy"] == 1 and scores["Safety"] is None
    gold = np.array([3.0, 2.0, *[np.nan] * 4])
    assert score_reward(scores, gold, rubric) == pytest.approx(-(4 + 1) / 2 / 4)
