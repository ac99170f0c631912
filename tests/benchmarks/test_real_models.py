"""Real models as candidates: transformers in this process, and `transformers serve` on loopback, there as judge too."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image as Pillow

pytest.importorskip("torch")

from dermjudge.benchmarks.candidates import generate
from dermjudge.benchmarks.open_systems import make_systems
from dermjudge.benchmarks.systems import Asking
from dermjudge.judge.backends import open_judge
from dermjudge.judge.records import Case, Image
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.score import score
from dermjudge.judge.tables import read_narratives
from dermjudge.judge.verify import verify_run
from tests import tiny

PROMPT = "Look at the lesion. {pictures}{context} Findings and diagnosis:"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.idefics3(tmp_path_factory.mktemp("model") / "base")


def make_cases(root, count, odd="<image> {}"):
    cases = []
    for k in range(count):
        for n in range(2):
            Pillow.new("RGB", (40, 30), (30 * k, 90 * n, 40)).save(root / f"{k}-{n}.png")
        images = tuple(Image(f"{k}-{n}.png") for n in range(1 + k % 2))
        cases.append(Case(f"c{k}", images, context=f"red scaly patch {k} {odd}"))
    return cases


@pytest.fixture
def prompt(tmp_path):
    from dermjudge.benchmarks.candidate_prompts import CandidatePrompt

    (tmp_path / "short.txt").write_text(PROMPT)
    return CandidatePrompt(tmp_path / "short.txt")


def test_a_local_model_in_fixed_batches_resumes_to_the_same_bytes(base, tmp_path, prompt, monkeypatch):
    cases = make_cases(tmp_path, 5)
    (system,) = make_systems([f"local:{base}"], asking=Asking({"max_tokens": 8, "temperature": 2.0}), batch_size=3)
    assert system.name.startswith("base@") and system.route is None
    how = {"root": tmp_path, "arms": ["image_only", "image_context", "text_only"], "prompt": prompt}
    done = generate(cases, [system], tmp_path / "whole", **how)
    assert done.complete and done.planned == 15 == sum(done.states[system.name].values())
    found = read_narratives(tmp_path / "whole" / "narratives.jsonl")
    assert len({n.text for n in found}) > 5 and all(n.provenance["output_tokens"] <= 8 for n in found)
    assert {n.provenance["cost"] for n in found} == {0.0} and str(tmp_path) not in (tmp_path / "whole").joinpath(
        "narratives.jsonl").read_text()  # fmt: skip

    answer, batches = system.route.answer, []

    def interrupted(requests):
        batches.append(len(requests))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return answer(requests)

    monkeypatch.setattr(system.route, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(cases, [system], tmp_path / "cut", **how)
    again = generate(cases, [system], tmp_path / "cut", **how)
    assert (again.resumed, batches) == (6, [3] * 6) and again.complete
    for name in ("narratives.jsonl", "not_written.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert verify_run(tmp_path / "cut").ok


@contextmanager
def served(folder):
    """`transformers serve` in a process of its own; yields the URL."""
    program = shutil.which("transformers", path=str(Path(sys.executable).parent)) or shutil.which("transformers")
    if program is None:
        pytest.skip("the transformers command is not installed")
    for package in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(package)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | quiet)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_transformers_serve_as_candidate_and_as_judge(base, tmp_path, prompt):
    """Random weights say nothing sensible: what counts is that every answer of a real server gets its state."""
    cases = make_cases(tmp_path, 3, odd="{}")  # a server may take "<image>" in a text for a picture, and fails then
    with served(base) as url:
        specs = [f"served=endpoint:{url}#{base}", f"here=local:{base}"]
        systems = make_systems(specs, asking=Asking({"max_tokens": 8}), in_flight=2, batch_size=1)
        done = generate(cases, systems, tmp_path / "run", root=tmp_path, arms=["image_only", "text_only"],
                        prompt=prompt)  # fmt: skip
        assert done.complete and done.missing == 0
        assert [sum(states.values()) for states in done.states.values()] == [6, 6]
        found = read_narratives(tmp_path / "run" / "narratives.jsonl")
        by = {n.key: n for n in found}
        for narrative in (n for n in found if n.system == "served"):
            origin = narrative.provenance
            assert origin["model_returned"].startswith(str(base)) and origin["output_tokens"] <= 8
            assert narrative.finish_reason == "length" and origin["state"] == "truncated"
            twin = by[narrative.case_id, "here", narrative.arm, 0]
            assert origin["pictures"] == twin.provenance["pictures"] and origin["input_tokens"] > 5
            if narrative.arm == "image_only":  # greedy, same weights, same bytes: the same words
                assert narrative.text.strip() == twin.text.strip()
        judge = open_judge(f"endpoint:{url}#{base}", load_rubric("derm6"), settings={"max_tokens": 16}, again=0)
        texts = [n for n in found if n.judged and n.system == "served"]
        scored = score(cases, texts, load_rubric("derm6"), judge, tmp_path / "judged", root=tmp_path)
        assert sum(scored.states.values()) == scored.planned == 6 * len(texts) > 0
        assert "scored" not in scored.states and "api_error" not in scored.states  # no score is made up
        assert verify_run(tmp_path / "judged").ok
