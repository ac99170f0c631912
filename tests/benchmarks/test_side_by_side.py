"""Candidates beside each other: order, ends, the lead of the fast, one purse."""

import threading
import time

import pytest

from dermjudge.benchmarks.shelf import Shelf
from dermjudge.benchmarks.side_by_side import Lead, Purse, Source, side_by_side
from dermjudge.judge.calls.budget import Budget
from dermjudge.judge.calls.chat import CallsStopped, Picture, Reply, Request


class Script:
    """A source that yields what it is told, and notes when each list was taken up again."""

    def __init__(self, *steps, wait=0.0):
        self.steps, self.wait, self.done, self.stopped = steps, wait, [], threading.Event()

    def lists(self):
        for step in self.steps:
            if self.stopped.wait(self.wait):
                return
            if isinstance(step, BaseException):
                raise step
            yield step
            self.done.append(step)

    @property
    def source(self):
        return Source(self.lists, self.stopped.set)


def test_a_source_goes_on_only_when_its_last_list_is_safe():
    one, two = Script([1], [2], [3]), Script([4], [5])
    seen = []
    for name, found in side_by_side({"one": one.source, "two": two.source}):
        assert found not in one.done and found not in two.done
        seen.append((name, found))
    assert [f for n, f in seen if n == "one"] == [[1], [2], [3]] and [f for n, f in seen if n == "two"] == [[4], [5]]


def test_a_stopped_source_leaves_the_others_alone_and_an_error_ends_all():
    why = CallsStopped("denied", "no")
    seen = list(side_by_side({"a": Script([1], why).source, "b": Script([2], [3], wait=0.05).source}))
    assert ("a", why) in seen and ("b", [3]) in seen
    slow = Script(*[[k] for k in range(10_000)], wait=0.01)
    with pytest.raises(OSError, match="disk"):
        list(side_by_side({"a": Script([1], OSError("disk")).source, "b": slow.source}))
    assert slow.stopped.is_set() and len(slow.done) < 1000


def test_leaving_the_loop_ends_all():
    before = set(threading.enumerate())  # other tests' threads may still be there
    slow = Script(*[[k] for k in range(10_000)], wait=0.01)
    events = side_by_side({"a": slow.source, "b": Script([1], [2]).source})
    next(events)
    events.close()
    assert slow.stopped.is_set() and not set(threading.enumerate()) - before


def test_nobody_waits_for_one_that_does_not_move():
    lead = Lead(10, patience=0.05)
    for name in ("fast", "stuck"):
        lead.enter(name)
    lead.reach("fast", 10)
    start = time.monotonic()
    lead.reach("fast", 11)
    assert 0.04 < time.monotonic() - start < 5
    start = time.monotonic()
    lead.reach("fast", 1000)  # "stuck" is left behind
    assert time.monotonic() - start < 0.04


def test_the_fast_waits_for_the_slow():
    lead = Lead(10)
    lead.enter("fast")
    lead.enter("slow")
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (lead.reach("fast", 30), passed.set()))
    thread.start()
    lead.reach("slow", 19)
    assert not passed.wait(0.05)
    lead.reach("slow", 20)
    assert passed.wait(5)
    passed.clear()
    thread = threading.Thread(target=lambda: (lead.reach("fast", 90), passed.set()))
    thread.start()
    assert not passed.wait(0.05)
    lead.leave("slow")
    assert passed.wait(5)


def test_each_share_of_the_purse_has_its_own_price():
    purse = Purse(Budget(money=10.0, price=lambda a, b: 0.0))
    cheap, dear, dark = purse.share(lambda a, b: 1.0), purse.share(lambda a, b: 6.0), purse.share(None)
    request = Request("k", ("x",))
    first, second = dear.reserve(request), cheap.reserve(request)
    assert (first.money, second.money) == (6.0, 1.0)
    assert dear.reserve(request) is None  # until one of its own has ended
    dear.settle(first, Reply("", input_tokens=1, output_tokens=1))
    cheap.settle(second, Reply("", cost=0.5))
    assert purse.whole.spent.money == 6.5 == cheap.spent.money and purse.whole.spent.calls == 2
    with pytest.raises(CallsStopped, match="used up"):
        dear.reserve(request)
    held = [cheap.reserve(request) for _ in range(3)]
    assert None not in held and cheap.reserve(request) is None
    with pytest.raises(CallsStopped, match="held by calls of other candidates"):
        purse.share(lambda a, b: 1.0).reserve(request)
    assert dark.reserve(request).money == 0.0


def test_the_shelf_holds_what_is_still_wanted():
    made = []

    def make(name):
        return lambda: made.append(name) or Picture(b"", "image/jpeg", name)

    shelf = Shelf(2)
    shelf.expect(["a", "a", "b", "c", "c", "d", "d"])
    for name in "aabccdd":
        shelf.take(name, make(name))
    assert made == list("abcd") and shelf._there == {} and not +shelf._wanted
    shelf.expect(["e", "e", "f", "f", "g", "g"])
    for name in "efgefg":
        shelf.take(name, make(name))
    assert made[4:] == list("efgg")  # no room for a third
    shelf.expect("hh")
    shelf.take("h", make("h"))
    shelf.forgo("h")
    assert shelf._there == {}
