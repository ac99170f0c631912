"""`evaluate` from the command line: label maps, arms, subgroups, a gate on picture quality, and what it refuses."""

import contextlib
import io
import json
from importlib.resources import files

import polars as pl
import pytest
from PIL import Image as Pillow

from dermjudge.cli.arms import references
from dermjudge.cli.main import main
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.tables import write_narratives

CASES = 40


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """40 cases of psoriasis; right with context in all, without in every second, under a wrong age in three of four."""
    root = tmp_path_factory.mktemp("evaluate")
    Pillow.new("RGB", (16, 16), (120, 90, 60)).save(root / "p.png")
    cases, narratives, images = [], [], {}
    for k in range(CASES):
        images[f"images/c{k}.png"] = root / "p.png"
        tags = {
            "sex": "female" if k % 4 else "male",
            "fitzpatrick": str(1 + k % 2),
            "clinic": "ab"[k // 20],
        }
        cases.append(
            Case(f"c{k}", (Image(f"images/c{k}.png"),), diagnosis=(f"L40.{k // 20}",), urgency="routine", tags=tags)
        )
        right = {"image_only": k % 2 == 0, "image_context": True, "image_context-wrong:age": k % 4 > 0}
        for arm, hit in right.items():
            named = "psoriasis" if hit else "melanoma"
            narratives.append(Narrative(f"c{k}", "m", f"Differential:\n1. {named}\nTriage: routine.", arm))
    write_benchmark(
        root / "bench", name="toy", version="1", licence="CC0-1.0", source="t", cases=cases, images=images,
        extra=lambda path: write_narratives(narratives, path / "narratives.jsonl"),
    )  # fmt: skip
    (root / "labels.csv").write_text("label,canonical,confidence\nL40.0,psoriasis,low\nL40.1,psoriasis,high\n")
    tags = "\n".join(f"c{k},images/c{k}.png,{'poor' if k % 2 else 'good'}" for k in range(CASES - 2))
    (root / "quality.csv").write_text(f"case_id,picture,tag\n{tags}\n")
    return root


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def run(study, *more):
    """Standard output of a command that must succeed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as stop:
        main(["evaluate", str(study / "bench"), "--labels", str(study / "labels.csv"), "--k", "1", *map(str, more)])
    assert not stop.value.code
    return out.getvalue()


@pytest.fixture(scope="module")
def everything(study):
    asked = ("--quality", study / "quality.csv", "--by", "quality,clinic,label_confidence")
    return json.loads(run(study, *asked, "--explain", study / "why.csv", "--json"))


@pytest.fixture(scope="module")
def page(study):
    return run(study, "--quality", study / "quality.csv", "--explain", study / "why.jsonl")


def test_a_label_map_of_ones_own_makes_the_gold_usable(everything):
    top = {s["arm"]: (s["strict"]["1"]["value"], s["n"]) for s in everything["diagnosis"]["systems"]}
    assert top == {"image_only": (0.5, 40), "image_context": (1.0, 40), "image_context-wrong:age": (0.75, 40)}
    assert everything["labels"]["cases_renamed"] == CASES and everything["labels"]["not_mapped"] == []


def test_labels_that_the_map_lacks_are_counted_and_named(capsys, study, tmp_path):
    write_narratives([Narrative("c0", "m", "1. psoriasis")], tmp_path / "one.jsonl")
    (tmp_path / "few.csv").write_text("label,canonical\nL41,psoriasis\n")
    asked = ("evaluate", study / "bench", tmp_path / "one.jsonl", "--labels")
    code, out, err = call(capsys, *asked, tmp_path / "few.csv")
    assert code == 0, err
    assert "- 'L40.0' not in the label map: 20 cases" in out and "## Arms" not in out
    (tmp_path / "bad.csv").write_text("label,canonical\nL40.0,psoraisis vulgariss\n")
    code, _, err = call(capsys, *asked, tmp_path / "bad.csv")
    assert code == 2 and "line 2" in err


def test_codes_lead_through_a_term_list_that_has_them_and_weights_can_be_ones_own(study, tmp_path):
    write_narratives([Narrative("c0", "m", "1. psoriasis")], tmp_path / "one.jsonl")
    head = "canonical,parent,grandparent,malignancy,urgency,synonyms,icd10\n"
    (tmp_path / "terms.csv").write_text(
        head + "psoriasis,papulosquamous,,inflammatory,routine,,L40\nmelanoma,neoplasm,,malignant,urgent,,C43\n"
    )
    (tmp_path / "codes.csv").write_text("label,canonical,code\nL40.0,,l40\nL40.1,,L40\n")
    text = files("dermjudge.evaluators.data").joinpath("relations.yaml").read_text("utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("weight: 1.0,", "weight: 0.9,"))
    found = json.loads(run(study, tmp_path / "one.jsonl", "--terms", tmp_path / "terms.csv", "--labels",
                           tmp_path / "codes.csv", "--relations", tmp_path / "mine.yaml", "--json"))  # fmt: skip
    (system,) = found["diagnosis"]["systems"]
    assert system["strict"]["1"]["value"] == 1 and system["graded"]["1"]["value"] == pytest.approx(0.9)


def test_every_arm_is_held_against_its_plain_one(everything):
    found = everything["arms"]
    bases = {e["base"]: e["arms"] for e in found["effects"]}
    assert bases == {"image_only": ["image_context"], "image_context": ["image_context-wrong:age"]}
    wrong = next(e for e in found["effects"] if e["base"] == "image_context")
    delta = next(d for d in wrong["deltas"] if d["measure"] == "top_1" and d["system"] == "m")
    assert delta["difference"]["value"] == pytest.approx(-0.25) and delta["right_to_wrong"]["value"] == 0.25
    assert delta["n"] == CASES and delta["difference"]["low"] < -0.25 < delta["difference"]["high"]
    changed = wrong["first_diagnosis_changes"][0]
    assert changed["changed"]["value"] == 0.25 and changed["changed"]["n"] == CASES


def test_the_page_shows_arms_and_the_gate_and_fits_a_terminal(page):
    assert "### Against image_only" in page and "-0.25 [-0." in page and "0.25 /40" in page
    assert "good only" in page and "19 of 38" in page and "2 cases have pictures of no known quality" in page
    assert "Cases kept of each group of fitzpatrick" in page and max(map(len, page.splitlines())) <= 120


def test_one_arm_may_be_the_reference_of_all(capsys, study, tmp_path):
    arms = ["image_context", "image_context-wrong:age", "image_only"]
    assert references(arms, arms[1]) == {arms[1]: [arms[0], arms[2]]}
    code, _, err = call(capsys, "evaluate", study / "bench", "--arms-against", "text_only")
    assert code == 2 and "no narrative has the arm 'text_only'; there are image_context, " in err
    write_narratives([Narrative("c0", "a", "1. psoriasis")], tmp_path / "one.jsonl")
    code, _, err = call(capsys, "evaluate", study / "bench", tmp_path / "one.jsonl", "--arms-against", "image_only")
    assert code == 2 and "narratives of several arms; these are all 'image_only'" in err


def test_arms_without_a_common_narrative_are_said(study, tmp_path):
    pair = [Narrative("c0", "a", "1. psoriasis"), Narrative("c1", "b", "1. psoriasis", "text_only")]
    write_narratives(pair, tmp_path / "apart.jsonl")
    out = " ".join(run(study, tmp_path / "apart.jsonl").split())
    assert "text_only is not compared: no case has a narrative of one system" in out


def test_the_usual_arm_stands_in_where_a_plain_one_is_missing():
    assert references(["text_only-wrong:age", "odd", "other"]) == {"odd": ["text_only-wrong:age", "other"]}
    assert references(["image_only"]) == {}


def test_quality_becomes_a_subgroup_and_a_gate_with_its_price(everything):
    curve = next(c for c in everything["quality_gate"] if (c["arm"], c["metric"]) == ("image_only", "top_1"))
    assert curve["unknown"] == 2 and curve["all"]["value"] == pytest.approx(0.5)
    gate = curve["gates"][-1]
    assert (gate["threshold"], gate["cases"], gate["share"], gate["value"]["value"]) == (2.0, 19, 0.5, 1.0)
    assert gate["gain"]["value"] == pytest.approx(0.5) and gate["kept_by_group"] == {"1": 1.0, "2": 0.0}
    groups = {g["group"] for g in everything["subgroups"]["groups"] if g["attribute"] == "quality"}
    assert groups == {"poor", "good", None}
    assert {c["metric"] for c in everything["quality_gate"]} == {"top_1", "lenient_1", "specificity"}


def test_a_foreign_table_and_an_unknown_attribute_are_refused(capsys, study, tmp_path):
    (tmp_path / "other.csv").write_text("case_id,picture,tag\nx,images/x.png,good\n")
    code, _, err = call(capsys, "evaluate", study / "bench", "--quality", tmp_path / "other.csv")
    assert code == 2 and "no row is of a picture of toy" in err
    code, _, err = call(capsys, "evaluate", study / "bench", "--by", "agee")
    assert code == 2 and "the cases have no 'agee'; they have fitzpatrick, sex" in err
    code, _, err = call(capsys, "evaluate", study / "bench", "--explain", tmp_path / "why.txt")
    assert code == 2 and "ending must be one of" in err


def test_a_tag_is_a_subgroup_too_and_so_is_the_confidence_of_the_map(everything):
    found = {(g["attribute"], g["group"]) for g in everything["subgroups"]["groups"]}
    assert found >= {("clinic", "a"), ("clinic", "b"), ("label_confidence", "low"), ("label_confidence", "high")}


@pytest.mark.usefixtures("everything", "page")
def test_explain_writes_a_line_per_narrative(study):
    rows = pl.read_csv(study / "why.csv")
    assert rows.height == 3 * CASES and "1 'psoriasis' -> psoriasis (its name): same of psoriasis, 1" in rows["matches"]
    assert json.loads((study / "why.jsonl").read_text().splitlines()[0])["gold"] == ["psoriasis"]
