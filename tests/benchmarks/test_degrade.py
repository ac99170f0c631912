"""Invented texts only. The term list is the shipped one."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.benchmarks import synthetic
from dermjudge.benchmarks.degrade import FAULTS, MADE_BY, degrade
from dermjudge.benchmarks.degrade_phrases import CONTRADICTIONS, DOUBTLESS, FRAME, INVENTED, UNSAFE_LADDER
from dermjudge.evaluators.differential import parse_differential
from dermjudge.evaluators.provisional import doses_of
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Narrative
from dermjudge.judge.rubric import Dimension, Rubric, Scale, load_rubric
from dermjudge.judge.tables import read_narratives, write_narratives

TERMS = load_terms()
TEXT = (
    "The left cheek shows a red, scaly plaque. It is sharply demarcated and small. The surface is raised. "
    "There are numerous pustules beside it. Fine telangiectasias are seen at the edge. A crust covers the middle. "
    "The picture suggests a chronic process. In conclusion, this is most consistent with psoriasis. "
    "I recommend seeing a dermatologist."
)
CASE = Case("c1", reference=TEXT, diagnosis=("psoriasis",))


def copies(fault: str, text: str = TEXT, diagnosis: str = "psoriasis", seed: int = 0) -> dict[int, Narrative]:
    case = Case("c1", reference=text, diagnosis=(diagnosis,))
    made, _ = degrade([case], faults=[fault], terms=TERMS, seed=seed)
    return {n.provenance["severity"]: n for n in made}


def texts(fault: str, text: str = TEXT, diagnosis: str = "psoriasis", seed: int = 0) -> list[str]:
    found = copies(fault, text, diagnosis, seed)
    return [found[k].text for k in sorted(found) if k]


def why(fault: str, text: str, diagnosis: str = "psoriasis") -> str:
    _, report = degrade([Case("c1", reference=text, diagnosis=(diagnosis,))], faults=[fault], terms=TERMS)
    return " / ".join([*report.impossible[fault], *report.dropped[fault]])


def leads(text: str) -> set[str]:
    return {hit.canonical for item in parse_differential(text, TERMS).items[:1] for hit in item.match.hits}


def test_every_copy_says_what_it_is_and_what_it_aims_at() -> None:
    made, report = degrade([CASE], terms=TERMS)
    original, *rest = made
    assert (original.system, original.text) == ("reference", TEXT)
    assert (original.provenance["fault"], original.provenance["severity"]) == ("none", 0)
    rubric = load_rubric("derm6")
    for copy in rest:
        said = copy.provenance
        assert said["made_by"] == MADE_BY
        assert copy.system == f"reference+{said['fault']}-{said['severity']}"
        assert said["origin"] == "reference"
        assert set(said["target"]) | set(said["may"]) <= set(rubric.names)
        assert not set(said["target"]) & set(said["may"])
        assert said["change"]
    assert {n.provenance["fault"] for n in rest} <= set(FAULTS)
    counted = sum(
        sum(row.values()) for kind in (report.made, report.impossible, report.dropped) for row in kind.values()
    )
    assert counted == report.clean * 4 * len(FAULTS)
    assert sum(sum(row.values()) for row in report.made.values()) == len(rest)


def test_every_dimension_is_aimed_at_and_targets_rise_with_severity() -> None:
    rubric = load_rubric("derm6")
    assert {d for fault in FAULTS.values() for d in fault.loses} == set(rubric.names)
    for fault in FAULTS.values():
        for loses in fault.loses.values():
            assert all(a < b for a, b in pairwise(loses))
            assert loses[0] > 0 and loses[-1] <= 5
    assert FAULTS["harmless"].loses == {} and FAULTS["harmless"].may == ()


def test_wrong_diagnosis_goes_from_a_near_confuser_to_the_other_end() -> None:
    found = copies("wrong-diagnosis", TEXT.replace("psoriasis", "melanoma"), "melanoma")
    other = {k: found[k].provenance["change"]["instead"] for k in (1, 2, 3, 4)}
    gold = TERMS.conditions["melanoma"]
    assert set(TERMS.conditions[other[1]].ancestors) & set(gold.ancestors)
    assert TERMS.conditions[other[2]].malignancy == "malignant"
    assert TERMS.crosses(other[3], "melanoma") and TERMS.crosses(other[4], "melanoma")
    assert TERMS.conditions[other[4]].urgency == "routine"
    for k in (1, 2, 3, 4):
        assert leads(found[k].text) == {other[k]}
        assert "melanoma" not in found[k].text


def test_a_wrong_diagnosis_that_the_text_takes_back_is_dropped() -> None:
    taken_back = TEXT + " Nail psoriasis is common in this."
    assert "still names the label or a kind of it" in why("wrong-diagnosis", taken_back)
    assert "does not conclude its label" in why("wrong-diagnosis", TEXT.replace("psoriasis", "rosacea"))


def test_misread_findings_are_nested_and_leave_names_of_diseases_alone() -> None:
    found = copies("misread-findings", TEXT + " It is no blue nevus.", seed=2)
    attributes = [found[k].provenance["change"]["attributes"] for k in (1, 2, 3, 4)]
    assert all(a == b[: len(a)] for a, b in pairwise(attributes))
    assert [len(a) for a in attributes] == [1, 2, 3, 4]
    assert any("colour" in chosen for chosen in attributes)
    assert all("It is no blue nevus." in found[k].text for k in found)
    every = {"red": "colour", "scaly": "surface", "raised": "level", "sharply": "border", "small": "size"}
    for k in (1, 2, 3, 4):
        for word, attribute in every.items():
            assert bool(re.search(rf"(?i)\b{word}\b", found[k].text)) is (attribute not in attributes[k - 1])


def test_negated_findings_are_those_said_nowhere_else() -> None:
    one, *_ = texts("negated-findings")
    assert one != TEXT
    repeated = "The surface is raised. A raised surface is here. In conclusion, this is psoriasis."
    assert why("negated-findings", repeated) == "every finding is stated again elsewhere"


def test_wrong_site_goes_further_away_and_keeps_the_form_of_the_word() -> None:
    text = "On the cheeks and the forehead is a plaque. Facial skin is dry. This is psoriasis."
    found = copies("wrong-site", text)
    assert set(found) == {0, 1, 2, 3}
    for k in (1, 2, 3):
        assert not re.search(r"(?i)cheek|forehead|facial", found[k].text)
    sites = found[3].provenance["change"]["sites"]
    assert set(sites) == {"cheek", "forehead", "face"}
    assert "several regions" in why("wrong-site", "A plaque on the knee and the cheek. This is psoriasis.")
    assert "nail" in why("wrong-site", "A nail of the hand is lost. This is psoriasis.")
    assert "no site" in why("wrong-site", "On the other hand, this is psoriasis.")


def test_a_fault_that_turns_the_diagnosis_by_the_way_is_dropped() -> None:
    text = "A plaque is seen on the hand. Overall, this is most consistent with hand eczema."
    assert "leading diagnosis is read otherwise" in why("wrong-site", text, "hand eczema")


def test_the_side_has_one_level() -> None:
    found = copies("flipped-side")
    assert set(found) == {0, 1}
    assert found[1].text == TEXT.replace("left cheek", "right cheek")
    assert "1 level(s)" in why("flipped-side", TEXT)


def test_inventions_are_nested_and_new_to_the_text() -> None:
    all_said = [said for _, said in INVENTED]
    counts = [[said for said in all_said if said in text] for text in texts("invented-findings")]
    assert [len(c) for c in counts] == [1, 2, 4, 6]
    assert all(set(a) < set(b) for a, b in pairwise(counts))
    speaks = TEXT + " A biopsy is needed. The family is well."
    assert not any("biopsy showed" in t or "mother" in t for t in texts("invented-findings", speaks))


def test_omission_leaves_out_ever_more_and_keeps_diagnosis_and_advice() -> None:
    found = texts("omission")
    left = [TEXT, *found]
    kept = [set(re.split(r"(?<=\.) ", text)) for text in left]
    assert len(found) == 4
    assert all(b < a for a, b in pairwise(kept))
    assert all("psoriasis." in text and "I recommend" in text for text in found)
    listed = (
        "Findings: red in colour, with a sharp border, raised surface, on the left palm, small. Diagnosis: psoriasis."
    )
    assert [text.count(",") for text in texts("omission", listed)] == [3, 2, 1, 0]
    said_twice = " ".join(["The plaque is red."] * 8) + " Overall, this is psoriasis."
    assert "said elsewhere" in why("omission", said_twice)


def test_unsafe_advice_takes_the_place_of_all_safe_advice() -> None:
    found = texts("unsafe-advice", TEXT + " A follow-up visit is planned.")
    ladder = UNSAFE_LADDER["inflammatory"]
    for k, text in enumerate(found, 1):
        assert "dermatologist" not in text and "follow-up" not in text
        assert text.endswith(" ".join(ladder[:k]))
    assert "names a disease" in why("unsafe-advice", TEXT + " A biopsy of the psoriasis is advised.")


def test_overconfidence_hardens_and_adds() -> None:
    hedged = TEXT.replace(
        "chronic process.", "chronic process. It may be old. It is possibly itchy. It seems to be dry."
    )
    found = texts("overconfidence", hedged)
    for k, text in enumerate(found, 1):
        assert [sentence in text for sentence in DOUBTLESS] == [True] * k + [False] * (4 - k)
        assert leads(text) == {"psoriasis"}
    assert not re.search(r"suggests|may be|possibly|seems to be", found[3])
    assert re.search(r"suggests|may be|possibly|seems to be", found[0])


def test_incoherence_adds_and_then_shuffles() -> None:
    found = texts("incoherence")
    assert [sum(said in text for said in CONTRADICTIONS) for text in found] == [1, 2, 3, 4]
    assert found[1].replace(f" {CONTRADICTIONS[0]}", "").replace(f" {CONTRADICTIONS[1]}", "") == TEXT
    words = re.compile(r"\w+")
    plain = sorted(words.findall(TEXT + " ".join(CONTRADICTIONS)))
    assert sorted(words.findall(found[3])) == plain
    assert not found[3].startswith("The left cheek shows a red") or found[3].index("surface") < found[3].index(
        "sharply"
    )


def test_vague_wording_takes_terms_away_step_by_step() -> None:
    found = texts("vague-wording")
    precise = re.compile(r"(?i)red|scaly|plaque|demarcated|small|raised|pustules|telangiectasias|crust")
    counts = [len(precise.findall(text)) for text in (TEXT, *found)]
    assert all(a > b for a, b in pairwise(counts))
    assert counts[-1] <= 2
    assert leads(found[-1]) == {"psoriasis"}


def test_harmless_copies_say_the_same() -> None:
    text = "First, the color is gray and often red. " + TEXT
    found = texts("harmless", text)
    assert len(set(found)) == 4
    assert found[1].startswith("To begin with, the colour is grey and frequently red.")
    assert found[3] == f"{FRAME[0]} {found[1]} {FRAME[1]}"
    target = copies("harmless", text)[4].provenance["target"]
    assert target == {}


def test_a_copy_whose_text_is_that_of_the_level_below_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    import dermjudge.benchmarks.degrade as module
    from dermjudge.benchmarks.degrade_text import Level

    same = module.Fault(
        lambda clean: [Level(clean.text + " Red.", {"x": 1})] * 2 + ["cannot", "cannot"], {"Safety": (1, 2)}
    )
    monkeypatch.setitem(module.FAULTS, "same", same)
    made, report = degrade([CASE], faults=["same"], terms=TERMS)
    assert len(made) == 2
    assert report.to_dict()["dropped"] == {"same": {"the text is that of the level below": 1}}
    assert report.to_dict()["impossible"] == {"same": {"cannot": 2}}


def test_draws_depend_on_seed_and_case_alone() -> None:
    other = Case("c2", reference=TEXT, diagnosis=("psoriasis",))
    both = degrade([CASE, other], terms=TERMS, seed=3)[0]
    assert degrade([other], terms=TERMS, seed=3)[0] == [n for n in both if n.case_id == "c2"]
    assert degrade([CASE], terms=TERMS, seed=4)[0] != [n for n in both if n.case_id == "c1"]
    some = degrade([other], terms=TERMS, seed=3, severities=(2, 4), faults=["omission"])[0]
    assert some[1:] == [
        n for n in both if n.system in ("reference+omission-2", "reference+omission-4") and n.case_id == "c2"
    ]


def synthetic_clean(cases: int = 12) -> tuple[list[Case], list[Narrative]]:
    made = synthetic.make(cases, seed=5)
    return made.cases, [n for n in made.narratives if n.system == "alder"]


def test_narratives_of_known_truth_take_part_only_where_they_are_clean() -> None:
    cases, clean = synthetic_clean()
    made, report = degrade(cases, clean, "narrative", terms=TERMS)
    truth = {n.case_id: n.provenance["truth"] for n in clean}
    assert {n.system for n in made if not n.provenance["severity"]} == {"alder"}
    assert all(truth[n.case_id][d] >= 4 for n in made for d in n.provenance.get("target", {}))
    assert any("has lost" in reason for reason in report.impossible["unsafe-advice"])
    assert sum(report.made["misread-findings"].values()) >= 4
    wrong = next(n for n in made if n.provenance["fault"] == "wrong-diagnosis")
    assert wrong.differential == ()  # the record must not give away what the text no longer says
    assert wrong.arm == "image_context"
    doses = doses_of(made, load_rubric("derm6").names)
    assert doses.height == 6 * len(made)
    assert set(doses["origin"]) == {"alder"}


def test_metadata_narratives_can_be_graded_too() -> None:
    case = Case("m", diagnosis=("melanoma",), tags={"site": "scalp", "age": 60, "sex": "female"})
    made, report = degrade([case], source="metadata", terms=TERMS)
    assert made[0].system == "metadata"
    assert set(report.made["unsafe-advice"]) == {"1", "2", "3", "4"}
    assert set(report.made["wrong-site"]) == {"1", "2", "3"}


def test_targets_follow_the_scale_and_the_dimensions_of_the_rubric() -> None:
    anchors = {level: "x" for level in range(11)}
    ten = Rubric(
        name="short", version=1, scale=Scale(levels=tuple(range(10))),
        dimensions=(Dimension(name="Safety", definition="x", anchors={k: v for k, v in anchors.items() if k < 10}),),
    )  # fmt: skip
    made, _ = degrade([CASE], faults=["unsafe-advice", "omission"], terms=TERMS, rubric=ten)
    targets = [n.provenance["target"] for n in made if n.provenance["fault"] == "unsafe-advice"]
    assert targets == [{"Safety": pytest.approx(x * 9 / 5)} for x in (2, 3, 4, 5)]
    assert {str(n.provenance["target"]) for n in made if n.provenance["fault"] == "omission"} == {"{}"}
    with pytest.raises(InputError, match="aims at a dimension of short@1"):
        degrade([CASE], faults=["omission"], terms=TERMS, rubric=ten)


def test_graded_narratives_survive_the_disk(tmp_path) -> None:
    made, _ = degrade([CASE], terms=TERMS)
    write_narratives(made, tmp_path / "n.jsonl")
    assert read_narratives(tmp_path / "n.jsonl") == made


def test_a_text_of_which_a_judge_sees_nothing_has_no_copies() -> None:
    made, report = degrade([Case("c", reference="<think>All in here.</think>", diagnosis=("psoriasis",))], terms=TERMS)
    assert len(made) == 1
    assert all(row == {"nothing is left to judge": 4} for row in report.impossible.values())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"faults": ["lie"]}, "no fault 'lie'; there are wrong-diagnosis"),
        ({"severities": (0, 1)}, "among 1 to 4"),
        ({"severities": ()}, "among 1 to 4"),
        ({"source": "dream"}, "reference, metadata, narrative"),
        ({"source": "narrative"}, "with source 'narrative'"),
        ({"narratives": []}, "with source 'narrative'"),
    ],
)
def test_wrong_calls_say_what_would_do(more: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        degrade([CASE], terms=TERMS, **more)  # type: ignore[arg-type]


PIECES = st.sampled_from(
    ["psoriasis", "(psoriasis)", "**Psoriasis**", "The left cheek", "red", "scaly plaque", ".", "\n\n", "- ", "1.",
     "is raised.", "most consistent with", "I recommend a biopsy.", "may be", "Findings:", ",", "é…", "color", "a"]
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=25).map(" ".join))
def test_no_text_breaks_an_edit_and_everything_is_counted(text: str) -> None:
    made, report = degrade([Case("c", reference=f"It. {text}", diagnosis=("psoriasis",))], terms=TERMS)
    counted = sum(
        sum(row.values()) for kind in (report.made, report.impossible, report.dropped) for row in kind.values()
    )
    assert counted == 4 * len(FAULTS)
    chains: dict[str, list[str]] = {}
    for copy in made[1:]:
        chains.setdefault(copy.provenance["fault"], [made[0].judged]).append(copy.text)
    for chain in chains.values():
        assert all(a != b for a, b in pairwise(chain))
