"""Rules of a licence and the decision on criteria alone: strict files, ends of intervals, three-valued logic."""

from __future__ import annotations

from importlib.resources import files
from itertools import permutations
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.evaluators.bootstrap import Estimate
from dermjudge.evaluators.licence_criteria import criterion, verdict_of
from dermjudge.evaluators.licence_record import Criterion
from dermjudge.evaluators.licence_rules import LicenceRules, load_rules
from dermjudge.judge.errors import InputError

TEXT = files("dermjudge.evaluators").joinpath("data", "licence.yaml").read_text("utf-8")


def test_default_rules() -> None:
    rules = load_rules()
    assert rules.model_dump(mode="json") == yaml.safe_load(TEXT)
    assert rules.in_levels((0, 1, 2, 3, 4, 5)) == (0.1, 0.5)
    assert rules.in_levels((1, 2)) == (0.02, 0.1)
    assert rules.needs_picture(" ACCURACY ")
    assert not rules.needs_picture("Description Precision")


def test_every_threshold_has_a_comment_above_it() -> None:
    lines = [line for line in TEXT.splitlines() if line.strip()]
    for place, line in enumerate(lines):
        if not line.startswith("#"):
            assert lines[place - 1].startswith("#"), line


def test_a_hash_moves_with_a_threshold_and_not_with_a_comment(tmp_path: Path) -> None:
    other, commented = tmp_path / "other.yaml", tmp_path / "commented.yaml"
    other.write_text(TEXT.replace("margin: 0.02", "margin: 0.03"))
    commented.write_text("# mine\n" + TEXT.replace("cases: 50", "cases: 50 # why"))
    assert load_rules(other).hash != load_rules().hash == load_rules(commented).hash
    assert len(load_rules().hash) == 16


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("margin: 0.02", "margins: 0.02", "margin: Field required"),
        ("name: default", "name: default\nepsilon: 0.2", "epsilon: Extra inputs are not permitted; known: name, alpha"),
        ("margin: 0.02", "margin: 0.02\nmargin: 0.5", "margin stands twice"),
        ("margin: 0.02", "margin: '0.02'", "margin: Input should be a valid number"),
        ("coverage: 0.95", "coverage: .nan", "coverage: Input should be a finite number"),
        ("coverage: 0.95", "coverage: 95", "coverage: Input should be less than or equal to 1"),
        ("cases: 50", "cases: 19", "cases: Input should be greater than or equal to 20"),
        ("cases: 50", "cases: true", "cases: Input should be a valid integer"),
        ("experts: 2", "experts: 1", "experts: Input should be greater than or equal to 2"),
        ("[Accuracy]", "[3]", "picture.0: Input should be a valid string"),
        ("[Accuracy]", "[", "cannot be read as rules"),
        (TEXT, "", "rules: Input should be a valid dictionary"),
        (TEXT, "{[a]: 1}", "cannot be read as rules"),
    ],
)
def test_rules_are_strict(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(InputError, match=r"mine\.yaml") as error:
        load_rules(path)
    assert message in str(error.value)


def test_rules_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the rules"):
        load_rules(tmp_path / "nowhere.yaml")


# Intervals and limits


@pytest.mark.parametrize(
    ("low", "high", "least", "most", "strict", "passed"),
    [
        (-0.2, 0.1, None, 0.1, False, True),  # the end may touch its limit
        (-0.2, 0.11, None, 0.1, False, None),
        (0.1, 0.2, None, 0.1, False, None),
        (0.11, 0.2, None, 0.1, False, False),
        (-0.2, 0.0, None, 0.0, True, None),  # a strict limit may not be touched
        (-0.2, -0.01, None, 0.0, True, True),
        (0.0, 0.2, None, 0.0, True, False),
        (0.3, 0.5, 0.3, None, False, True),
        (0.2, 0.5, 0.3, None, False, None),
        (0.1, 0.29, 0.3, None, False, False),
        (-0.5, 0.5, -0.5, 0.5, False, True),
        (0.4, 0.6, -0.5, 0.5, False, None),
        (0.51, 0.6, -0.5, 0.5, False, False),
        (-0.6, -0.51, -0.5, 0.5, False, False),
        (-0.6, 0.6, -0.5, 0.5, False, None),
        (None, None, None, 0.1, False, None),  # fewer than 20 cases: a value, no interval
    ],
)
def test_the_ends_decide(
    low: float | None, high: float | None, least: float | None, most: float | None, strict: bool, passed: bool | None
) -> None:
    found = Estimate(0.0, 9, low, high)
    assert criterion("x", "error", "s", {"s": found}, least, most, strict).passed is passed


def made(kind: str, passed: bool | None) -> Criterion:
    return Criterion("x", kind, "s", Estimate(0.0, 1), None, None, False, passed)


STATES = st.sampled_from([True, None, False])


@given(
    data=st.lists(st.sampled_from([True, None]), min_size=1, max_size=2), order=STATES, error=STATES,
    calibrated=st.one_of(st.none(), st.tuples(STATES, STATES)),
)  # fmt: skip
def test_verdicts(
    data: list[bool | None], order: bool | None, error: bool | None,
    calibrated: tuple[bool | None, bool | None] | None,
) -> None:  # fmt: skip
    raw = [*(made("data", state) for state in data), made("order", order), made("error", error)]
    moved = None if calibrated is None else [made("order", calibrated[0]), made("error", calibrated[1])]
    verdict = verdict_of(raw, moved)
    assert {verdict_of(list(other), moved) for other in permutations(raw)} == {verdict}
    second = (False,) if calibrated is None else (order, *calibrated)
    if None in data:
        assert verdict == "not enough data"
    elif order and error:
        assert verdict == "licensed"
    elif all(second):
        assert verdict == "licensed after calibration"
    elif False in (order, error) and False in second:
        assert verdict == "report only"
    else:
        assert verdict == "not enough data"


def test_a_calibration_mends_errors_only() -> None:
    good = [made("order", True), made("error", True)]
    for kind in ("order", "coverage", "picture"):
        assert verdict_of([made("data", True), made(kind, False), made("error", False)], good) == "report only"
    assert verdict_of([made("data", True), made("order", True), made("error", False)], good) == (
        "licensed after calibration"
    )


def test_rules_can_be_made_in_code() -> None:
    rules = LicenceRules(**yaml.safe_load(TEXT) | {"picture": ()})
    assert not rules.needs_picture("Accuracy")
