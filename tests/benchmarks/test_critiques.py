"""The true critique of a synthetic narrative, and what is held against a judge's."""

import pytest

from dermjudge.benchmarks import critiques, grammar, synthetic
from dermjudge.benchmarks.degrade import degrade
from dermjudge.benchmarks.lesions import ATTRIBUTES
from dermjudge.evaluators.critiques import check_critiques
from dermjudge.judge.critique import check_critique, read_remark
from dermjudge.judge.records import Rating, Score
from dermjudge.judge.rubric import load_rubric

RUBRIC = load_rubric("derm6")


@pytest.fixture(scope="module")
def made():
    return synthetic.make(60, seed=3, counterfactuals=0.3)


def test_the_experts_critique_is_well_formed_and_complete(made):
    cases, told = {c.id: c for c in made.cases}, {n.key: n for n in made.narratives}
    for rating in made.ratings:
        narrative = told[rating.key[:4]]
        assert check_critique(rating.critique, RUBRIC) == []
        found = critiques.true_findings(cases[rating.case_id], narrative)
        assert found == {name: read_remark(line).faults for name, line in rating.critique.items()}
        world = cases[rating.case_id].tags
        counts = grammar.count_faults(world["world"], narrative.provenance["claims"], world["attributes"])
        for dimension, faults in found.items():
            assert sum(faults.values()) == sum(n for fault, n in counts.items() if grammar.COSTS[fault][0] == dimension)


def test_evidence_is_quoted_and_the_picture_is_right(made):
    cases, told = {c.id: c for c in made.cases}, {n.key: n for n in made.narratives}
    for rating in made.ratings:
        text, seen = told[rating.key[:4]].text, cases[rating.case_id].tags["attributes"]
        wrong = read_remark(rating.critique["Accuracy"])
        said = dict(pair.split(" for ") for pair in wrong.evidence.split(", ") if " for " in pair)
        names = [fault.split()[0] for fault in wrong.faults if fault != "wrong diagnosis"]
        assert [seen[name] for name in names] == list(said.values())[: len(names)]
        for name in ("Medical Groundedness", "Safety"):
            for quote in read_remark(rating.critique[name]).evidence.split(", "):
                assert quote in text or quote.removesuffix(" reported") in grammar.RED_FLAGS
    assert set(ATTRIBUTES) >= {"colour", "surface"}


def test_findings_follow_the_picture_shown(made):
    case, narrative = made.cases[0], made.narratives[0]
    other = next(c for c in made.cases if c.tags["attributes"]["colour"] != case.tags["attributes"]["colour"])
    own, beside = critiques.true_findings(case, narrative), critiques.true_findings(case, narrative, other)
    assert own["Accuracy"] != beside["Accuracy"]
    assert own["Safety"] == beside["Safety"]


def test_the_experts_critiques_are_true(made):
    found = check_critiques(critiques.held_against(made.cases, made.narratives, made.ratings), RUBRIC, resamples=64)
    assert found.narratives == len(made.ratings) and found.well_formed.value == 1.0
    assert found.whole.named.value == 1.0 and found.whole.false.value == 0.0 and found.whole.noticed.value == 1.0


def test_of_graded_copies_only_the_planted_fault_is_known(made):
    narratives = [n for n in made.narratives if n.provenance["truth"]["Safety"] == 5.0]
    copies, _ = degrade(made.cases, narratives, "narrative", ["unsafe-advice"], [4])
    ratings = [
        Rating(n.case_id, n.system, "j", "judge", RUBRIC.id, {"Safety": Score(1.0)}, n.arm, n.sample,
               critique={"Safety": "unsafe advice | a | b"})
        for n in copies if n.provenance["fault"] != "none"
    ]  # fmt: skip
    rows = critiques.held_against(made.cases, copies, ratings)
    assert rows and len(rows) == len(ratings) and not any(row.complete for row in rows)
    found = check_critiques(rows, RUBRIC, resamples=64)
    assert found.of("Safety").named.value == 1.0 and found.whole.false.value is None
