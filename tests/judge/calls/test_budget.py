"""What may be spent: asked before every call, with what is in flight set aside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.calls.budget import Budget, Spent, estimate
from dermjudge.judge.calls.chat import CallError, CallsStopped, Picture, Reply, Request
from dermjudge.judge.errors import InputError

REQUEST = Request("a", ("x" * 240,), settings={"max_tokens": 100})  # 20 + 80 and 100 tokens


def cents(first, second):
    return (first + 2 * second) / 100


def reply(first=None, second=None, cost=None):
    return Reply("ok", input_tokens=first, output_tokens=second, cost=cost)


def test_estimates_lie_at_the_upper_end():
    assert estimate(REQUEST) == (100, 100)
    picture = Picture(b"", "image/jpeg", "")
    assert estimate(Request("a", (picture, "é" * 30, picture), "s" * 30)) == (20 + 30 + 4800, 1024)
    assert estimate(Request("a", ("\ud800",), settings={"max_completion_tokens": 7}))[1] == 7


def test_calls_are_counted_whether_answered_or_not():
    budget = Budget(calls=3)
    held = [budget.reserve(REQUEST) for _ in range(3)]
    assert budget.reserve(REQUEST) is None  # wait: the stop comes when all have ended
    budget.settle(held[0], reply(5, 5))
    assert budget.reserve(REQUEST) is None
    budget.settle(held[1], None, CallError("rate_limited", ""))
    budget.settle(held[2], None, CallError("malformed", ""))
    assert budget.spent.calls == 3
    with pytest.raises(CallsStopped, match="budget of calls is used up: 3 of 3 ") as stopped:
        budget.reserve(REQUEST)
    assert stopped.value.kind == "budget"
    assert isinstance(stopped.value, InputError)


def test_tokens_in_flight_are_set_aside_until_they_are_known():
    budget = Budget(tokens=450)
    first, second = budget.reserve(REQUEST), budget.reserve(REQUEST)
    assert budget.reserve(REQUEST) is None  # 400 set aside, 200 more do not fit; wait
    assert budget.settle(first, reply(30, 20)) == 50
    third = budget.reserve(REQUEST)
    assert third is not None  # 50 spent, 200 aside
    budget.settle(second, reply(100, 100))
    budget.settle(third, reply(100, 100))
    assert budget.spent.tokens == 450
    with pytest.raises(CallsStopped, match="450 of 450 are spent and the next call takes up to 200"):
        budget.reserve(REQUEST)


def test_what_is_not_told_is_charged_as_estimated():
    budget = Budget(price=cents)
    assert budget.settle(budget.reserve(REQUEST), reply()) is None
    assert budget.spent == Spent(1, 200, 3.0, 1)
    assert budget.settle(budget.reserve(REQUEST), None, CallError("timeout", "")) is None
    assert budget.spent == Spent(2, 400, 6.0, 2)
    assert budget.settle(budget.reserve(REQUEST), None, CallError("connection", "", billed=False)) == 0
    assert budget.settle(budget.reserve(REQUEST), None, CallError("overloaded", "")) == 0
    assert budget.spent == Spent(4, 400, 6.0, 2)
    budget.settle(budget.reserve(REQUEST), None)  # given up in flight
    assert budget.spent == Spent(5, 600, 9.0, 3)


def test_the_routes_own_cost_counts_before_the_price():
    budget = Budget(money=100.0, price=cents)
    budget.settle(budget.reserve(REQUEST), reply(10, 10, cost=7.5))
    budget.settle(budget.reserve(REQUEST), reply(10, 10))
    assert budget.spent.money == pytest.approx(7.8)


def test_an_unknown_price_is_unknown_and_refused_where_money_is_limited():
    budget = Budget(tokens=10_000)
    budget.settle(budget.reserve(REQUEST), reply(10, 10))
    assert budget.spent.money is None
    budget.settle(budget.reserve(REQUEST), reply(10, 10, cost=1.0))
    assert budget.spent.money is None  # never what is known of it only
    for price in (None, lambda first, second: None):
        with pytest.raises(InputError, match="price of this model is unknown"):
            Budget(money=5.0, price=price)
    with pytest.raises(InputError, match="spent before is unknown"):
        Budget(money=5.0, price=cents, already=Spent(3, 100, None))


def test_earlier_sessions_count():
    with pytest.raises(CallsStopped, match="3 of 3"):
        Budget(calls=3, already=Spent(3)).reserve(REQUEST)
    with pytest.raises(CallsStopped, match=r"9\.0000 of 10\.0000 are spent and the next call may cost 3\.0000"):
        Budget(money=10.0, price=cents, already=Spent(3, 600, 9.0)).reserve(REQUEST)


@given(st.integers(0, 3000), st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.integers(0, 100)), max_size=40))
def test_never_more_than_the_budget_while_estimates_hold(limit, calls):
    budget, flying = Budget(tokens=limit), []
    for land, first, second in calls:
        if land and flying:
            budget.settle(flying.pop(), reply(first, second))
        else:
            try:
                held = budget.reserve(REQUEST)
            except CallsStopped:
                break
            if held is not None:
                flying.append(held)
        assert budget.spent.tokens + 200 * len(flying) <= limit
    for held in flying:
        budget.settle(held, reply(100, 100))
    assert budget.spent.tokens <= limit


@pytest.mark.parametrize("wrong", [{"calls": -1}, {"tokens": float("nan")}, {"money": float("inf"), "price": cents}])
def test_what_cannot_be_a_budget(wrong):
    with pytest.raises(InputError, match="must be a number from 0"):
        Budget(**wrong)
