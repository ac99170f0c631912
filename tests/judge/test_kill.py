"""SIGKILL at random moments of `dermjudge score`: the resumed result equals the unbroken one, byte for byte."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.records import Case, Narrative
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import write_narratives
from dermjudge.judge.verify import verify_run

RUBRIC = load_rubric("derm6")
SCORE = "import sys; from dermjudge.cli.main import main; main(['score', *sys.argv[1:]])"


def command(bench, judge, out):
    arguments = [str(bench), "--judge", judge, "--out", str(out), "--batch-size", "4", "--json"]
    return [sys.executable, "-c", SCORE, *arguments]


def run_out(arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def make(tmp_path, number):
    cases = [Case(f"c{k}", context="left palm") for k in range(number)]
    narratives = [Narrative(case.id, "s", f"Diagnosis: psoriasis number {k}.") for k, case in enumerate(cases)]
    write_benchmark(
        tmp_path / "bench",
        name="kill",
        version="1",
        licence="CC0-1.0",
        source="test",
        cases=cases,
        extra=lambda folder: write_narratives(narratives, folder / "narratives.jsonl"),
    )
    rows = [
        json.dumps(
            {"case_id": f"c{k}", "system": "s", "answer": json.dumps({"scores": {d: k % 6 for d in RUBRIC.names}})}
        )
        for k in range(number)
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(rows))
    return tmp_path / "bench", f"replay:{tmp_path / 'answers.jsonl'}"


def kill_and_resume(arguments, out, kills, begin, seed):
    """Kill `kills` times at a random moment of its work, then let it finish; returns what was seen."""
    rng = random.Random(seed)
    seen = {"killed": 0, "in the middle": 0}
    while seen["killed"] < kills:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out / "journal.jsonl").exists():
            time.sleep(0.005)
        time.sleep(rng.uniform(0, begin))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            seen["killed"] += 1
        process.wait()
        lines = (out / "journal.jsonl").read_bytes().count(b"\n") if (out / "journal.jsonl").exists() else 0
        seen["in the middle"] += lines > 0
    run_out(arguments)
    return seen


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_without_torch(tmp_path, kills):
    bench, judge = make(tmp_path, 2000)
    run_out(command(bench, judge, tmp_path / "whole"))
    seen = kill_and_resume(command(bench, judge, tmp_path / "run"), tmp_path / "run", kills, 0.8, seed=kills)
    assert seen["in the middle"] > 0
    assert (tmp_path / "run" / "ratings.jsonl").read_bytes() == (tmp_path / "whole" / "ratings.jsonl").read_bytes()
    assert verify_run(tmp_path / "run").problems == ()


@pytest.mark.slow
def test_kills_with_a_local_model(tmp_path):
    pytest.importorskip("torch")
    from tests import tiny

    bench, _ = make(tmp_path, 240)
    base = tiny.idefics3(tmp_path / "base")
    judge = f"local:{base}+{tiny.adapter(base, tmp_path / 'adapter', RUBRIC)}"
    run_out(command(bench, judge, tmp_path / "whole"))
    kill_and_resume(command(bench, judge, tmp_path / "run"), tmp_path / "run", 5, 1.5, seed=5)
    assert (tmp_path / "run" / "ratings.jsonl").read_bytes() == (tmp_path / "whole" / "ratings.jsonl").read_bytes()
