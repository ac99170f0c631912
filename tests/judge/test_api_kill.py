"""SIGKILL and SIGTERM in the midst of a run over HTTP: nothing lost or doubled, paid again only what was in flight."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image as Pillow

from dermjudge.judge.backends import open_judge
from dermjudge.judge.calls.pace import Pace
from dermjudge.judge.calls.retry import RetryPolicy
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.score import score
from dermjudge.judge.verify import verify_run
from tests.fault_server import FaultServer

ROOT = Path(__file__).resolve().parents[2]
RUBRIC = load_rubric("derm6")
ITEMS, IN_FLIGHT = 160, 8
CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from tests.judge.test_api_kill import run; run(*sys.argv[2:])"


def run(url, out, root, samples="1"):
    """One session of the run, here or in a process of its own."""
    cases = [Case(f"c{k}", (Image(f"{k % 3}.png"),), context=f"item=c{k}") for k in range(ITEMS // 2)]
    texts = [Narrative(c.id, system, f"{c.id} by {system} {{}}") for system in "xy" for c in cases]
    pace, policy = Pace(IN_FLIGHT), RetryPolicy(first=0.01)
    judge = open_judge(f"endpoint:{url}#tiny", RUBRIC, pace=pace, policy=policy, samples=int(samples))
    return score(cases, texts, RUBRIC, judge, out, root=root)


def answer(item, prompt):
    """By the prompt alone, so that a run that was broken off is told the same; one of eight is no answer at all."""
    nonce, block = re.findall(r"<<<scores (\w+)\n(\{.*?\})\nscores", prompt)[-1]
    if int(nonce[:8], 16) % 8 == 0:
        return "A fair narrative, I would say four."
    digit = iter(hashlib.sha256(prompt.encode()).digest())
    block = re.sub(r'("[^"]+"): N', lambda hit: f"{hit[1]}: {next(digit) % 6}", block)
    return f"I see {item}.\n<<<scores {nonce}\n{block}\nscores {nonce}>>>"


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one: every list of answers is synced."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def server(tmp_path):
    for k in range(3):
        Pillow.new("RGB", (40, 30), (80 * k, 40, 40)).save(tmp_path / f"{k}.png")
    with FaultServer(answer=answer, latency=0.02, jitter=0.015, rates={"429": 0.02, "500": 0.01, "drop": 0.01},
                     retry_after="0") as running:  # fmt: skip
        running.bodies = []
        yield running


def answered(server, start):
    """How often each prompt was answered with 200 since request `start`."""
    lines = server.log[start:]
    bodies = server.bodies[start : start + len(lines)]
    return Counter(hashlib.sha256(b).digest() for line, b in zip(lines, bodies, strict=True) if line["mode"] == "ok")


def break_off(server, out, root, seed, most, samples=1, how=signal.SIGKILL):
    """Kill at a random moment, start again, until it is through or was killed `most` times; how often it was."""
    rng = random.Random(seed)
    arguments = [sys.executable, "-c", CHILD, *map(str, (ROOT, server.url, out, root, samples))]
    for kills in range(most):
        before = len(server.log)
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(server.log) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.25))
        if process.poll() is not None:
            return kills
        os.kill(process.pid, how)
        process.wait()
    return most


def check(server, folder, whole, start, once, kills):
    assert (folder / "ratings.jsonl").read_bytes() == (whole / "ratings.jsonl").read_bytes()
    assert verify_run(folder).problems == () and verify_run(folder).done == ITEMS
    results = [json.loads(line)["rec"] for line in (folder / "journal.jsonl").open()]
    assert Counter(r["key"] for r in results if r["kind"] == "result").most_common(1)[0][1] == 1
    again = answered(server, start)
    assert set(again) == set(once)
    assert sum(again.values()) - sum(once.values()) <= kills * IN_FLIGHT


@pytest.mark.parametrize("total", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_of_a_streamed_run(server, tmp_path, total):
    states = run(server.url, tmp_path / "whole", tmp_path).states
    assert states["scored"] > 5 * ITEMS and states["unparsable"] > 0
    once, kills, number = answered(server, 0), 0, 0
    assert max(once.values()) == 1 and len(once) > ITEMS  # some were asked again
    while kills < total:
        start, folder = len(server.log), tmp_path / f"run-{number}"
        here = break_off(server, folder, tmp_path, seed=number, most=min(total - kills, 12))
        run(server.url, folder, tmp_path)
        check(server, folder, tmp_path / "whole", start, once, here)
        kills, number = kills + here, number + 1


def test_terminated_runs_close_and_resume(server, tmp_path):
    run(server.url, tmp_path / "whole", tmp_path, 2)
    once, start, folder = answered(server, 0), len(server.log), tmp_path / "run"
    assert break_off(server, folder, tmp_path, seed=5, most=1, samples=2, how=signal.SIGTERM) == 1
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    assert verify_run(folder).problems == ()
    assert 0 < run(server.url, folder, tmp_path, 2).resumed < ITEMS
    check(server, folder, tmp_path / "whole", start, once, 1)
    before = len(server.log)
    assert run(server.url, folder, tmp_path, 2).resumed == ITEMS
    assert len(server.log) == before  # nothing is left to ask
