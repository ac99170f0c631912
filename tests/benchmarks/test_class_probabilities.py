"""Class probabilities, texts of pipelines and clinicians' narratives as candidates."""

import pytest

from dermjudge.benchmarks.class_probabilities import read_class_probabilities, read_recorded
from dermjudge.evaluators.differential import parse_differential
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Narrative
from dermjudge.judge.tables import write_narratives

TABLE = "case_id,basal_cell_carcinoma,melanoma,nevus\nc1,0.2,0.7,0.1\nc2,0,0,1\nc3,0.5,0.5,0\nc4,0,0,0\n"


@pytest.fixture
def write(tmp_path):
    def at(text, name="resnet.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return at


def test_probabilities_become_ranked_narratives(write):
    found = {n.case_id: n for n in read_recorded(write(TABLE))}
    assert [found["c1"].system, found["c1"].arm, found["c1"].sample] == ["resnet", "image_only", 0]
    assert found["c1"].differential == (
        Candidate("melanoma", 0.7), Candidate("basal cell carcinoma", 0.2), Candidate("nevus", 0.1))  # fmt: skip
    assert found["c2"].differential == (Candidate("nevus", 1.0),)
    assert [c.name for c in found["c3"].differential] == ["basal cell carcinoma", "melanoma"]  # ties: as the columns
    assert found["c4"].differential == () and found["c4"].text == ""
    assert found["c1"].provenance == {"source": "class probabilities", "classes": 3, "sum": 1.0}
    assert found["c1"].triage == ""
    # who reads the text finds the same ranking as who reads the record
    for narrative in found.values():
        read = [item.name for item in parse_differential(narrative.text).items]
        assert read == [c.name for c in narrative.differential]


def test_top_and_names(write):
    (first, *_) = read_class_probabilities(write(TABLE), name="net", arm="x", top=1, names={"melanoma": "Melanoma"})
    assert (first.system, first.arm, first.differential) == ("net", "x", (Candidate("Melanoma", 0.7),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id,a,b\nc1,70,30\n", "line 2, a: '70' is no probability"),
        ("case_id,a,b\nc1,-0.1,0.5\n", "'-0.1' is no probability"),
        ("case_id,a,b\nc1,NaN,0.5\n", "'NaN' is no probability"),
        ("case_id,a,b\nc1,,0.5\n", "'' is no probability"),
        ('case_id,a,b\nc1,"0,7",0.5\n', "'0,7' is no probability"),
        ("case_id,a,b\nc1,true,0.5\n", "'true' is no probability"),
        ("case_id,a,b\nc1,0.5,0.5\nC1 ,0.5,0.5\n", "line 3, case_id: stands already on line 2"),
        ("case_id,a,b\n,0.5,0.5\n", "an id is needed"),
        ("case_id,a\nc1,0.5\n", "a column for every class"),
        ("image,a,b\nc1,0.5,0.5\n", "case_id is needed"),
    ],
)
def test_bad_tables_are_refused_with_the_place(write, text, message):
    with pytest.raises(InputError, match=message):
        read_recorded(write(text))
    with pytest.raises(InputError):
        read_class_probabilities(write(TABLE), names={"x": "y"})


def test_readers_of_a_study(write):
    table = 'case_id,reader,text,arm,triage\nc1,dr-a,"Likely BCC, urgent.",,soon\nc1,dr-b,Nevus.,text_only,\n'
    first, second = read_recorded(write(table), arm="image_context")
    assert (first.system, first.arm, first.triage, first.text) == (
        "dr-a",
        "image_context",
        "soon",
        "Likely BCC, urgent.",
    )
    assert (second.system, second.arm, second.triage) == ("dr-b", "text_only", "")
    assert first.provenance == {"source": "reader"}
    with pytest.raises(InputError, match="line 3, case_id: stands already on line 2"):
        read_recorded(write("case_id,reader,text\nc1,x,a\nc1,X,b\n"))


def test_texts_of_one_pipeline(write):
    file = write('{"case_id": 7, "text": "A"}\n{"case_id": "8", "text": "", "sample": 1}\n', "pipe.jsonl")
    first, second = read_recorded(file)
    assert (first.case_id, first.system, first.text, second.sample) == ("7", "pipe", "A", 1)
    with pytest.raises(InputError, match="sample: a whole number"):
        read_recorded(write("case_id,text,sample\nc,t,-1\n"))
    with pytest.raises(InputError, match="unknown column 'txet'"):
        read_recorded(write("case_id,text,txet\nc,t,x\n"))


def test_narratives_of_this_package_come_back_whole(tmp_path):
    written = [Narrative("c", "s", "t {} \u202e", sample=2, differential=(Candidate("x", 0.1),), finish_reason="stop")]
    write_narratives(written, tmp_path / "n.jsonl")
    assert read_recorded(tmp_path / "n.jsonl") == written
