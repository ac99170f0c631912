"""DermaVQA (iiyi, reddit) and DermaVQA-DAS: consultations, replies, closed answers, and what cannot be used of them."""

from __future__ import annotations

import json

import pytest

from dermjudge.benchmarks import dermavqa, dermavqa_das
from dermjudge.benchmarks.catalog import import_dataset
from dermjudge.benchmarks.validate import validate
from dermjudge.judge.errors import InputError
from dermjudge.judge.tables import read_narratives

from .test_importers import picture, table


def reply(text, author="U9", scores=None):
    found = {"author_id": author, "content_en": text, "content_zh": f"中{text}", "content_es": f"es {text}"}
    return found | dict(zip(("completeness", "contains_freq_ans"), scores or (), strict=False))


def encounter(name="ENC00001", images=("IMG_ENC00001_00001.jpg",), responses=None, **changes):
    return {
        "encounter_id": name, "author_id": "U1", "image_ids": list(images), "query_title_en": "Itchy spot",
        "query_title_zh": "痒", "query_title_es": "Picor", "query_content_en": "For two weeks.", "query_content_zh": "",
        "query_content_es": "", "responses": [reply("Eczema.")] if responses is None else responses,
    } | changes  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


@pytest.fixture
def iiyi(tmp_path):
    data = tmp_path / "src" / "data" / "iiyi"
    scored = [reply("Psoriasis.", scores=(1, 0)), reply("Eczema.", "U7", (0.5, 1)),
              reply("Eczema, use ointment.", "U8", (1.0, 1)), reply("")]  # fmt: skip
    write(
        data / "train.json", [encounter(), encounter("ENC00002", ["IMG_ENC00002_00001.jpg", "IMG_ENC00002_00002.jpg"])]
    )
    write(data / "test_ht.json", [encounter("ENC00003", ["IMG_ENC00003_00001.jpg"], query_title_es="alt")])
    write(data / "test_ht_spanishtestsetcorrected.json",
          [encounter("ENC00003", ["IMG_ENC00003_00001.jpg"], scored, query_title_es="nuevo")])  # fmt: skip
    write(data / "instanceid2encounterid.json", {"501": "ENC00001", "502": "ENC00002", "503": "ENC00003"})
    side = {"author_role": "patient", "anatomic_locations": "Arm", "split": "train", "sex": "女", "age": "三十",
            "age_norm": "30"}  # fmt: skip
    unknown = {"encounter_id": "502", **side, "sex": "", "age_norm": "unknown"}
    table(data / "df_mediqa-m3g-final.csv", [{"encounter_id": "501", **side}, {"encounter_id": "501", **side}, unknown])
    table(data / "df_userinfo.csv", [{"author_id": "U8", "validation_level": "validated", "rank_level": "4"}])
    for k, name in enumerate(("1_00001", "2_00001", "2_00002", "3_00001")):
        picture(tmp_path / "src" / "images_train" / f"IMG_ENC0000{name}.jpg", k)
    return tmp_path / "src"


