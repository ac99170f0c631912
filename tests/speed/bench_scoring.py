"""Speed of the embedded judge: one-pass scores against a generated critique, and memory over many narratives.

    python tests/speed/bench_scoring.py [--narratives 10000]

Prints ratios within one run on one machine (CPU seconds, one thread); the yardstick is generating a 150-token critique
with the same weights.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from dermjudge.benchmarks.synthetic import generate
from dermjudge.judge.backends import open_judge
from dermjudge.judge.backends.base import Question
from dermjudge.judge.backends.local import read_slots, slot_logits
from dermjudge.judge.images import prepare
from dermjudge.judge.prompt import render
from dermjudge.judge.records import Narrative
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.score import score


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rates(folder: Path, batch: int, number: int) -> tuple[float, float, float]:
    """Cases per CPU second: whole scoring (prompt, picture, pass), the pass alone, and 150 generated tokens."""
    rubric = load_rubric("derm6")
    judge = open_judge("embedded", rubric, batch_size=batch)
    made = generate(folder / f"bench-{batch}", max(20, number // 4), seed=5)
    by_id = {case.id: case for case in made.cases}

    def question(narrative: Narrative) -> Question:
        case = by_id[narrative.case_id]
        picture = prepare(folder / f"bench-{batch}", case.images[0].path).pixels
        return Question("k", render(case, narrative, rubric, "bound"), (picture,))

    judge.answer([question(n) for n in made.narratives[:batch]])  # warm-up
    start = time.process_time()
    for k in range(0, number, batch):
        judge.answer([question(n) for n in made.narratives[k : k + batch]])
    whole = number / (time.process_time() - start)
    questions = [question(n) for n in made.narratives[:number]]
    encoded = [judge.encoder.encode(q.prompt, q.pictures) for q in questions]
    batches = [judge.encoder.batch(encoded[k : k + batch]) for k in range(0, number, batch)]
    batches = [{k: v.to(judge.dtype) if torch.is_floating_point(v) else v for k, v in b.items()} for b in batches]
    with torch.inference_mode():
        start = time.process_time()
        for b in batches:
            read_slots(slot_logits(judge.model, b), judge.levels, judge.values)
        passes = number / (time.process_time() - start)
        part = batches[: max(1, len(batches) // (8 if batch > 1 else 4))]
        start = time.process_time()
        for b in part:
            inputs = {k: v for k, v in b.items() if k != "slots"}
            judge.model.generate(**inputs, min_new_tokens=150, max_new_tokens=150, do_sample=False)
        generated = len(part) * batch / (time.process_time() - start)
    return whole, passes, generated


def memory(folder: Path, number: int) -> list[tuple[int, float]]:
    """Peak memory (MiB) after scoring a tenth and all of `number` narratives."""
    rubric = load_rubric("derm6")
    judge = open_judge("embedded", rubric)
    bench = folder / "many"
    made = generate(bench, 100, seed=6)
    found = []
    for total in (number // 10, number):
        copies = [
            Narrative(n.case_id, f"{n.system}-{k}", n.text, arm=n.arm)
            for k in range(total // len(made.narratives))
            for n in made.narratives
        ]
        score(made.cases, copies, rubric, judge, folder / f"run-{total}", root=bench)
        found.append((len(copies), peak()))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--narratives", type=int, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for size, count in ((1, 64), (32, 256)):
            all_in, alone, critique = rates(Path(temporary), size, count)
            print(
                f"batch {size}: scoring {all_in:.0f} cases per CPU second (the pass alone {alone:.0f}), 150-token "
                f"critique {critique:.2f}; ratio {all_in / critique:.1f} (goal >= 8)",
                flush=True,
            )
        (few, low), (many, high) = memory(Path(temporary), arguments.narratives)
        print(f"peak memory: {low:.0f} MiB after {few} narratives, {high:.0f} MiB after {many} (goal <= 1536, flat)")
