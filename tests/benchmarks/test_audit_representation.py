"""Who is shown: margins, cells against their margins, and that types and bands stay apart."""

from __future__ import annotations

from dermjudge.benchmarks.audit_representation import UNKNOWN, representation, representation_findings
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.records import Case, Image

TERMS = load_terms()


def cases(plan):
    """plan: (tone, diagnosis, site, count) rows."""
    made = []
    for tone, diagnosis, site, count in plan:
        for _ in range(count):
            tags = {"fitzpatrick": tone} if tone else {}
            images = (Image("x.png", body_site=site),) if site else ()
            made.append(Case(f"c{len(made)}", images, diagnosis=(diagnosis,), tags=tags))
    return made


def kinds(found):
    return {finding.kind: finding for finding in representation_findings(found)}


def test_a_gap_is_a_cell_that_its_margins_let_expect():
    """60 + 40 of type 2, 50 + 0 of type 5: of 50 times 40 / 150 = 13.3 expected cases of melanoma, none."""
    plan = [("2", "psoriasis", "back", 60), ("2", "melanoma", "back", 40), ("5", "psoriasis", "back", 50)]
    found = representation(cases(plan), TERMS)
    cells = {tuple(cell.groups.values()): cell for cell in found.cells["fitzpatrick x diagnosis"]}
    gap = cells["5", "melanoma"]
    assert (gap.cases, round(gap.expected, 2), gap.is_gap) == (0, 13.33, True)
    assert round(sum(cell.expected for cell in cells.values())) == sum(cell.cases for cell in cells.values()) == 150
    assert [cell.is_gap for key, cell in cells.items() if key != ("5", "melanoma")] == [False] * 3
    told = kinds(found)
    assert told["gap-fitzpatrickxdiagnosis"].examples == (
        {"fitzpatrick": "5", "diagnosis": "melanoma", "cases": 0, "patients": 0, "expected": 13.3},
    )
    assert told["gap-fitzpatrickxdiagnosis_groupxsite"].count == 1
    assert [entry["fitzpatrick"] for entry in told["rare-fitzpatrick"].examples] == ["1", "3", "4", "6"]


def test_types_and_bands_are_never_in_one_column():
    plan = [("2", "psoriasis", "", 40), ("5-6", "psoriasis", "", 40), ("6", "psoriasis", "", 3)]
    found = representation(cases(plan), TERMS)
    assert "fitzpatrick" not in found.margins
    assert found.margins["fitzpatrick_band"] == {"5-6": 43, "1-2": 40}
    assert [entry["fitzpatrick_band"] for entry in kinds(found)["rare-fitzpatrick_band"].examples] == ["3-4"]


def test_what_is_unknown_is_counted_and_in_no_cell():
    plan = [("2", "psoriasis", "back", 40), ("", "psoriasis", "back", 7), ("3", "no such thing", "", 2)]
    found = representation(cases(plan), TERMS)
    assert found.margins["fitzpatrick"] == {"2": 40, UNKNOWN: 7, "3": 2}
    assert found.margins["site"] == {"back": 47, UNKNOWN: 2}
    assert found.known == {"fitzpatrick x diagnosis": 40, "fitzpatrick x diagnosis_group x site": 40}
    told = kinds(found)
    assert (told["unknown-fitzpatrick"].count, told["unknown-diagnosis"].count) == (7, 2)


def test_without_any_skin_tone():
    found = representation(cases([("", "psoriasis", "back", 40)]), TERMS)
    assert kinds(found)["no-skin-tone"].severity == "warning"
    bare = kinds(representation([Case("1")], TERMS))
    assert (bare["unknown-site"].count, bare["unknown-diagnosis"].count) == (1, 1)
    assert list(found.cells) == ["diagnosis_group x site"]


def test_sites_of_tags_and_monk_tones_have_axes_of_their_own():
    made = [Case(str(k), diagnosis=("psoriasis",), tags={"site": "Back", "monk_us": 3 + k % 2}) for k in range(6)]
    found = representation(made, TERMS)
    assert found.margins["site"] == {"back": 6}
    assert found.margins["monk_us"] == {"3": 3, "4": 3}
    assert "monk_us x diagnosis_group x site" in found.cells


def test_patients_are_counted_beside_cases():
    made = [Case(str(k), diagnosis=("psoriasis",), patient_id="p", tags={"fitzpatrick": 2}) for k in range(40)]
    (cell,) = representation(made, TERMS).cells["fitzpatrick x diagnosis"]
    assert (cell.cases, cell.patients) == (40, 1)


def test_an_empty_benchmark_has_nothing_to_cross():
    found = representation([], TERMS)
    assert (found.n, found.cells, found.margins) == (0, {}, {})