def test_iiyi(iiyi, tmp_path):
    bundle = dermavqa.read(iiyi)
    assert not bundle.problems
    one, two, three = bundle.cases
    assert [case.split for case in bundle.cases] == ["train", "train", "test"]
    assert one.context == "Itchy spot\nFor two weeks.\nAge: 30. Sex: female."
    assert one.tags == {"age": 30, "sex": "female", "site": "arm", "author_id": "U1", "replies": 1}
    assert (len(two.images), two.images[0].body_site, two.tags.get("age"), two.tags.get("sex")) == (
        2,
        "arm",
        None,
        None,
    )
    assert (one.diagnosis, three.diagnosis, three.urgency) == ((), (), "")  # never mined from replies
    assert one.reference == "Eczema."
    assert three.reference == "Eczema, use ointment."  # the commonest answer, then the most complete
    last = bundle.narratives[-1]
    assert (last.system, last.arm, last.sample, last.language) == ("physician", "image_context", 2, "en")
    assert last.provenance == {"author_id": "U8", "validation_level": "validated", "rank_level": "4",
                               "completeness": 1.0, "contains_freq_ans": 1}  # fmt: skip
    assert "1 replies are empty in 'en' and were left out." in bundle.notes
    spanish = dermavqa.read(iiyi, language="es")
    assert spanish.cases[2].context == "nuevo"  # the corrected file wins
    assert spanish.narratives[0].text == "es Eczema."
    report = import_dataset("dermavqa_iiyi", iiyi, tmp_path / "out")
    assert (report.images, report.narratives, validate(tmp_path / "out")) == (4, 5, [])
    assert read_narratives(tmp_path / "out" / "narratives.jsonl")[-1].provenance == last.provenance
    assert dermavqa.read(iiyi, references=False).narratives == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encounter_id": ""}, "encounter_id is empty"),
        ({"encounter_id": "1e5"}, "encounter_id '1e5' was read as a number"),
        ({"encounter_id": "enc00001"}, "'enc00001' stands already on line 3 of train.json"),
        ({"image_ids": "IMG.jpg"}, "image_ids is no list of names"),
        ({"responses": "Eczema"}, "responses is no list of objects"),
        ({"responses": [reply("x", scores=(2, 1))]}, "completeness 2 is none of 0, 0.5, 1"),
        ({"responses": [reply("x", scores=(1, 0.5))]}, "contains_freq_ans 0.5 is none of 0, 1"),
        ({"image_ids": [], "query_title_en": "", "query_content_en": None}, "has neither a picture nor a question"),
    ],
)
def test_bad_encounters_are_named_by_their_line(iiyi, changes, message):
    rows = [encounter(), encounter("ENC00002", ["IMG_ENC00002_00001.jpg"]) | changes]
    path = iiyi / "data" / "iiyi" / "train.json"
    write(path, rows)
    line = [k for k, text in enumerate(path.read_text().splitlines(), 1) if '"encounter_id"' in text][1]
    (problem,) = dermavqa.read(iiyi).problems
    assert (problem.file, problem.line) == ("train.json", line)
    assert message in problem.message


def test_a_picture_that_is_gone_is_listed_and_the_rest_of_the_case_stays(iiyi):
    (iiyi / "images_train" / "IMG_ENC00002_00002.jpg").unlink()
    (iiyi / "images_train" / "IMG_ENC00001_00001.jpg").unlink()
    bundle = dermavqa.read(iiyi)
    assert [len(case.images) for case in bundle.cases] == [0, 1, 1]
    assert [problem.field for problem in bundle.problems] == ["ENC00001", "ENC00002"]
    assert "1 of 3 cases have no picture: text only." in bundle.notes


def test_side_files_of_iiyi_that_do_not_fit(iiyi):
    data = iiyi / "data" / "iiyi"
    row = {"encounter_id": "501", "anatomic_locations": "", "sex": "x", "age_norm": ""}
    table(data / "df_mediqa-m3g-final.csv", [row, row | {"sex": "m", "age_norm": "old"}, row | {"encounter_id": "9"},
                                             row | {"sex": "m"}, row | {"sex": "f"}])  # fmt: skip
    bundle = dermavqa.read(iiyi)
    assert [(p.line, p.message.split(" is n")[0]) for p in bundle.problems] == [
        (2, "sex 'x'"), (3, "'old'"), (4, "9")]  # fmt: skip
    assert "sex" not in bundle.cases[0].tags  # two rows of one encounter, two answers
    write(data / "instanceid2encounterid.json", {"ENC00001": "501"})  # the other way round
    assert len(dermavqa.read(iiyi).problems) == 3
    write(data / "instanceid2encounterid.json", [1])
    with pytest.raises(InputError, match="an object of number and ENC id is needed"):
        dermavqa.read(iiyi)


