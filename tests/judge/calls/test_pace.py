"""How many calls go out at once and per minute, on a clock that the test moves."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.calls.chat import CallError
from dermjudge.judge.calls.pace import Pace
from dermjudge.judge.errors import InputError


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def limited(wait=None):
    return CallError("rate_limited", "HTTP 429", status=429, retry_after=wait)


def opened(ceiling, **options):
    """A pace whose first call has been answered."""
    clock = Clock()
    pace = Pace(ceiling, clock=clock, **options)
    pace.note(None, pace.enter())
    pace.leave()
    return pace, clock


def test_the_first_call_goes_alone():
    pace = Pace(8)
    assert pace.delay() == 0.0
    sent = pace.enter()
    assert pace.delay() is None
    pace.note(limited(), sent)
    assert pace.delay() == 0.0


def test_no_more_in_flight_than_the_ceiling():
    pace, _ = opened(3)
    for _ in range(3):
        assert pace.delay() == 0.0
        pace.enter()
    assert pace.delay() is None
    pace.leave()
    assert pace.delay() == 0.0


def test_stray_429s_slow_nobody_else():
    pace, _ = opened(32)
    rng = random.Random(5)
    for _ in range(2000):
        pace.note(limited(5.0) if rng.random() < 0.05 else None, pace.enter())
        pace.leave()
    assert pace.limit == 32
    assert pace.delay() == 0.0


@pytest.mark.parametrize("error", [limited(4.0), CallError("overloaded", "", status=529, retry_after=4.0),
                                   CallError("overloaded", "", status=503, retry_after=4.0),
                                   CallError("timeout", "", retry_after=4.0)])  # fmt: skip
def test_many_of_them_halve_the_calls_in_flight_and_hold_all(error):
    pace, clock = opened(32)
    rounds = [pace.enter() for _ in range(32)]
    for sent in rounds:
        pace.note(error, sent)
        pace.leave()
    assert pace.limit == 16  # halved once, though all of the round failed
    assert pace.delay() == pytest.approx(4.0)
    clock.now += 3.9
    assert pace.delay() == pytest.approx(0.1)
    clock.now += 0.2
    assert pace.delay() == 0.0
    for _ in range(16):
        pace.note(error, pace.enter())
        pace.leave()
    assert pace.limit == 8


def test_a_plain_500_says_nothing_about_the_pace():
    pace, _ = opened(32)
    for _ in range(100):
        pace.note(CallError("overloaded", "", status=500), pace.enter())
        pace.leave()
    assert pace.limit == 32


def test_it_grows_again_by_one_a_round_and_never_above_the_ceiling():
    pace, clock = opened(16)
    for sent in [pace.enter() for _ in range(16)]:
        pace.note(limited(), sent)
        pace.leave()
    assert pace.limit == 8
    for expected in range(9, 17):
        for _ in range(expected - 1):
            pace.note(None, pace.enter())
            pace.leave()
        assert pace.limit == expected
    for _ in range(100):
        pace.note(None, pace.enter())
        pace.leave()
    assert pace.limit == 16


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([None, 0.0, 2.0])), max_size=300), st.integers(1, 40))
def test_the_limit_stays_between_one_and_the_ceiling(answers, ceiling):
    pace, _ = opened(ceiling)
    for good, wait in answers:
        pace.note(None if good else limited(wait), pace.enter())
        pace.leave()
        assert 1 <= pace.limit <= ceiling


@pytest.mark.parametrize("per_minute", [1, 7, 60, 100, 101, 600, 6000])
def test_no_minute_holds_more_requests_than_allowed_and_hardly_fewer(per_minute):
    pace, clock = opened(10_000, requests_per_minute=per_minute)
    begin, sent = clock.now, [clock.now]
    while clock.now < begin + 130:
        if (wait := pace.delay()) == 0.0:
            pace.enter()
            pace.leave()
            sent.append(clock.now)
        else:
            clock.now += wait + 1e-9
    assert max(bisect_left(sent, first + 60) - k for k, first in enumerate(sent)) <= per_minute
    assert len(sent) >= 0.97 * per_minute * 130 / 60 - 1


def test_tokens_per_minute_count_what_was_used():
    pace, clock = opened(100, tokens_per_minute=6000)
    used, begin = 0, clock.now
    while clock.now < begin + 600:
        if (wait := pace.delay(900)) == 0.0:  # estimated; in fact each takes 300
            pace.note(None, pace.enter(900), estimated=900, used=300)
            pace.leave()
            used += 300
        else:
            clock.now += wait + 1e-9
    assert 0.95 * 60_000 <= used <= 60_000 + 900


@pytest.mark.parametrize(
    "wrong",
    [
        {"ceiling": 0},
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1.0},
        {"requests_per_minute": float("inf")},
        {"tokens_per_minute": float("nan")},
    ],
)
def test_what_cannot_be_a_pace(wrong):
    with pytest.raises(InputError):
        Pace(**wrong)
