"""What a reference says of its own label."""

from __future__ import annotations

from pathlib import Path

import pytest

from dermjudge.benchmarks.audit_labels import read_reference, reference_findings
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.benchmark import Benchmark
from dermjudge.judge.records import Case

TERMS = load_terms()


def stance(reference, *diagnosis):
    found = read_reference(Case("c", reference=reference, diagnosis=diagnosis or ("psoriasis",)), TERMS)
    return found and (found.stance, found.crosses)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("Silvery plaques. The most likely diagnosis is psoriasis.", ("agrees", False)),
        ("In conclusion, this is consistent with guttate psoriasis.", ("agrees", False)),  # narrower
        ("<think>It could be psoriasis.</think> The most likely diagnosis is psoriasis vulgaris.", ("agrees", False)),
        ("1. Lichen planus\n2. Psoriasis\n3. Pityriasis rosea", ("lists", False)),
        (
            "Psoriasis is ruled out, since no scale is seen. The most likely diagnosis is lichen planus.",
            ("rejects", False),
        ),
        ("The absence of scale rules out psoriasis. The most likely diagnosis is lichen planus.", ("rejects", False)),
        ("Unlike psoriasis, it has no scale. The most likely diagnosis is lichen planus.", ("rejects", False)),
        ("Plaques as in psoriasis. The most likely diagnosis is lichen planus.", ("passes over", False)),
        ("The most likely diagnosis is tinea corporis.", ("silent", True)),  # infectious
        ("The most likely diagnosis is lichen planus.", ("silent", False)),
        ("Dry skin.", ("silent", False)),
        (
            "Red plaques with silvery scale, as psoriasis has them.",
            ("agrees", False),
        ),  # nothing concluded, named at the end
        ("", None),
    ],
)
def test_stances(reference, expected):
    assert stance(reference) == expected


def test_a_request_to_exclude_is_no_denial():
    text = "A biopsy is needed to rule out melanoma. The most likely diagnosis is a blue nevus."
    assert stance(text, "melanoma") == ("lists", True)
    for text in (
        "Melanoma, not psoriasis, comes to mind. The most likely diagnosis is eczema.",
        "The biopsy has not ruled out melanoma as such. The most likely diagnosis is eczema.",
        "This is not only melanoma country. The most likely diagnosis is eczema.",
    ):
        assert stance(text, "melanoma")[0] != "rejects", text


def test_any_of_several_labels_will_do():
    assert stance("The most likely diagnosis is lichen planus.", "psoriasis", "lichen planus") == ("agrees", False)
    assert stance("The most likely diagnosis is a blue nevus.", "melanoma", "psoriasis") == ("silent", False)


def test_shares_add_up_and_what_is_left_out_is_counted():
    agree = "The most likely diagnosis is psoriasis."
    cases = [
        Case("1", reference=agree, diagnosis=("psoriasis",)),
        Case("2", reference=agree, diagnosis=("melanoma",), patient_id="p"),
        Case("3", reference=agree, diagnosis=("melanoma",), patient_id="p"),
        Case("4", reference=agree, diagnosis=("no such thing",)),
        Case("5", reference="", diagnosis=("psoriasis",)),
        Case("6", reference=agree, diagnosis=("melanoma",), tags={"label_confidence": "low"}),
    ]
    bench = Benchmark("b", "1", "", "", "", False, Path("."), tuple(cases), {}, {})
    findings, table, readings = reference_findings([bench], TERMS)
    assert table["n"] == len(readings) == 3
    assert sum(entry["count"] for entry in table["stances"].values()) == 3
    assert table["stances"]["agrees"]["value"] == pytest.approx(1 / 3)
    assert table["left_out"] == {"no usable label": 1, "no reference": 1, "label mapped with low confidence": 1}
    assert table["crosses"] == 2
    assert {f.kind: (f.count, f.of) for f in findings} == {"reference-crosses": (2, 3), "reference-silent": (2, 3)}
    assert findings[0].examples[0] == {"case": "2", "label": ["melanoma"], "reference concludes": ["psoriasis"]}


def test_no_reference_is_no_finding():
    bench = Benchmark("b", "1", "", "", "", False, Path("."), (Case("1", diagnosis=("psoriasis",)),), {}, {})
    findings, table, readings = reference_findings([bench], TERMS)
    assert (findings, readings, table["n"]) == ([], {}, 0)
