"""Gold weight that the first k items catch, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dermjudge.evaluators.captured import captured_weight, gold_weights
from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.evaluators.relations import load_relations
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Case, Narrative

TERMS = load_terms()
WEIGHED = (Candidate("Eczema", 0.5), Candidate("Tinea", 0.3), Candidate("Floopitis", 0.2))


def test_shares_by_hand() -> None:
    gold = [gold_weights(Case("c", differential=WEIGHED), TERMS)]
    assert gold[0] == ({"eczema": 0.5, "tinea": 0.3}, 0.2)
    named = [[["nummular eczema"], ["psoriasis"], ["tinea"]]]
    found = captured_weight(named, gold, np.arange(1), (1, 2, 3), TERMS, load_relations())
    assert {k: e.value for k, e in found.strict.items()} == {1: 0.5, 2: 0.5, 3: 0.8}
    # narrower than eczema 0.85; psoriasis against eczema 0.3; against tinea, an infection, nothing
    assert {k: e.value for k, e in found.graded.items()} == pytest.approx({1: 0.425, 2: 0.425, 3: 0.725})
    assert {k: e.value for k, e in found.best.items()} == {1: 0.5, 2: 0.8, 3: 0.8}
    assert found.unmapped.value == pytest.approx(0.2)


def test_only_cases_with_weights_count_and_none_is_none() -> None:
    cases = [
        Case("a", diagnosis=("eczema",), differential=WEIGHED),
        Case("b", diagnosis=("eczema",), differential=(Candidate("eczema"),)),
        Case("d", diagnosis=("eczema",)),
    ]
    told = [Narrative(case.id, "s", "1. Eczema\n2. Tinea") for case in cases]
    (found,) = score_diagnosis(cases, told, k=(1, 3)).systems
    assert found.captured.n == 1
    assert (found.captured.strict[1].value, found.captured.strict[3].value) == (0.5, 0.8)
    assert score_diagnosis(cases[1:], told[1:]).systems[0].captured is None


@pytest.mark.parametrize("weights", [(0.5, None), (-1, 2), (0, 0), (float("nan"), 1)])
def test_weights_that_are_none_are_refused(weights: tuple) -> None:
    case = Case("c", differential=(Candidate("eczema", weights[0]), Candidate("tinea", weights[1])))
    with pytest.raises(InputError, match="case 'c': the weights of a gold differential must be 0 or more"):
        gold_weights(case, TERMS)
