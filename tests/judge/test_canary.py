"""The canary: fixed questions before and after a run, and what a judge that changed meanwhile leaves behind."""

import json

import pytest

from dermjudge.judge.backends.base import Answer
from dermjudge.judge.canary import NAMES, ask_canary, compare
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Narrative, Score
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.score import score
from tests.judge.test_api import Reply, block, judge, same

RUBRIC = load_rubric("derm6")
CASES = [Case(f"c{k}") for k in range(4)]
TEXTS = [Narrative(case.id, "s", f"text of {case.id}") for case in CASES]


def canary_prompts(asked):
    return [r for r in asked.route.sent if "left forearm" in r.content[-1]]


def test_a_steady_judge_and_its_cost(tmp_path):
    asked = judge(same(4))
    done = score(CASES, TEXTS, RUBRIC, asked, tmp_path / "run", canary=True)
    assert done.drift.same and done.drift.n == 36 and "as before" in done.drift.note()
    assert len(asked.route.sent) == 4 + 2 * len(NAMES) and len(canary_prompts(asked)) == 12
    assert [len(r.content) for r in canary_prompts(asked)] == [2] * 12  # each with a picture
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["summary"]["drift"]["note"] == done.drift.note()
    again = score(CASES, TEXTS, RUBRIC, judge(same(4)), tmp_path / "run", canary=True)
    assert again.drift == done.drift and done.states == {"scored": 24} == again.states


def test_a_judge_that_changes_within_the_run_is_reported(tmp_path):
    asked = judge(same(4))

    def say(prompt, attempt):
        later = len(asked.route.sent) > 8
        scores = {name: 3 if later and name == "Safety" else 4 for name in RUBRIC.names}
        return Reply(block(prompt, scores), "stop", model="m-2" if later else "m-1")

    asked.route.say = say
    drift = score(CASES, TEXTS, RUBRIC, asked, tmp_path / "run", canary=True).drift
    assert not drift.same and drift.largest == 1.0 and drift.mean == pytest.approx(-1 / 6)
    assert drift.models == (("m-1",), ("m-2",))
    assert "-0.17 on average, 1.00 at most (n = 36)" in drift.note() and "another model id" in drift.note()


def test_a_run_that_died_before_the_second_time_asks_it_then(tmp_path):
    class Dies:
        def __init__(self, inner):
            self.inner, self.sent = inner, 0

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def stream(self, jobs):
            self.sent += 1
            if self.sent == 3:
                raise KeyboardInterrupt
            return self.inner.stream(jobs)

    with pytest.raises(KeyboardInterrupt):
        score(CASES, TEXTS, RUBRIC, Dies(judge(same(4))), tmp_path / "run", canary=True)
    asked = judge(same(2))
    done = score(CASES, TEXTS, RUBRIC, asked, tmp_path / "run", canary=True)
    assert len(asked.route.sent) == len(NAMES) and done.drift.mean == -2.0


def test_judges_without_a_stream_and_blind_ones():
    class Plain:
        form, blind = "full", True

        def answer(self, questions):
            assert all(q.pictures == () and "none is attached" in q.prompt.text for q in questions)
            return [Answer(dict.fromkeys(RUBRIC.names, Score(None, "refused", "no"))) for _ in questions]

    first = ask_canary(Plain(), RUBRIC)
    drift = compare(first, first, RUBRIC)
    assert (drift.n, drift.mean, drift.largest, drift.same) == (0, None, None, True)
    other = ask_canary(judge(same(1)), RUBRIC)
    assert compare(first, other, RUBRIC).states == 36
    with pytest.raises(InputError, match="not asked whole"):
        compare({}, other, RUBRIC)
