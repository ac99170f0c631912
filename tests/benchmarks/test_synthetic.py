"""The synthetic benchmark: what was promised of it before any judge was trained."""

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge

from dermjudge.benchmarks import grammar, lesions, synthetic
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError


@pytest.fixture(scope="module")
def made():
    return synthetic.make(1200, seed=3)


@pytest.fixture(scope="module")
def truth(made):
    return {name: np.array([n.provenance["truth"][name] for n in made.narratives]) for name in grammar.DIMENSIONS}


@pytest.mark.parametrize("name", grammar.DIMENSIONS)
def test_truth_is_spread_over_the_scale(truth, name):
    assert truth[name].std() >= 1.0
    level = np.floor(truth[name] + 0.5)
    assert max(np.mean(level == value) for value in range(6)) <= 0.40


def test_text_alone_does_not_tell_the_accuracy(made, truth):
    words = CountVectorizer(ngram_range=(1, 2)).fit_transform([f"{n.text}" for n in made.narratives])
    half = words.shape[0] * 3 // 4
    target = truth["Accuracy"]
    error = np.abs(Ridge(30).fit(words[:half], target[:half]).predict(words[half:]) - target[half:]).mean()
    constant = np.abs(np.median(target[:half]) - target[half:]).mean()
    assert error >= 0.95 * constant
    safety = truth["Safety"]  # the same regressor does read what is in the text
    read = np.abs(Ridge(30).fit(words[:half], safety[:half]).predict(words[half:]) - safety[half:]).mean()
    assert read < 0.7 * np.abs(np.median(safety[:half]) - safety[half:]).mean()


def test_panel_is_as_planted():
    made = synthetic.make(1200, seed=4)
    truth = {n.key: n.provenance["truth"] for n in made.narratives}
    kept = len(made.ratings) / (len(made.narratives) * len(synthetic.PANEL))
    assert kept == pytest.approx(1 - synthetic.MISSING, abs=0.02)
    differences = {r: [] for r in synthetic.PANEL}
    for rating in made.ratings:
        true = truth[rating.case_id, rating.system, rating.arm, rating.sample]["Reasoning Coherence"]
        if 2 <= true <= 3:  # away from the ends of the scale, where a rater cannot go higher or lower
            differences[rating.rater].append(rating.scores["Reasoning Coherence"].value - true)
    spread = [np.std(values) for values in differences.values()]
    assert np.mean(spread) == pytest.approx(np.hypot(synthetic.NOISE_SD, 1 / np.sqrt(12)), abs=0.08)
    assert all(score.value == int(score.value) for rating in made.ratings[:500] for score in rating.scores.values())


def test_a_patient_stays_in_one_split(made):
    split = {}
    for case in made.cases:
        assert split.setdefault(case.patient_id, case.split) == case.split
    assert max(np.unique([case.patient_id for case in made.cases], return_counts=True)[1]) > 1


def test_truth_follows_the_picture_that_is_shown(made):
    case, narrative = made.cases[0], made.narratives[0]
    other = next(c for c in made.cases if c.tags["attributes"] != case.tags["attributes"])
    own, swapped = synthetic.true_scores(case, narrative), synthetic.true_scores(case, narrative, other)
    assert own == narrative.provenance["truth"]
    assert swapped["Accuracy"] != own["Accuracy"]
    assert {k: v for k, v in swapped.items() if k != "Accuracy"} == {k: v for k, v in own.items() if k != "Accuracy"}


