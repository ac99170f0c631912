"""When an attempt is made again, and after how long."""

from __future__ import annotations

import random
import statistics
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.calls.chat import AGAIN, Kind
from dermjudge.judge.calls.retry import RetryPolicy, retry_after
from dermjudge.judge.errors import InputError

KINDS: tuple[Kind, ...] = Kind.__args__


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_may_pass_is_asked_again(kind):
    again = RetryPolicy().wait([kind], 0, None, random.Random(0)) is not None
    assert again == (kind in AGAIN) == (kind in {"rate_limited", "overloaded", "timeout", "connection", "malformed"})


def test_the_number_of_attempts_is_bounded_and_of_those_that_cost_more_so():
    policy, rng = RetryPolicy(attempts=4, billed_attempts=2), random.Random(0)
    waits = [policy.wait(["overloaded"] * n, 0, None, rng) for n in range(1, 6)]
    assert [wait is None for wait in waits] == [False, False, False, True, True]
    assert policy.wait(["overloaded", "malformed"], 1, None, rng) is not None
    assert policy.wait(["malformed", "malformed"], 2, None, rng) is None


def test_full_jitter_is_uniform_up_to_a_doubling_cap():
    policy, rng = RetryPolicy(attempts=99, first=0.5, cap=4.0), random.Random(3)
    for failed, most in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 4.0), (90, 4.0)):
        waits = [policy.wait(["overloaded"] * failed, 0, None, rng) for _ in range(2000)]
        assert min(waits) >= 0 and max(waits) <= most
        assert statistics.mean(waits) == pytest.approx(most / 2, rel=0.06)  # sd of the mean: 1.3 %
        assert max(waits) > 0.98 * most > 0 and min(waits) < 0.02 * most


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8), st.none() | st.floats(0, 1e6), st.integers(0, 9))
def test_never_sooner_than_the_provider_says(kinds, asked, seed):
    policy = RetryPolicy()
    wait = policy.wait(kinds, 0, asked, random.Random(seed))
    assert wait is None or (asked or 0) <= wait <= (asked or 0) + policy.cap
    assert wait == policy.wait(kinds, 0, asked, random.Random(seed))  # the same seed, the same wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "3", "Retry-After-Ms": "250"}, 0.25),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:29 GMT"}, 30.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Sat, 01 Jan 2000 00:00:10 GMT"}, 0.0),
        ({}, None),
        *(
            ({"Retry-After": text}, None)
            for text in ("-1", "nan", "inf", "1e9", "soon", "", "9" * 30, "٣", "1 2", "Fri")
        ),
    ],
)
def test_what_the_header_says(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_without_the_servers_clock_is_read_by_ours():
    assert retry_after({"Retry-After": formatdate(time.time() + 50, usegmt=True)}) == pytest.approx(50, abs=2)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_header_is_read_or_passed_over(text, date):
    wait = retry_after({"Retry-After": text, "Date": date})
    assert wait is None or 0 <= wait < float("inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"billed_attempts": 0},
        {"stop_after": 0},
        {"first": 9.0, "cap": 1.0},
        {"first": -1.0},
        {"cap": float("inf")},
        {"longest": float("nan")},
    ],
)
def test_a_policy_that_cannot_be(wrong):
    with pytest.raises(InputError):
        RetryPolicy(**wrong)
