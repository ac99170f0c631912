"""Paid calls and the journal: killed at random moments and resumed, nothing is lost, doubled or paid without need."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

pytest.importorskip("aiohttp")

from dermjudge.judge.run import Run
from tests.fault_server import answer_to, read_log, spawn

IN_FLIGHT, ITEMS = 6, 80
CHILD = """
import sys
from dermjudge.judge.calls.chat import Request
from dermjudge.judge.calls.endpoint import EndpointRoute
from dermjudge.judge.calls.pace import Pace
from dermjudge.judge.calls.pump import pump
from dermjudge.judge.calls.retry import RetryPolicy
from dermjudge.judge.run import Run, sigterm_interrupts

url, folder, items, in_flight = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
keys = [f"k{k}" for k in range(items)]
with sigterm_interrupts(), Run.open(folder, {"url": "x"}, keys) as run:
    open_ = ((key, lambda key=key: Request(key, (f"item={key}",))) for key in keys if key not in run.done)
    policy = RetryPolicy(first=0.01, cap=0.05)
    for outcomes in pump(EndpointRoute(url, "tiny"), open_, policy=policy, pace=Pace(in_flight)):
        run.append_many((one.key, one.reply.text) for one in outcomes if one.reply)
"""


def start(url, folder):
    command = [sys.executable, "-c", CHILD, url, str(folder), str(ITEMS), str(IN_FLIGHT)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def journal(folder):
    lines = (folder / "journal.jsonl").read_bytes().splitlines() if (folder / "journal.jsonl").exists() else []
    return [json.loads(line)["rec"]["key"] for line in lines if line.endswith(b"}")]


def kills_and_resumes(tmp_path, kills, seed):
    rng = random.Random(seed)
    folder, log = tmp_path / "run", tmp_path / "log.jsonl"
    killed = 0
    with spawn(log, latency=0.04, jitter=0.03, rates={"429": 0.03, "500": 0.02}, retry_after="0.05") as url:
        while True:
            child = start(url, folder)
            if killed == kills:
                _, error = child.communicate(timeout=60)
                assert child.returncode == 0, error
                break
            before = len(journal(folder))
            while child.poll() is None and len(journal(folder)) < before + 3:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.1)
            if child.poll() is None:
                child.kill()
                killed += 1
            child.communicate()
            if child.returncode == 0:
                break
    answered = Counter(line["item"] for line in read_log(log) if line["mode"] == "ok")
    return folder, killed, answered


@pytest.mark.parametrize("kills", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_kill_9_and_resume(tmp_path, kills):
    folder, killed, answered = kills_and_resumes(tmp_path, kills, seed=kills)
    assert killed >= 2
    with Run.open(folder, {"url": "x"}, [f"k{k}" for k in range(ITEMS)]) as run:
        found = {entry.key: entry.data for entry in run.results()}
    assert found == {f"k{k}": answer_to(f"k{k}", "") for k in range(ITEMS)}
    assert max(Counter(journal(folder)).values()) == 1  # no result stands twice
    assert sum(answered.values()) - ITEMS <= killed * IN_FLIGHT  # paid again: at most what was in flight


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_nothing_moves(tmp_path, number):
    folder = tmp_path / "run"
    sticky = {f"k{k}": "stall" for k in range(20, 60)}
    with spawn(tmp_path / "log.jsonl", latency=0.01, sticky=sticky) as url:
        child = start(url, folder)
        while len(journal(folder)) < 20:
            assert child.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)
        child.send_signal(number)
        begin = time.monotonic()
        _, error = child.communicate(timeout=20)
    assert time.monotonic() - begin < 5
    assert "KeyboardInterrupt" in error
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    assert sorted(journal(folder)) == sorted(f"k{k}" for k in range(20))