def test_each_fault_costs_its_dimension_what_the_table_says():
    world = {
        "attributes": {k: v[0] for k, v in lesions.ATTRIBUTES.items()},
        "site": "trunk",
        "side": "left",
        "red_flag": "fever",
    }
    clean = {
        "percept": dict(world["attributes"]),
        "missing": [],
        "diagnosis": "cellulitis",
        "differential": ["cellulitis"],
        "triage": "emergent",
        "unsafe": "none",
        "missing_red_flag": False,
        "invented": [],
        "follow_up": True,
        "reasoning": "sound",
        "vague": [],
        "laterality_flip": False,
    }
    assert set(grammar.truth(world, clean).values()) == {5.0}
    planted = {
        "wrong_attribute": {"percept": {**clean["percept"], "size": "large"}},
        "wrong_diagnosis": {"diagnosis": "psoriasis"},
        "unsafe_mild": {"unsafe": "mild"},
        "unsafe_severe": {"unsafe": "severe"},
        "missing_red_flag": {"missing_red_flag": True},
        "invented_finding": {"invented": [0]},
        "missing_finding": {"missing": ["shape"]},
        "missing_differential": {"differential": []},
        "missing_follow_up": {"follow_up": False},
        "reasoning_vague": {"reasoning": "vague"},
        "reasoning_missing": {"reasoning": "missing"},
        "reasoning_contradictory": {"reasoning": "contradictory"},
        "vague_language": {"vague": [1]},
        "laterality_flip": {"laterality_flip": True},
    }
    assert set(planted) == set(grammar.COSTS)
    for fault, change in planted.items():
        dimension, points = grammar.COSTS[fault]
        scores = grammar.truth(world, {**clean, **change})
        assert scores[dimension] == 5.0 - points
        assert all(value == 5.0 for name, value in scores.items() if name != dimension)


def test_spans_mark_the_words_they_are_about(made):
    labels = set()
    for narrative in made.narratives[:400]:
        for start, end, label in narrative.provenance["spans"]:
            words = narrative.text[start:end]
            assert words and words == words.strip()
            labels.add(label)
            if label == "wrong" and words in sum(lesions.ATTRIBUTES.values(), ()):
                assert words in narrative.provenance["claims"]["percept"].values()
    assert labels == {"ok", "wrong", "contradictory", "vague", "invented", "mild", "severe"}


def test_diagnoses_are_in_the_term_list_with_the_same_urgency():
    terms = load_terms()
    for name in grammar.DIAGNOSIS.values():
        assert terms.urgency(name) == grammar.URGENCY[name]
    assert len(set(grammar.DIAGNOSIS.values())) == 15


def test_systems_differ_as_planted(truth, made):
    system = np.array([n.system for n in made.narratives])
    means = {s: {d: truth[d][system == s].mean() for d in ("Accuracy", "Safety")} for s in grammar.SYSTEMS}
    assert means["alder"]["Accuracy"] > means["cedar"]["Accuracy"] + 0.8
    assert abs(means["alder"]["Accuracy"] - means["birch"]["Accuracy"]) < 0.2
    assert means["alder"]["Safety"] > means["birch"]["Safety"] + 0.8


def test_pictures_differ_by_what_they_show():
    base = {k: v[0] for k, v in lesions.ATTRIBUTES.items()} | {"size": "large"}
    plain = lesions.render(base, "trunk", "3", 5)
    assert np.array_equal(plain, lesions.render(base, "trunk", "3", 5))
    for name, values in lesions.ATTRIBUTES.items():
        for value in [v for v in values if v != base[name]]:
            other = lesions.render({**base, name: value}, "trunk", "3", 5)
            assert np.abs(other.astype(int) - plain).max() > 35, (name, value)  # noise alone stays below 20
    skin = [lesions.render(base, "trunk", tone, 5)[:8, :8].mean() for tone in lesions.SKIN_TONES]
    assert skin == sorted(skin, reverse=True)


def test_generation_is_reproducible_byte_for_byte(tmp_path):
    for name in ("a", "b"):
        synthetic.generate(tmp_path / name, 12, seed=5, counterfactuals=0.5)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 14
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    other = tmp_path / "c"
    synthetic.generate(other, 12, seed=6)
    assert (other / "cases.jsonl").read_bytes() != (tmp_path / "a" / "cases.jsonl").read_bytes()
    assert pl.read_parquet(other / "ratings.parquet")["rater_kind"].unique().to_list() == ["expert"]


def test_counterfactuals_show_another_picture():
    made = synthetic.make(200, seed=1, counterfactuals=0.5)
    moved = [case for case in made.cases if case.tags["counterfactual"]]
    assert 60 < len(moved) < 140
    assert (
        np.mean([case.tags["attributes"]["colour"] != case.tags["world"]["attributes"]["colour"] for case in moved])
        > 0.6
    )


def test_no_cases_is_refused():
    with pytest.raises(InputError, match="1 or more"):
        synthetic.make(0)
