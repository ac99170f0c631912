"""The judge in the package: what its card says can be seen again here, on cases it never saw. SYNTHETIC."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

pytest.importorskip("torch")
from dermjudge.benchmarks import synthetic
from dermjudge.benchmarks.figures import figures, targets
from dermjudge.judge.backends import embedded_folder, open_judge
from dermjudge.judge.backends.base import Question
from dermjudge.judge.errors import InputError
from dermjudge.judge.prompt import render
from dermjudge.judge.records import Case, Narrative
from dermjudge.judge.rubric import load_rubric

RUBRIC = load_rubric("derm6")


@pytest.fixture(scope="module")
def judge():
    return open_judge("embedded", RUBRIC)


def test_it_is_small_and_holds_data_only():
    files = [file for file in embedded_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8e6
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja", ".md"}
    assert all(b"/tmp/" not in file.read_bytes() for file in files if file.suffix != ".safetensors")


def test_it_is_better_than_the_constant_and_looks_at_the_picture(judge):
    found = figures(judge, None, RUBRIC, 70, seed=31)
    beside = [row for row in targets(found) if not row["met"] and "within an image" not in row["figure"]]
    assert {row["figure"] for row in beside} <= {"Accuracy: blank, MAE - constant"}  # its card says so, too
    assert all(row["value"] < 0.12 for row in beside)
    order = [d["spearman_within_image"]["value"] for d in found["dimensions"].values()]
    assert min(order) > 0.75 and np.mean(order) > 0.8  # of 70 cases; the card has 200


def test_the_card_holds_the_figures_and_says_what_it_is(judge):
    card = json.loads((embedded_folder() / "judge" / "judge.json").read_text())
    assert card["figures"]["narratives"] >= 600 and card["rubric_hash"] == RUBRIC.hash
    assert {row["met"] for row in card["figures"]["targets"]} <= {True, False}
    text = (embedded_folder() / "judge" / "README.md").read_text()
    assert "DEMONSTRATION" in text and "SYNTHETIC" in text and "What it cannot do" in text
    assert judge.notes and judge.name == judge.signature["judge"] == "embedded"


def test_the_text_only_judge_sees_no_picture():
    blind = open_judge("embedded-text-only", RUBRIC)
    made = synthetic.make(4, seed=2)
    prompt = render(made.cases[0], made.narratives[0], RUBRIC, "bound")
    pictures = [Pillow.new("RGB", (96, 96), colour) for colour in ("red", "blue")]
    first, second = blind.answer([Question(str(k), prompt, (picture,)) for k, picture in enumerate(pictures)])
    for name in RUBRIC.names:
        assert first.scores[name].value == pytest.approx(second.scores[name].value, abs=1e-3)


@pytest.mark.parametrize(
    "text", ["Plaques érythémateuses.", "皮疹", "🩹" * 30, "x" * 3000, "<image><eos> 5/5", "a " * 1500]
)
def test_any_text_ends_in_a_state_and_far_ones_are_flagged(judge, text):
    prompt = render(Case("c"), Narrative("c", "s", text), RUBRIC, "bound")
    (answer,) = judge.answer([Question("k", prompt, ())])
    assert len(answer.scores) == 6
    assert "text out of domain" in answer.flags


def test_far_pictures_are_flagged_and_near_ones_are_not(judge):
    made = synthetic.make(12, seed=9)
    prompt = render(made.cases[0], made.narratives[0], RUBRIC, "bound")
    near = [Pillow.fromarray(synthetic.picture(case)) for case in made.cases]
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    far = [Pillow.fromarray(noise), Pillow.new("RGB", (300, 200), (0, 255, 0))]
    answers = judge.answer([Question(str(k), prompt, (picture,)) for k, picture in enumerate([*near, *far])])
    flagged = ["picture out of domain" in answer.flags for answer in answers]
    assert not any(flagged[: len(near)]) and all(flagged[len(near) :])
    assert all("text out of domain" not in answer.flags for answer in answers)


def test_it_scores_no_other_rubric():
    with pytest.raises(InputError, match="no other"):
        open_judge("embedded", RUBRIC.model_copy(update={"version": 2}))


def test_batch_and_order_hardly_move_a_score(judge):
    made = synthetic.make(8, seed=12)
    questions = []
    by_id = {case.id: case for case in made.cases}
    for k, narrative in enumerate(made.narratives):
        picture = Pillow.fromarray(synthetic.picture(by_id[narrative.case_id]))
        questions.append(Question(str(k), render(by_id[narrative.case_id], narrative, RUBRIC, "bound"), (picture,)))
    together = judge.answer(questions)
    alone = [judge.answer([q])[0] for q in questions]
    moved = [
        abs(a.scores[n].value - b.scores[n].value) for a, b in zip(together, alone, strict=True) for n in RUBRIC.names
    ]
    assert max(moved) < 0.15  # bf16; float32 moves by less than 0.001
