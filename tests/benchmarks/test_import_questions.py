"""DermaBench, MM-Skin and Derm1M: questions on pictures, captions from the web, and every row that must not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dermjudge.benchmarks import derm1m, dermabench, mm_skin
from dermjudge.benchmarks.catalog import import_dataset
from dermjudge.benchmarks.validate import validate
from dermjudge.evaluators.answers import score_answers
from dermjudge.judge.answers import read_answers, read_questions
from dermjudge.judge.errors import InputError

from .test_import_fitzpatrick_ddi import DDI, ddi_root
from .test_importers import picture, table

ANSWER = {"image": "000001.png", "question_id": "Q1", "question": "Which site?", "type": "single", "answer": "face"}


def derma(root, rows):
    ddi_root(root, DDI)
    table(root / "dermabench_v1.csv", rows)
    return root


def test_dermabench(tmp_path):
    rows = [
        ANSWER, ANSWER | {"image": "000003", "answer": "not mentioned"},
        ANSWER | {"question_id": "Q2", "question": "Colours?", "type": "Multi", "answer": "red; brown"},
        ANSWER | {"image": "000003.png", "question_id": "Q2", "question": "Colours?", "type": "multi",
                  "answer": '["white"]'},
        ANSWER | {"question_id": "Q22", "question": "Describe.", "type": "open", "answer": "A plaque; on the face."},
    ]  # fmt: skip
    root = derma(tmp_path / "src", rows)
    bundle = dermabench.read(root, reference="Q22", licence="CC0-1.0")
    assert not bundle.problems
    assert [case.id for case in bundle.cases] == ["000001", "000003"]  # the third picture has no answer
    one, two = bundle.cases
    assert (one.reference, two.reference) == ("A plaque; on the face.", "")
    assert (one.diagnosis, one.tags["fitzpatrick"]) == (("squamous cell carcinoma in situ",), "5-6")
    assert bundle.tables["answers"] == [
        {"case_id": "000001", "question_id": "Q1", "value": "face"},
        {"case_id": "000003", "question_id": "Q1", "value": "not mentioned"},
        {"case_id": "000001", "question_id": "Q2", "value": ["red", "brown"]},
        {"case_id": "000003", "question_id": "Q2", "value": ["white"]},
        {"case_id": "000001", "question_id": "Q22", "value": "A plaque; on the face."},
    ]
    assert [(q["question_id"], q["kind"], q["options"]) for q in bundle.tables["questions"]] == [
        ("Q1", "single", ["face", "not mentioned"]),
        ("Q2", "multi", ["brown", "red", "white"]),
        ("Q22", "open", []),
    ]
    assert "no redistribution (pictures); CC0-1.0 (answers)" in bundle.licence
    import_dataset("dermabench", root, tmp_path / "out", reference="Q22")
    assert validate(tmp_path / "out") == []
    assert len((tmp_path / "out" / "answers.jsonl").read_text().splitlines()) == 5


def test_dermabench_columns_can_be_named_and_ddi_can_lie_elsewhere(tmp_path):
    ddi_root(tmp_path / "ddi", DDI)
    table(tmp_path / "DermaBench.csv", [{"DDI_file" if k == "image" else k: v for k, v in ANSWER.items()}])
    bundle = dermabench.read(tmp_path, pictures=tmp_path / "ddi", columns={"DDI_file": "image"})
    assert [case.id for case in bundle.cases] == ["000001"]
    with pytest.raises(InputError, match="missing column image"):
        dermabench.read(tmp_path, pictures=tmp_path / "ddi")
    with pytest.raises(InputError, match="reference: no question 'Q9'; known: Q1"):
        dermabench.read(tmp_path, pictures=tmp_path / "ddi", columns={"DDI_file": "image"}, reference="Q9")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "3"}, "image '3' is no name such as 000001.png (perhaps 000003: zeros are lost"),
        ({"image": "000077.png"}, "'000077.png' is no picture of ddi_metadata.csv"),
        ({"question_id": " "}, "question_id is empty"),
        ({"type": "free"}, "type 'free' is none of single, multi, open"),
        ({"question": "What site?"}, "question Q1 is 'Which site?' (single) on an earlier line"),
        ({"answer": ""}, "the answer to Q1 is empty"),
        ({"image": "000001.png"}, "question Q1 of this picture is answered already on line 2"),
    ],
)
def test_dermabench_bad_rows_are_named(tmp_path, changes, message):
    bundle = dermabench.read(derma(tmp_path, [ANSWER, ANSWER | {"image": "000003.png"} | changes]))
    (problem,) = bundle.problems
    assert (problem.file, problem.line) == ("dermabench_v1.csv", 3)
    assert message in problem.message
    assert len(bundle.tables["answers"]) == 1


def mm(root, rows):
    table(root / "Dataframe" / "test" / "vqa" / "MM-Skin_test.csv", rows)
    for k in (1, 2, 3):
        picture(root / "dataset" / f"bk5_{k}.png", k)
    return root


PAIR = {"image": "dataset/bk5_1.png", "question": 'What is the "spot"?', "answer": "A nevus."}


def turns(*texts):
    return [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(texts)]


def test_mm_skin(tmp_path):
    root = mm(tmp_path / "src", [PAIR, PAIR | {"question": "Which colour?", "answer": "Brown."},
                                 PAIR | {"image": "dataset/bk5_2.png"}])  # fmt: skip
    path = root / "Dataframe" / "Pretrain" / "vqa_MM.json"
    path.parent.mkdir()
    path.write_text(json.dumps([{"id": "x", "image": "dataset/bk5_3.png", "conversations": turns(
        "<image>\nWhere?", "On the arm.", "How many?", "One.")}]))  # fmt: skip
    bundle = mm_skin.read(root)
    assert not bundle.problems
    assert [(case.id, case.split, case.diagnosis) for case in bundle.cases] == [
        ("bk5_1", "test", ()), ("bk5_2", "test", ())]  # fmt: skip
    assert bundle.tables["asked"][:2] == [
        {"case_id": "bk5_1", "question_id": "1", "text": 'What is the "spot"?'},
        {"case_id": "bk5_1", "question_id": "2", "text": "Which colour?"}]  # fmt: skip
    assert [(q["question_id"], q["kind"]) for q in bundle.tables["questions"]] == [("1", "open"), ("2", "open")]
    assert [row["value"] for row in bundle.tables["answers"]] == ["A nevus.", "Brown.", "A nevus."]
    both = mm_skin.read(root, part="all")
    assert [(case.id, case.split) for case in both.cases][2:] == [("bk5_3", "train")]
    assert [row["text"] for row in both.tables["asked"]][3:] == ["Where?", "How many?"]
    with pytest.raises(InputError, match="mm_skin: no licence is given, so its pictures are not copied"):
        import_dataset("mm_skin", root, tmp_path / "out")
    import_dataset("mm_skin", root, tmp_path / "out", licence="research, agreed by letter")
    assert validate(tmp_path / "out") == []
    assert len((tmp_path / "out" / "asked.jsonl").read_text().splitlines()) == 3
    gold, asked = read_answers(tmp_path / "out" / "answers.jsonl"), read_questions(tmp_path / "out" / "questions.jsonl")
    scored = score_answers(gold, [replace(answer, system="m") for answer in gold], asked, resamples=100)
    assert [(one.question, one.counts["n"]) for one in scored.questions] == [("1", 2), ("2", 1)]  # by place, all cases


def test_mm_skin_bad_rows_are_named(tmp_path):
    rows = [PAIR, PAIR, PAIR | {"image": "dataset/none.png"}, PAIR | {"question": "Q?", "answer": ""},
            PAIR | {"image": "../secret.png"}, PAIR | {"image": ""}]  # fmt: skip
    root = mm(tmp_path, rows)
    path = root / "vqa_MM.json"
    path.write_text(json.dumps([
        {"image": "dataset/bk5_2.png", "conversations": turns("a")},
        {"image": "dataset/bk5_2.png", "conversations": turns("a", "b")[::-1]},
        {"image": 3, "conversations": turns("a", "b")},
        {"image": "dataset/bk5_1.png", "conversations": turns("a", "b")}], indent=0))  # fmt: skip
    told = [(p.file, p.message) for p in mm_skin.read(root, part="all", licence="x").problems]
    assert [message.split(" below")[0] for _, message in told] == [
        "the same question stands already on line 2", "no image dataset/none.png", "question or answer is empty",
        "the image path '../secret.png' is empty or leaves the data set", "image is empty",
        "conversations is no list of turns by pairs", "turns must be human and gpt by pairs", "image is no path",
        "the picture is in the splits test and train"]  # fmt: skip
    assert [file for file, _ in told] == ["MM-Skin_test.csv"] * 5 + ["vqa_MM.json"] * 4
    with pytest.raises(InputError, match="part 'validation' is none of test, train, all"):
        mm_skin.read(root, part="validation")


NOTHING = {
    "skin_concept": "No visual concepts", "body_location": "no body location information",
    "symptoms": "No symptom information", "age": "No age information", "gender": "No gender information",
}  # fmt: skip
DERM1M = {
    "filename": "pubmed/a_1.jpg", "caption": "A plaque on the arm.", "truncated_caption": "A plaque",
    "source": "pubmed", "source_type": "knowledge", "disease_label": "psoriasis",
    "hierarchical_disease_label": "inflammatory, papulosquamous, psoriasis", "skin_concept": "plaque, scale",
    "body_location": "Arm", "symptoms": "itch", "age": "45 years old", "gender": "Female",
}  # fmt: skip


def million(root, rows, split="validation", mark=""):
    path = table(root / f"Derm1M_v2_{split}.csv", rows)
    path.write_text(mark + path.read_text("utf-8"), "utf-8")
    (root / "ontology.json").write_text('{"inflammatory": ["papulosquamous"], "papulosquamous": ["Psoriasis"]}')
    for k, name in enumerate(("pubmed/a_1", "pubmed/pubmed/a_2", "youtube/a_1")):  # the same name in two sources
        picture(root / f"{name}.jpg", k)
    return root


def test_derm1m(tmp_path):
    rows = [
        DERM1M, DERM1M | {"caption": "Another caption."},
        DERM1M | NOTHING | {"filename": "pubmed/a_2.jpg", "disease_label": "no definitive diagnosis",
                            "hierarchical_disease_label": "no definitive diagnosis"},
        DERM1M | {"filename": "youtube/a_1.jpg", "disease_label": "quux rash", "age": "elderly",
                  "hierarchical_disease_label": "inflammatory, quux rash"},
    ]  # fmt: skip
    root = million(tmp_path / "src", rows, mark="\ufeff")
    with pytest.raises(InputError, match=r"Derm1M_v2_pretrain\.csv below"):
        derm1m.read(root, part="train")
    picture(root / "pubmed" / "a_2.jpg", 9)
    bundle = derm1m.read(root)
    assert not bundle.problems
    one, two, three = bundle.cases
    assert (one.diagnosis, one.split, one.reference) == (("psoriasis",), "validation", "A plaque on the arm.")
    assert one.tags == {
        "raw_label": "psoriasis", "path": ["inflammatory", "papulosquamous", "psoriasis"], "age": 45, "sex": "female",
        "site": "arm", "origin": "pubmed", "origin_type": "knowledge", "concepts": ["plaque", "scale"]}  # fmt: skip
    assert one.context == "Age: 45. Sex: female. Site: arm. Symptoms: itch."
    assert (two.diagnosis, two.context, two.tags) == ((), "", {"origin": "pubmed", "origin_type": "knowledge"})
    assert (three.diagnosis, three.tags["unmapped_labels"], "age" in three.tags) == ((), ["quux rash"], False)
    assert [(n.case_id, n.sample, n.text) for n in bundle.narratives[:2]] == [
        ("pubmed/a_1.jpg", 0, "A plaque on the arm."), ("pubmed/a_1.jpg", 1, "Another caption.")]  # fmt: skip
    told = "\n".join(bundle.notes)
    assert "1 of 3 cases have no definitive diagnosis" in told
    assert "1 labels do not stand under their published parent in ontology.json: quux rash under inflammatory" in told
    assert "Derm1M_v2_validation.csv line 5: 'quux rash' is not in the term list" in told
    import_dataset("derm1m", root, tmp_path / "out")
    assert validate(tmp_path / "out") == []


def test_derm1m_bad_rows_are_named(tmp_path):
    rows = [DERM1M, DERM1M | {"filename": ""}, DERM1M | {"filename": "pubmed/a_9.jpg"}, DERM1M | {"caption": " "},
            DERM1M | {"disease_label": "eczema"}]  # fmt: skip
    root = million(tmp_path, rows)
    million(tmp_path, [DERM1M], "pretrain")
    told = [(p.file, p.line, p.message.split(" below")[0]) for p in derm1m.read(root, part="all").problems]
    name = "Derm1M_v2_validation.csv"
    assert told == [
        (name, 3, "filename is empty"), (name, 4, "no image pubmed/a_9.jpg"), (name, 5, "caption is empty"),
        (name, 6, "the picture is called eczema here and psoriasis on an earlier line"),
        ("Derm1M_v2_pretrain.csv", 2, "the picture is in the splits validation and train"),
    ]  # fmt: skip
    (root / "ontology.json").write_text("[]")
    with pytest.raises(InputError, match="an object of parent and list of children is needed"):
        derm1m.read(root)
