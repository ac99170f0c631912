"""SIGKILL and SIGTERM in the midst of generation by two candidates: nothing lost, doubled or paid for again."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks.candidates import generate
from dermjudge.benchmarks.open_systems import make_systems
from dermjudge.judge.calls.retry import RetryPolicy
from dermjudge.judge.records import Case, Image
from dermjudge.judge.verify import verify_run
from tests.fault_server import FaultServer

ROOT = Path(__file__).resolve().parents[2]
CASES, IN_FLIGHT = 40, 4  # of each of two candidates, in two arms
CHILD = """import sys; sys.path.insert(0, sys.argv[1])
from tests.benchmarks.test_generate_kill import run; run(*sys.argv[2:])"""


def run(one, two, out, root):
    """One session of the run, here or in a process of its own."""
    cases = [Case(f"c{k}", (Image(f"{k % 3}.png"),), context=f"item=c{k} {{}}") for k in range(CASES)]
    specs = [f"a=endpoint:{one}#tiny", f"b=endpoint:{two}#tiny"]
    systems = make_systems(specs, in_flight=IN_FLIGHT, policy=RetryPolicy(first=0.01))
    return generate(cases, systems, out, root=root, arms=["image_context", "text_only"])


def answer(item, prompt):
    if int(item[1:]) % 8 == 0:
        return "I cannot diagnose this."
    return f"A plaque on {item}.\nDifferential diagnosis:\n1. Psoriasis\n2. Eczema\nTriage: soon"


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one: every list of answers is synced."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def servers(tmp_path):
    for k in range(3):
        Pillow.new("RGB", (40, 30), (80 * k, 40, 40)).save(tmp_path / f"{k}.png")
    slow = dict(latency=0.02, jitter=0.015, rates={"429": 0.02, "500": 0.01, "drop": 0.01}, retry_after="0")
    with FaultServer(answer=answer, **slow) as one, FaultServer(answer=answer, seed=1, **slow) as two:
        one.bodies, two.bodies = [], []
        yield one, two


def answered(servers, starts):
    """How often each request was answered with 200, by candidate."""
    found = Counter()
    for name, (server, start) in enumerate(zip(servers, starts, strict=True)):
        lines = server.log[start:]
        bodies = server.bodies[start : start + len(lines)]
        for line, body in zip(lines, bodies, strict=True):
            if line["mode"] == "ok":
                found[name, hashlib.sha256(body).hexdigest()] += 1
    return found


def break_off(servers, out, root, seed, most, how=signal.SIGKILL):
    """Kill at a random moment, start again, until it is through or was killed `most` times; how often it was."""
    rng = random.Random(seed)
    urls = [server.url for server in servers]
    arguments = [sys.executable, "-c", CHILD, *map(str, (ROOT, *urls, out, root))]
    for kills in range(most):
        before = sum(len(server.log) for server in servers)
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and sum(len(server.log) for server in servers) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        if process.poll() is not None:
            return kills
        os.kill(process.pid, how)
        process.wait()
    return most


def check(servers, starts, folder, whole, once, kills):
    for name in ("narratives.jsonl", "not_written.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert verify_run(folder).problems == () and verify_run(folder).done == 4 * CASES
    results = [json.loads(line)["rec"] for line in (folder / "journal.jsonl").open()]
    assert Counter(r["key"] for r in results).most_common(1)[0][1] == 1
    again = answered(servers, starts)
    assert set(again) == set(once)
    assert sum(again.values()) - sum(once.values()) <= kills * IN_FLIGHT * 2


@pytest.mark.parametrize("total", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_kills(servers, tmp_path, total):
    done = run(*(server.url for server in servers), tmp_path / "whole", tmp_path)
    assert done.states == {"a": {"written": 70, "refused": 10}, "b": {"written": 70, "refused": 10}}
    once, kills, number = answered(servers, (0, 0)), 0, 0
    assert set(once.values()) == {1} and len(once) == 4 * CASES
    while kills < total:
        starts, folder = [len(server.log) for server in servers], tmp_path / f"run-{number}"
        here = break_off(servers, folder, tmp_path, seed=number, most=min(total - kills, 8))
        assert run(*(server.url for server in servers), folder, tmp_path).complete
        check(servers, starts, folder, tmp_path / "whole", once, here)
        kills, number = kills + here, number + 1


def test_terminated_runs_close_and_resume(servers, tmp_path):
    urls = [server.url for server in servers]
    run(*urls, tmp_path / "whole", tmp_path)
    once, starts, folder = answered(servers, (0, 0)), [len(s.log) for s in servers], tmp_path / "run"
    assert break_off(servers, folder, tmp_path, seed=5, most=1, how=signal.SIGTERM) == 1
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    assert verify_run(folder).problems == ()
    assert run(*urls, folder, tmp_path).complete
    check(servers, starts, folder, tmp_path / "whole", once, 1)
    before = [len(server.log) for server in servers]
    assert run(*urls, folder, tmp_path).resumed == 4 * CASES
    assert [len(server.log) for server in servers] == before
