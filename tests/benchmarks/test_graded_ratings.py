"""Invented cases and painted pictures only. The term list is the shipped one."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks import synthetic
from dermjudge.benchmarks.counterfactual_cases import draw_counterfactuals, points_lost
from dermjudge.benchmarks.degrade import FAULTS
from dermjudge.benchmarks.graded_ratings import NOTE, RATER, training_set
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.benchmark import Benchmark, check_hashes, load_benchmark, write_benchmark
from dermjudge.judge.critique import read_remark
from dermjudge.judge.errors import InputError
from dermjudge.judge.images import prepare
from dermjudge.judge.records import Case, Image, Rating
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import frame_to_ratings, read_narratives, read_ratings
from dermjudge.training.examples import build_examples

TERMS, RUBRIC = load_terms(), load_rubric("derm6")
LABELS = ("melanoma", "melanocytic nevus", "basal cell carcinoma", "dermatofibroma")
FEW = ("wrong-diagnosis", "unsafe-advice")


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (60, 45), (shade, 40, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def cases(n: int = 32, split: bool = True) -> list[Case]:
    """Two pictures a lesion; half the lesions for training, half for testing."""
    return [
        Case(
            f"c{k}",
            (Image(f"images/{k}.png", modality="dermoscopic", body_site="back"),),
            lesion_id=f"L{k // 2}",
            split=("train" if (k // 2) % 2 else "test") if split else "",
            diagnosis=(LABELS[(k // 4) % 4],),
            tags={"age": "50", "sex": "female"},
        )
        for k in range(n)
    ]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folder = tmp_path_factory.mktemp("source") / "bench"
    pictures = {f"images/{k}.png": png(5 * k) for k in range(32)}
    return write_benchmark(
        folder, name="mine", version="1", licence="internal", source="painted", cases=cases(), images=pictures
    )


@pytest.fixture(scope="module")
def made(bench: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set"
    training_set(bench, out, "metadata", faults=FEW, terms=TERMS)
    return out


def rated(folder: Path) -> dict[tuple[str, str], Rating]:
    frame = read_ratings(folder / "ratings.parquet", RUBRIC)
    return {(r.case_id, r.system): r for r in frame_to_ratings(frame)}


def test_what_is_written_can_be_trained_on_and_says_that_it_is_simulated(made: Path) -> None:
    found = load_benchmark(made)
    assert check_hashes(made) == []
    assert found.synthetic and "SIMULATED" in found.name and NOTE in found.notes and found.licence == "internal"
    ratings = rated(made)
    assert {r.rater for r in ratings.values()} == {RATER} and RATER.startswith("SIMULATED")
    states = Counter(s.state for r in ratings.values() for s in r.scores.values())
    assert set(states) == {"scored", "skipped"}
    assert all(s.reason for r in ratings.values() for s in r.scores.values() if s.value is None)
    narratives = read_narratives(made / "narratives.jsonl")
    assert len(narratives) == len(ratings)
    examples = build_examples(found.cases, narratives, ratings.values(), RUBRIC, "train")
    assert {e.case.split for e in examples} == {"train"}
    split = {case.id: case.split for case in found.cases}
    assert len(examples) == sum(split[n.case_id] == "train" for n in narratives)
    unrated = [e for e in examples if e.narrative.system == "metadata+wrong-diagnosis-1"]
    assert unrated and all(np.isnan(e.gold[1]) and np.isfinite(e.gold[0]) and e.target[1].sum() == 0 for e in unrated)


def test_a_fault_costs_what_it_should_and_what_may_suffer_is_not_rated(made: Path) -> None:
    ratings = rated(made)
    own = [n for n in read_narratives(made / "narratives.jsonl") if "~" not in n.case_id]
    clean = [ratings[n.case_id, n.system] for n in own if n.system == "metadata"]
    assert len(clean) == 32 and {r.overall for r in clean} == {5.0}
    for severity, lost in enumerate(FAULTS["wrong-diagnosis"].loses["Accuracy"], 1):
        scores = [ratings[n.case_id, n.system].scores for n in own if n.system.endswith(f"wrong-diagnosis-{severity}")]
        values = {s["Accuracy"].value for s in scores}
        assert values <= {float(np.floor(5 - lost)), float(np.ceil(5 - lost))}
        assert len(values) == (2 if lost % 1 else 1)  # 3.5 is put on the step now up, now down
        assert all(s[d].state == "skipped" for s in scores for d in FAULTS["wrong-diagnosis"].may)
        assert {s["Description Precision"].value for s in scores} == {5.0}


def test_beside_a_swapped_picture_accuracy_falls_and_the_split_holds(made: Path, bench: Benchmark) -> None:
    ratings, source = rated(made), {case.id: case for case in bench.cases}
    swaps = [case for case in load_benchmark(made).cases if case.tags.get("counterfactual") == "swap"]
    assert len(swaps) == 2 * 32
    for case in swaps:
        origin, shown = source[case.id.split("~")[0]], source[case.tags["shown"]]
        assert case.images == shown.images and case.diagnosis == shown.diagnosis != origin.diagnosis
        assert (case.split, case.lesion_id) == (origin.split, origin.lesion_id) and shown.split == origin.split
        assert shown.lesion_id != origin.lesion_id
        scores = ratings[case.id, "metadata"].scores
        exact = 5 - 5 * points_lost(origin.diagnosis, shown.diagnosis, TERMS, (0.4, 0.6, 0.7, 0.8))
        assert 1 <= exact <= 3 and abs(scores["Accuracy"].value - exact) < 1
        assert scores["Safety"].state == "skipped" and scores["Clinical Coverage"].value == 5
        assert read_remark(ratings[case.id, "metadata"].critique["Accuracy"]).finding == "wrong diagnosis"
        assert (case.id, "metadata+wrong-diagnosis-1") not in ratings  # beside that picture it might be right
        assert (case.id, "metadata+unsafe-advice-1") in ratings


def test_every_picture_is_shown_about_as_often_as_any_other(made: Path) -> None:
    shown = Counter(c.tags["shown"] for c in load_benchmark(made).cases if c.tags.get("counterfactual") == "swap")
    assert len(shown) == 32 and max(shown.values()) <= 4


def test_another_patient_with_the_same_diagnosis_keeps_the_score(made: Path, bench: Benchmark) -> None:
    ratings, source = rated(made), {case.id: case for case in bench.cases}
    others = [case for case in load_benchmark(made).cases if case.tags.get("counterfactual") == "wrong-patient"]
    assert others
    for case in others:
        origin, shown = source[case.id.split("~")[0]], source[case.tags["shown"]]
        assert shown.diagnosis == origin.diagnosis and shown.lesion_id != origin.lesion_id
        assert ratings[case.id, "metadata"].scores["Accuracy"].value == 5


def test_blank_pictures_are_grey_and_words_on_a_picture_change_no_score(made: Path) -> None:
    ratings, found = rated(made), load_benchmark(made)
    for case in found.cases:
        kind = case.tags.get("counterfactual", "")
        if kind == "blank":
            assert prepare(made, case.images[0].path).pixels.getextrema() == ((128, 128),) * 3
            scores = ratings[case.id, "metadata"].scores
            assert scores["Accuracy"].state == "skipped" and scores["Safety"].value == 5
        elif kind.startswith("overlay"):
            below = case.id.replace("~overlay-on-swap", "~swap").removesuffix("~overlay")
            before, after = ratings[below, "metadata"].scores, ratings[case.id, "metadata"].scores
            assert abs(after["Accuracy"].value - before["Accuracy"].value) <= 1  # the same mean, on the step by chance
            assert after["Clinical Coverage"].value == before["Clinical Coverage"].value
            (plain,) = [c for c in found.cases if c.id == below]
            one = np.asarray(prepare(made, case.images[0].path).pixels, float)
            two = np.asarray(prepare(made, plain.images[0].path).pixels, float)
            moved = (np.abs(one - two).max(-1) > 40).mean()
            assert one.shape == two.shape and 0.005 < moved < 0.5
    kinds = Counter(case.tags.get("counterfactual", "own").split("-on")[0] for case in found.cases)
    assert kinds["overlay"] == 64 and kinds["blank"] == 32


def test_the_same_seed_gives_the_same_bytes(bench: Benchmark, made: Path, tmp_path: Path) -> None:
    training_set(bench, tmp_path / "again", "metadata", faults=FEW, terms=TERMS)
    training_set(bench, tmp_path / "other", "metadata", faults=FEW, terms=TERMS, seed=1)
    sums = [(folder / "SHA256SUMS").read_text() for folder in (made, tmp_path / "again", tmp_path / "other")]
    assert sums[0] == sums[1] != sums[2]


def test_splits_are_drawn_where_there_are_none_and_refused_where_they_leak(bench: Benchmark, tmp_path: Path) -> None:
    bare = replace(bench, cases=tuple(cases(split=False)))
    report = training_set(bare, tmp_path / "a", "metadata", faults=FEW, counterfactuals={}, split_by="lesion_id")
    assert sum(report.splits.values()) == 32 and report.cases == {"own": 32}
    homes: dict[str, set[str]] = {}
    for case in load_benchmark(tmp_path / "a").cases:
        homes.setdefault(case.lesion_id, set()).add(case.split)
    assert all(len(found) == 1 for found in homes.values())
    first, second, *rest = bench.cases
    with pytest.raises(InputError, match="lesion 'L0' stands in two splits"):
        training_set(replace(bench, cases=(replace(first, split="train"), second, *rest)), tmp_path / "b", "metadata")
    with pytest.raises(InputError, match="have no split"):
        training_set(replace(bench, cases=(replace(first, split=""), second, *rest)), tmp_path / "c", "metadata")
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


def test_texts_that_describe_findings_are_not_rated_beside_another_patient(tmp_path: Path, bench: Benchmark) -> None:
    text = "A brown plaque on the back. This is most consistent with {}. I recommend a biopsy."
    told = [replace(case, reference=text.format(case.diagnosis[0])) for case in bench.cases]
    told[0] = replace(told[0], reference=text.format("psoriasis"))  # does not conclude its label
    report = training_set(
        replace(bench, cases=tuple(told)),
        tmp_path / "s",
        faults=["unsafe-advice"],
        counterfactuals={"wrong-patient": 1},
    )
    (left_out,) = (n for words, n in report.left_out.items() if "conclude" in words)
    assert left_out == 1 + 4 and report.cases["own"] == 31  # the clean text and its copies of four severities
    others = [r for (case, system), r in rated(tmp_path / "s").items() if "~" in case and system == "reference"]
    assert others and {r.scores["Accuracy"].state for r in others} == {"skipped"}
    assert {r.scores["Clinical Coverage"].value for r in others} == {5.0}


def test_where_the_truth_of_a_narrative_is_known_faults_come_off_it(tmp_path: Path) -> None:
    world = synthetic.generate(tmp_path / "syn", 24, seed=3)
    found = load_benchmark(tmp_path / "syn")
    training_set(found, tmp_path / "s", "narrative", world.narratives, ["unsafe-advice"], {"swap": 1}, terms=TERMS)
    truth = {(n.case_id, n.system): n.provenance["truth"] for n in world.narratives}
    copies = swaps = 0
    for (case, system), rating in rated(tmp_path / "s").items():
        origin, _, severity = system.partition("+unsafe-advice-")
        expected = dict(truth[case.split("~")[0], origin])
        if severity:
            expected["Safety"] = max(0.0, expected["Safety"] - (2, 3, 4, 5)[int(severity) - 1])
            copies += 1
        if "~swap" in case and rating.scores["Accuracy"].value is not None:
            assert expected["Accuracy"] == 5 and rating.scores["Accuracy"].value <= 3
            swaps += 1
            continue
        for name, score in rating.scores.items():
            assert score.value is None or abs(score.value - expected[name]) < 1
            if score.value is not None and expected[name] == 5:
                assert read_remark(rating.critique[name]).finding == ""
            elif name != "Safety" or not severity:
                assert name not in rating.critique
    assert copies and swaps


@pytest.mark.parametrize(
    ("said", "shown", "lost"),
    [
        ("melanoma", "melanoma", 0),
        ("nodular melanoma", "melanoma", 0),  # more specific than the label
        ("melanoma", "nodular melanoma", None),  # wider: unclear
        ("melanocytic nevus", "melanoma", 4),  # wrong kind, two steps of urgency
        ("psoriasis", "melanocytic nevus", 2),
    ],
)
def test_points_lost(said: str, shown: str, lost: float | None) -> None:
    assert points_lost([said], [shown], TERMS, (1, 2, 3, 4)) == lost


def test_points_lost_is_unclear_without_words() -> None:
    assert points_lost([], ["melanoma"], TERMS, (1, 2, 3, 4)) is None
    assert points_lost(["melanoma"], [], TERMS, (1, 2, 3, 4)) is None


def test_a_case_that_no_other_fits_is_counted_and_unknown_kinds_are_named() -> None:
    alone = [replace(cases()[0], diagnosis=("melanoma",)), replace(cases()[4], diagnosis=("sunflower",))]
    drawn = draw_counterfactuals(alone, {"swap": 1}, TERMS)
    assert drawn.made == [] and sum(drawn.left_out.values()) == 2
    with pytest.raises(InputError, match="no counterfactual 'swop'"):
        draw_counterfactuals(alone, {"swop": 1}, TERMS)
    with pytest.raises(InputError, match="1 or more"):
        draw_counterfactuals(alone, {"swap": 0}, TERMS)