def test_what_is_no_dermavqa(iiyi, tmp_path):
    with pytest.raises(InputError, match=r"no train\.json or valid_ht_v2\.json"):
        dermavqa.read(iiyi / "images_train")
    with pytest.raises(InputError, match="language 'fr' is none of en, zh, es"):
        dermavqa.read(iiyi, language="fr")
    (iiyi / "data" / "iiyi" / "train.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="a JSON list of objects with 'encounter_id' is needed"):
        dermavqa.read(iiyi)
    (iiyi / "data" / "iiyi" / "train.json").write_text("[")
    with pytest.raises(InputError, match=r"train\.json is not JSON"):
        dermavqa.read(iiyi)


def test_reddit(tmp_path):
    data = tmp_path / "src" / "data" / "reddit"
    posts = {f"query_{part}_{lang}": "" for part in ("title", "content") for lang in ("en", "zh", "es")}
    bare = [{k: v for k, v in encounter(name, [f"{name}.jpg"]).items() if k not in posts and k != "author_id"}
            for name in ("R1", "R2")]  # fmt: skip
    write(data / "train_answersonly.json", bare)
    assert [p.message[:40] for p in dermavqa.read_reddit(tmp_path / "src").problems] == [
        "has neither a picture nor a question; wa"] * 2  # fmt: skip
    picture(tmp_path / "pulled" / "R1.jpg", 1)
    bundle = dermavqa.read_reddit(tmp_path / "src", images=tmp_path / "pulled")
    (one,) = bundle.cases
    assert (one.id, one.context, one.reference, bundle.narratives[0].system) == ("R1", "", "Eczema.", "annotator")
    assert [p.message.split(" lies")[0] for p in bundle.problems] == [
        "no image 'R2.jpg'",
        "has neither a picture nor a question; was the post not fetched, or is it gone?",
    ]
    write(data / "train_answersonly.json", [bare[0] | {"query_content_en": "A spot."}])
    report = import_dataset("dermavqa_reddit", tmp_path / "src", tmp_path / "out")
    assert (report.images, report.benchmark.cases[0].context) == (0, "A spot.")
    assert validate(tmp_path / "out") == []


QUESTIONS = [
    {"qid": f"CQID011-00{k}", "question_en": f"{k} Where is the affected area?", "question_zh": "部位",
     "options_en": ["head", "neck", "Not mentioned"], "options_zh": ["头", "颈", "无"],
     "question_type_en": "Site Location", "question_category_en": "General"} for k in (1, 2)
]  # fmt: skip


@pytest.fixture
def das(iiyi):
    write(iiyi / dermavqa_das.DEFINITIONS, QUESTIONS)
    write(iiyi / "train" / "train_cvqa.json", [{"encounter_id": "ENC00001", "CQID011-001": 1, "CQID011-002": 2}])
    write(iiyi / "test" / "test_cvqa.json", [{"encounter_id": "ENC00003", "CQID011-001": 0}])
    return iiyi


def test_das(das, tmp_path):
    bundle = dermavqa_das.read(das)
    assert not bundle.problems
    assert [case.id for case in bundle.cases] == ["ENC00001", "ENC00003"]
    assert bundle.notes[0] == "1 of 3 consultations have no closed answers and were left out."
    assert bundle.tables["answers"] == [
        {"case_id": "ENC00001", "question_id": "CQID011-001", "value": "neck"},
        {"case_id": "ENC00001", "question_id": "CQID011-002", "value": "Not mentioned"},  # an option, not a gap
        {"case_id": "ENC00003", "question_id": "CQID011-001", "value": "head"},
    ]
    assert bundle.tables["questions"][0] == {
        "question_id": "CQID011-001", "group": "CQID011", "kind": "single", "text": "1 Where is the affected area?",
        "options": ["head", "neck", "Not mentioned"], "type": "Site Location", "category": "General"}  # fmt: skip
    (das / "images_train" / "IMG_ENC00003_00001.jpg").write_bytes(b"\xff\xd8rotten")
    report = import_dataset("dermavqa_das", das, tmp_path / "out")
    assert [case.id for case in report.benchmark.cases] == ["ENC00001"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert lines == bundle.tables["answers"][:2]  # no answer without its case
    assert len((tmp_path / "out" / "questions.jsonl").read_text().splitlines()) == 2
    assert validate(tmp_path / "out") == []


def test_das_bad_answers_are_named(das):
    path = das / "train" / "train_cvqa.json"
    path.write_text('[{"encounter_id": "ENC00001",\n "CQID011-001": 3, "CQID011-002": true, "CQID099-001": 0},\n'
                    '{"encounter_id": "ENC00001"},\n{"encounter_id": "ENC77777"}]')  # fmt: skip
    bundle = dermavqa_das.read(das)
    assert [(p.file, p.line, p.message) for p in bundle.problems] == [
        ("train_cvqa.json", 1, "CQID011-001: 3 is no option; 0 to 2"),
        ("train_cvqa.json", 1, "CQID011-002: True is no option; 0 to 2"),
        ("train_cvqa.json", 1, f"CQID099-001 is no question of {dermavqa_das.DEFINITIONS}"),
        ("train_cvqa.json", 3, "stands twice"),
        ("train_cvqa.json", 4, "is no consultation of the set"),
    ]
    write(das / dermavqa_das.DEFINITIONS, [{"qid": "CQID011-001", "options_en": ["one"]}])
    with pytest.raises(InputError, match="line 3: a qid of its own and a list options_en are needed"):
        dermavqa_das.read(das)
    (das / dermavqa_das.DEFINITIONS).unlink()
    with pytest.raises(InputError, match="no closedquestions_definitions"):
        dermavqa_das.read(das)
