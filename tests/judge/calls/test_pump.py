"""Many calls: attempts counted exactly, waits kept, budgets and ceilings held, stops clean; on a real faulty server."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from itertools import count, pairwise

import pytest

pytest.importorskip("aiohttp")

from dermjudge.judge.calls import guard
from dermjudge.judge.calls.budget import Budget
from dermjudge.judge.calls.chat import AGAIN, CallError, CallsStopped, Reply, Request
from dermjudge.judge.calls.endpoint import EndpointRoute, Timeouts
from dermjudge.judge.calls.pace import Pace
from dermjudge.judge.calls.pump import AHEAD, pump
from dermjudge.judge.calls.retry import RetryPolicy
from dermjudge.judge.errors import InputError
from tests.fault_server import FaultServer, answer_to

FAST = RetryPolicy(first=0.02, cap=0.05, seed=1)
KEY = "sk-PLANTED-KEY-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("DERMJUDGE_API_KEY", KEY)
    with guard.limited_to():
        yield


def jobs(number, text="PLANTED narrative"):
    return ((f"k{k}", lambda k=k: Request(f"k{k}", (f"item=k{k} {text}",))) for k in range(number))


def run(server, number, policy=FAST, ceiling=8, **options):
    route = EndpointRoute(server.url, "tiny", timeouts=Timeouts(2, 0.4, 0.8))
    return [one for batch in pump(route, jobs(number), policy=policy, pace=Pace(ceiling), **options) for one in batch]


class Fake:
    """A route without a network: `answer(request, number of answers before)` returns a reply or raises."""

    name, signature = "fake:<x>", {}

    def __init__(self, answer=None, seconds=0.0):
        self.answer = answer or (lambda request, number: Reply(request.key))
        self.seconds, self.calls, self.answered, self.flying, self.closed = seconds, [], count(), 0, 0

    async def send(self, request):
        self.calls.append(request.key)
        self.flying += 1
        try:
            await asyncio.sleep(self.seconds)
            return self.answer(request, next(self.answered))
        finally:
            self.flying -= 1

    async def close(self):
        self.closed += 1


def outcomes(route, work, **options):
    return [one for batch in pump(route, work, policy=options.pop("policy", FAST), **options) for one in batch]


def collect(stream, found):
    """Keep what comes, also if the stream ends in an error."""
    for batch in stream:
        found += batch


# Attempts


EXACT = {
    "400": 1, "413": 1, "422": 1, "filter_400": 1, "filter_200": 1, "wrong_model": 1,
    "408": 6, "429": 6, "500": 6, "502": 6, "503": 6, "504": 6, "529": 6,
    "malformed": 3, "html": 3, "prose": 3, "empty": 3, "null": 3, "drop": 3, "cut": 3, "stall": 3,
}  # fmt: skip


@pytest.mark.parametrize("mode", EXACT)
def test_attempts_at_an_item_that_always_fails(mode):
    with FaultServer(sticky={"k1": mode}, retry_after="0") as server:
        found = {one.key: one for one in run(server, 3, RetryPolicy(first=0.01, cap=0.02))}
    assert Counter(line["item"] for line in server.log) == {"k0": 1, "k1": EXACT[mode], "k2": 1}
    failed = found["k1"]
    assert failed.reply is None and failed.kind is not None
    assert failed.attempts == (failed.kind,) * EXACT[mode]
    assert failed.paid == (0 if mode.startswith(("4", "5")) else EXACT[mode])
    assert (failed.kind in AGAIN) == (EXACT[mode] > 1)
    assert "PLANTED" not in failed.message and (
        failed.status in (None, 200) or f"HTTP {failed.status}" in failed.message
    )
    assert all(found[key].reply.text == answer_to(key, "") for key in ("k0", "k2"))


@pytest.mark.parametrize("mode", ["401", "402", "403", "404", "405", "quota", "redirect"])
def test_what_no_item_will_survive_ends_the_run_with_its_first_call(mode):
    with FaultServer(sticky={"*": mode}) as server, pytest.raises(CallsStopped) as stopped:
        run(server, 50, ceiling=16)
    assert len(server.log) == 1
    assert stopped.value.kind == ("not_allowed" if mode == "redirect" else "denied")
    assert isinstance(stopped.value, InputError)
    assert KEY not in str(stopped.value) and "narrative" not in str(stopped.value)


def test_a_key_that_is_taken_back_later_loses_no_answer():
    with FaultServer(script={"k30": ["401"]}, latency=0.01) as server:
        found = []
        with pytest.raises(CallsStopped, match="HTTP 401"):
            collect(pump(EndpointRoute(server.url, "tiny"), jobs(500), pace=Pace(8)), found)
    served = {line["item"] for line in server.log if line["mode"] == "ok"}
    assert {one.key for one in found if one.reply} == served  # everything in flight has ended and was handed out
    assert 30 <= len(found) < 60
    assert "k30" not in {one.key for one in found}


@pytest.mark.parametrize("answers", [["429"], ["429"] * 3, ["500", "malformed", "drop", "429"]])
def test_a_fault_that_passes(answers):
    with FaultServer(script={"k0": answers}, retry_after="0") as server:
        (one,) = run(server, 1)
    assert len(server.log) == len(answers) + 1
    assert one.reply is not None and one.kind is None
    assert one.attempts[-1] == "reply" and len(one.attempts) == len(answers) + 1
    assert one.paid == 1 + sum(mode in ("malformed", "drop") for mode in answers)


def test_waits_are_as_long_as_the_server_says():
    with FaultServer(script={"k0": ["429", "529", "503"]}, retry_after="0.2") as server:
        told = []
        run(server, 1, on_call=told.append)
    moments = [line["t"] for line in server.log]
    assert all(later - sooner >= 0.2 for sooner, later in pairwise(moments))
    assert [call.ended for call in told] == ["rate_limited", "overloaded", "overloaded", "reply"]
    assert [call.attempt for call in told] == [1, 2, 3, 4]
    assert all(call.again_in >= 0.2 for call in told[:3]) and told[3].again_in is None


def test_a_wait_longer_than_a_run_ends_it():
    with FaultServer(script={"k5": ["429"]}, retry_after="3600") as server:
        with pytest.raises(CallsStopped, match="asks to wait 3,600 seconds") as stopped:
            run(server, 100)
        assert stopped.value.kind == "rate_limited"


# Faults in the mass


RATES = {"429": 0.05, "500": 0.02, "malformed": 0.004, "html": 0.002, "empty": 0.002, "null": 0.002}


@pytest.mark.parametrize("seed", [0, 1])
def test_300_items_under_faults(seed):
    with FaultServer(rates=RATES, seed=seed, latency=0.02, jitter=0.01, retry_after="0.1") as server:
        found = run(server, 300, ceiling=16)
    assert sorted(one.key for one in found) == sorted(f"k{k}" for k in range(300))
    assert all(one.reply.text == answer_to(one.key, "") for one in found)  # no wrong answer, none lost
    faults = sum(line["mode"] != "ok" for line in server.log)
    assert faults >= 15
    assert len(server.log) == 300 + faults == sum(len(one.attempts) for one in found) <= 1.12 * 300
    assert server.most_in_flight <= 16


def test_faults_that_stay_are_listed_and_the_rest_is_answered():
    sticky = {"k3": "malformed", "k40": "500", "k41": "drop", "k77": "400", "k99": "filter_200", "k100": "wrong_model"}
    with FaultServer(rates=RATES, sticky=sticky, latency=0.005, retry_after="0.05") as server:
        found = run(server, 150, ceiling=16)
    kinds = {one.key: one.kind for one in found if one.reply is None}
    assert kinds == {"k3": "malformed", "k40": "overloaded", "k41": "connection", "k77": "bad_request",
                     "k99": "filtered", "k100": "wrong_model"}  # fmt: skip
    assert len(found) == 150
    assert all(one.reply.text == answer_to(one.key, "") for one in found if one.reply)


def test_a_server_that_answers_nothing_any_more_ends_the_run():
    with FaultServer(sticky={"*": "500"}) as server, pytest.raises(CallsStopped, match="20 items in a row") as stopped:
        run(server, 1000, RetryPolicy(attempts=2, first=0.001, cap=0.001))
    assert stopped.value.kind == "no_answers"
    assert 40 <= len(server.log) < 100


def test_filtered_items_are_answers():
    def answer(request, number):
        raise CallError("filtered", "filtered")

    assert len(outcomes(Fake(answer), jobs(60))) == 60


# Ceilings and budgets


@pytest.mark.parametrize("ceiling", [1, 3, 16])
def test_no_more_in_flight_than_the_ceiling(ceiling):
    with FaultServer(latency=0.005 * ceiling, rates={"429": 0.1}, retry_after="0") as server:
        run(server, 60, ceiling=ceiling)
    assert server.most_in_flight == ceiling
    assert server.log[1]["t"] - server.log[0]["t"] >= 0.005 * ceiling  # the first goes alone


def test_a_place_is_free_only_once_its_outcome_was_taken():
    route, written, most = Fake(), 0, 0
    for batch in pump(route, jobs(100), pace=Pace(4)):
        time.sleep(0.005)  # the caller writes its journal, and may be killed now
        most = max(most, len(route.calls) - written)
        written += len(batch)
    assert written == len(route.calls) == 100
    assert most == 4


def test_a_pace_may_be_used_again():
    pace = Pace(3)
    for _ in range(3):
        assert len(outcomes(Fake(), jobs(10), pace=pace)) == 10
        assert pace.in_flight == 0
    stream = pump(Fake(seconds=0.01), jobs(10), pace=pace)
    next(stream)
    stream.close()
    assert pace.in_flight == 0


def test_requests_per_minute_hold_on_the_wire():
    with FaultServer() as server:
        route = EndpointRoute(server.url, "tiny")
        list(pump(route, jobs(20), pace=Pace(20, requests_per_minute=1200)))
    moments = [line["t"] for line in server.log]
    assert moments[-1] - moments[0] >= 0.9 * (20 - 13) / 20  # 12 at once, then 20 a second


@pytest.mark.parametrize("limit", [0, 1, 7, 25])
def test_a_budget_of_calls_is_a_clean_stop(limit):
    with FaultServer(rates={"500": 0.2}, latency=0.005) as server:
        found = []
        stream = pump(
            EndpointRoute(server.url, "tiny"), jobs(60), policy=FAST, pace=Pace(8), budget=Budget(calls=limit)
        )
        with pytest.raises(CallsStopped, match="budget of calls") as stopped:
            collect(stream, found)
    assert stopped.value.kind == "budget"
    assert len(server.log) == limit
    assert {one.key for one in found if one.reply} == {line["item"] for line in server.log if line["mode"] == "ok"}


def test_a_budget_that_is_enough_stops_nothing():
    with FaultServer() as server:
        assert len(run(server, 30, budget=Budget(calls=30, tokens=60_000))) == 30


def test_a_budget_of_money_is_never_exceeded():
    budget = Budget(money=1.0, price=lambda first, second: (first + second) / 1e5)  # about 0.01 a call is set aside
    route = Fake(lambda request, number: Reply("x", input_tokens=100, output_tokens=400), seconds=0.002)
    with pytest.raises(CallsStopped, match="budget of money"):
        outcomes(route, jobs(1000), budget=budget, pace=Pace(16))
    assert 0.985 <= budget.spent.money <= 1.0
    assert budget.spent.calls == len(route.calls) == round(budget.spent.money / 0.005)


# Jobs


def test_jobs_are_taken_only_as_there_is_room():
    taken, made = count(), []

    def endless():
        for k in taken:
            yield f"k{k}", lambda k=k: made.append(k) or Request(f"k{k}", ("x",))

    route = Fake(seconds=0.002)
    stream = pump(route, endless(), pace=Pace(5))
    for _ in range(40):
        next(stream)
    stream.close()
    assert next(taken) <= len(route.calls) + AHEAD + 1
    assert route.closed == 1


def test_many_jobs_in_little_memory():
    tasks = []

    def answer(request, number):
        if number % 500 == 0:
            tasks.append(len(asyncio.all_tasks()))
        return Reply("x")

    assert len(outcomes(Fake(answer), jobs(5000), pace=Pace(16))) == 5000
    assert max(tasks) <= 2 * 16 + 2


def test_requests_are_made_off_the_loop_and_a_slow_one_holds_up_nobody():
    makers = set()

    def work():
        for k in range(30):

            def make(k=k):
                makers.add(threading.current_thread().name)
                if k == 3:
                    time.sleep(0.3)
                return Request(f"k{k}", ("x",))

            yield f"k{k}", make

    found = outcomes(Fake(seconds=0.001), work())
    assert found[-1].key == "k3"
    assert all(name.startswith("dermjudge requests") for name in makers)


def test_an_item_whose_request_cannot_be_made_is_an_outcome_without_a_call():
    def refuse():
        raise InputError("image 'x.jpg': is empty")

    route = Fake()
    work = [*jobs(3), ("bad", refuse), *((f"z{k}", refuse) for k in range(30))]
    found = {one.key: one for one in outcomes(route, work, pace=Pace(2))}
    assert len(found) == 34 and len(route.calls) == 3
    bad = found["bad"]
    assert (bad.kind, bad.message, bad.attempts, bad.paid) == ("input_error", "image 'x.jpg': is empty", (), 0)


@pytest.mark.parametrize("where", ["jobs", "make", "route", "on_call"])
def test_an_error_of_the_program_ends_everything_and_loses_no_answer(where):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    def work():
        yield from jobs(20)
        if where == "jobs":
            fail()
        yield "bad", fail if where == "make" else lambda: Request("bad", ("x",))
        yield from jobs(2000)

    def answer(request, number):
        return fail() if where == "route" and request.key == "bad" else Reply("x")

    def on_call(call):
        if where == "on_call" and call.key == "bad":
            fail()

    route, found = Fake(answer, seconds=0.001), []
    with pytest.raises(ZeroDivisionError, match="a bug"):
        collect(pump(route, work(), on_call=on_call, pace=Pace(4)), found)
    answered = len(route.calls) - (where in ("route", "on_call"))
    assert 8 <= len(found) == answered < 100  # a few taken ahead are left undone
    assert route.closed == 1


def test_no_jobs_no_calls():
    route = Fake()
    assert list(pump(route, [])) == [] and route.calls == []


def test_it_works_where_an_event_loop_runs_already():
    async def notebook():
        return outcomes(Fake(), jobs(5))

    assert len(asyncio.run(notebook())) == 5


# Ends


def test_ctrl_c_hands_out_what_is_finished_and_gives_up_the_rest():
    def answer(request, number):
        if number == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return Reply("x")

    class Slow(Fake):
        async def send(self, request):
            if request.key == "k10":
                self.calls.append(request.key)
                await asyncio.sleep(60)
            return await super().send(request)

    route, found, start = Slow(answer, seconds=0.005), [], time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            collect(pump(route, jobs(5000), pace=Pace(4)), found)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 10
    assert "k10" in route.calls and "k10" not in {one.key for one in found}
    assert len(route.calls) - len(found) <= 4  # what was in flight
    assert len(found) >= 35 and len({one.key for one in found}) == len(found)
    assert route.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "dermjudge calls"]


def test_leaving_the_loop_early_closes_everything():
    route = Fake(seconds=0.01)
    stream = pump(route, jobs(1000), pace=Pace(8))
    for batch in stream:
        assert batch
        break
    stream.close()
    assert route.closed == 1 and route.flying == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "dermjudge calls"]
    assert len(route.calls) < 30


def test_clocks_that_jump_change_nothing(monkeypatch):
    jumping = count(2_000_000_000, -40_000_000)
    monkeypatch.setattr(time, "time", lambda: float(next(jumping)))
    with FaultServer(script={"k0": ["429"]}, retry_after="0.1") as server:
        assert all(one.reply for one in run(server, 20))
    moments = [line["t"] for line in server.log if line["item"] == "k0"]
    assert 0.1 <= moments[1] - moments[0] < 1.0
