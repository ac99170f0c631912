"""Cases and narratives on disk; what a file can be wrong about."""

from __future__ import annotations

import csv
import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Case, Image, Narrative, identity
from dermjudge.judge.tablefile import read_table, write_frame
from dermjudge.judge.tables import read_cases, read_narratives, write_cases, write_narratives

ENDINGS = ("jsonl", "csv", "parquet")
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Letters that break tables: quotes, separators, line ends, formula signs, NUL, accents in two parts, an emoji.
nasty = st.text(st.sampled_from("a1=+-@'\"\t\r\n\x00,;＝＋－＠ e\u0301é\u2028\ufeff😀{[<"), max_size=8)
text = st.one_of(nasty, st.text(st.characters(codec="utf-8"), max_size=8))
name = st.text(st.sampled_from("abc07=+-'\"é,;"), min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
candidates = st.lists(st.builds(Candidate, name, st.none() | numbers), max_size=3).map(tuple)
values = st.one_of(text, numbers, st.integers(), st.booleans(), st.none(), st.lists(text, max_size=2))
tags = st.dictionaries(text, values, max_size=3)

cases = st.builds(
    Case,
    id=name,
    images=st.lists(st.builds(Image, name, text, text, text), max_size=2).map(tuple),
    patient_id=name | st.just(""), context=text, reference=text, split=name | st.just(""),
    diagnosis=st.lists(name, max_size=2).map(tuple),
    differential=candidates,
    urgency=st.sampled_from(["", "routine", "emergent"]),
    urgency_derived=st.booleans(),
    tags=tags, source=text, licence=text,
)  # fmt: skip
narratives = st.builds(
    Narrative, case_id=name, system=name, text=text, arm=name, sample=st.integers(0, 99), differential=candidates,
    triage=text, language=text, finish_reason=text, provenance=tags,
)  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@QUICK
@given(made=st.lists(cases, max_size=12, unique_by=lambda case: identity(case.id)))
def test_cases_come_back_as_they_were(tmp_path, ending, made):
    path = tmp_path / f"cases.{ending}"
    write_cases([*made, Case("another")], path)
    assert read_cases(path) == [*made, Case("another")]


@pytest.mark.parametrize("ending", ENDINGS)
@QUICK
@given(made=st.lists(narratives, min_size=1, max_size=12, unique_by=lambda n: identity(n.case_id)))
def test_narratives_come_back_as_they_were(tmp_path, ending, made):
    path = tmp_path / f"narratives.{ending}"
    write_narratives(made, path)
    assert read_narratives(path) == made


@QUICK
@given(values=st.lists(text, min_size=1, max_size=5))
def test_csv_agrees_with_the_standard_reader_and_holds_no_formula(tmp_path, values):
    path = tmp_path / "t.csv"
    write_frame(pl.DataFrame({"n": range(len(values)), "text": values}), path)
    cells = [row["text"] for row in csv.DictReader(path.open(newline="", encoding="utf-8"))]
    assert not any(cell[:1] in set("=+-@\t\r\n\x00＝＋－＠") - {""} for cell in cells if cell)
    assert [cell[1:] if cell != value else cell for cell, value in zip(cells, values, strict=True)] == values
    assert read_table(path).frame["text"].to_list() == values


def test_a_lone_surrogate_survives_jsonl_and_is_refused_elsewhere(tmp_path):
    narrative = Narrative("c", "s", "half \ud800 and é")
    write_narratives([narrative], tmp_path / "n.jsonl")
    assert read_narratives(tmp_path / "n.jsonl") == [narrative]
    with pytest.raises(InputError, match="surrogate"):
        write_narratives([narrative], tmp_path / "n.csv")
    assert not (tmp_path / "n.csv").exists()


def test_ids_stay_text(tmp_path):
    (tmp_path / "c.csv").write_text("id,patient_id\n007,01\n1e5,\n")
    assert [(case.id, case.patient_id) for case in read_cases(tmp_path / "c.csv")] == [("007", "01"), ("1e5", "")]
    (tmp_path / "c.jsonl").write_text('{"id": 7}\n{"id": "007"}\n')
    assert [case.id for case in read_cases(tmp_path / "c.jsonl")] == ["7", "007"]
    pl.DataFrame({"id": [7, 8]}).write_parquet(tmp_path / "c.parquet")
    assert [case.id for case in read_cases(tmp_path / "c.parquet")] == ["7", "8"]


def test_plain_cells_are_read_as_one_name_or_one_image(tmp_path):
    (tmp_path / "c.csv").write_text("id,images,diagnosis,differential\na,images/1.png,melanoma,nevus\n")
    (case,) = read_cases(tmp_path / "c.csv")
    assert case == Case("a", (Image("images/1.png"),), diagnosis=("melanoma",), differential=(Candidate("nevus"),))


def test_parquet_with_native_lists_is_read(tmp_path):
    pl.DataFrame({"id": ["a"], "diagnosis": [["melanoma", "nevus"]]}).write_parquet(tmp_path / "c.parquet")
    assert read_cases(tmp_path / "c.parquet")[0].diagnosis == ("melanoma", "nevus")


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_separators_and_a_byte_order_mark(tmp_path, separator):
    rows = [["id", "context"], ["a", 'x, "y"; z\tw']]
    with (tmp_path / "c.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    assert read_cases(tmp_path / "c.csv") == [Case("a", context='x, "y"; z\tw')]


def test_columns_can_be_mapped(tmp_path):
    (tmp_path / "c.csv").write_text("item,label\na,melanoma\n")
    (case,) = read_cases(tmp_path / "c.csv", {"item": "id", "label": "diagnosis"})
    assert case == Case("a", diagnosis=("melanoma",))
    with pytest.raises(InputError, match="no column 'itm' to map; it has item, label"):
        read_cases(tmp_path / "c.csv", {"itm": "id"})
    with pytest.raises(InputError, match="after mapping, the column 'label' stands twice"):
        read_cases(tmp_path / "c.csv", {"item": "label"})


BAD = {
    "empty": (b"", "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf\n", "is empty"),
    "no rows": (b"id,split\n", "has no rows"),
    "UTF-16 with mark": ("id,split\na,b\n".encode("utf-16"), "UTF-16.*byte 0.*UTF-8"),
    "UTF-16 without mark": ("id,split\na,b\n".encode("utf-16-le"), "UTF-16.*byte 1"),
    "UTF-32": ("id,split\n".encode("utf-32"), "UTF-32"),
    "Latin-1": ("id,context\na,na\xefve\n".encode("latin-1"), r"byte 15 \(line 2\) is 0xef; probably Latin-1"),
    "Excel": (b"PK\x03\x04rest", "Excel"),
    "doubled column": (b"id,id\na,b\n", "line 1: the column id stands twice"),
    "unnamed column": (b",id\n0,a\n", "column 1 has no name"),
    "short line": (b"id,split\na,b\nc\n", "line 3: 1 fields where the header has 2"),
    "long line": (b'id,split\na,"b\nb"\nc,d,e\n', "line 4: 3 fields where the header has 2"),
    "blank line": (b"id,split\n\na,b\n", "line 2"),
    "stray quote": (b'id,split\na,5" b\n', 'line 2: a " inside a field'),
    "text after a quoted field": (b'id,split\na,"b" c\n', 'line 2: a " inside a field'),
    "open quote": (b'id,split\na,"b\n', "line 2: a quoted field is not closed"),
    "old line ends": (b"id,split\ra,b\r", "line 1: a line ends in CR alone"),
    "unknown column": (b"id,patient\na,b\n", r"unknown column 'patient' \(closest: patient_id\).*--map patient="),
    "missing column": (b"ident,split\na,b\n", "missing column id.*unknown column 'ident'.*--map ident=id"),
    "blank id": (b"id,split\n ,b\n", "line 2, id: .*blank"),
    "doubled id": ("id,split\nÉ1,b\nx,\ne\u03011 ,b\n".encode(), "line 4, id: .*stands already on line 2"),
    "urgency": (b"id,urgency\na,quick\n", "line 2, urgency: 'quick': .*routine, soon, urgent, emergent"),
    "tags": (b"id,tags\na,{broken\n", "line 2, tags"),
    "flag": (b"id,urgency_derived\na,maybe\n", "urgency_derived: 'maybe': true or false"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_csv_gets_a_clear_error(tmp_path, kind):
    content, message = BAD[kind]
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_cases(tmp_path / "c.csv")


BAD_JSON = {
    "not JSON": ('{"id": "a"}\n{"id": \n', "line 2: not a JSON object"),
    "not an object": ("[1]\n", "line 1: a JSON object"),
    "doubled key": ('{"id": "a", "id": "b"}\n', "line 1.*'id' stands twice"),
    "NaN": ('{"id": "a", "tags": {"x": NaN}}\n', "line 1.*NaN is not a number"),
    "number as text": ('{"id": "a", "context": 3}\n', "line 1, context: '3': text is needed"),
    "fraction as id": ('{"id": 7.0}\n', "line 1, id: '7.0': an id must be text"),
    "bottomless": ('{"id": ' + "[" * 100_000 + "\n", "line 1"),
    "image field": ('{"id": "a", "images": [{"path": "x", "site": "y"}]}\n', "unknown image field 'site'; known: path"),
    "image without path": ('{"id": "a", "images": [{}]}\n', "line 1, images"),
    "weight": ('{"id": "a", "differential": [{"name": "x", "weight": "much"}]}\n', "weight 'much' is not"),
    "candidate": ('{"id": "a", "differential": [3]}\n', "line 1, differential"),
    "diagnosis": ('{"id": "a", "diagnosis": [""]}\n', "line 1, diagnosis"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_JSON)
def test_a_bad_jsonl_gets_a_clear_error(tmp_path, kind):
    content, message = BAD_JSON[kind]
    (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        read_cases(tmp_path / "c.jsonl")


def test_all_problems_are_listed_up_to_twenty(tmp_path):
    (tmp_path / "c.csv").write_text("id,urgency\n" + "".join(f"{i},x\n" for i in range(25)))
    with pytest.raises(InputError) as caught:
        read_cases(tmp_path / "c.csv")
    assert len(str(caught.value).splitlines()) == 21
    assert "and 5 more" in str(caught.value)


def test_narratives_need_their_key_once(tmp_path):
    row = {"case_id": "a", "system": "s", "text": "x"}
    path = tmp_path / "n.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"system": "S "}) + "\n")
    with pytest.raises(InputError, match="line 2, case_id: 'a / S / image_only / 0' stands already on line 1"):
        read_narratives(path)
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"sample": 1, "text": ""}) + "\n")
    assert [n.key[3] for n in read_narratives(path)] == [0, 1]
    path.write_text(json.dumps(row | {"sample": -1}))
    with pytest.raises(InputError, match="sample: '-1': a whole number from 0"):
        read_narratives(path)


def test_files_that_cannot_be_read(tmp_path):
    for path, message in {
        "https://example.org/cases.csv": "no URLs",
        tmp_path: "is a folder",
        tmp_path / "none.csv": "no such file",
        tmp_path / "cases.xlsx": "the ending must be one of .jsonl, .csv, .parquet",
        tmp_path / "rotten.parquet": "not a readable parquet file",
    }.items():
        for made in ("cases.xlsx", "rotten.parquet"):
            (tmp_path / made).write_bytes(b"PAR1 nothing")
        with pytest.raises(InputError, match=message):
            read_cases(path)


def test_writing_keeps_the_old_file_when_a_record_cannot_be_written(tmp_path):
    path = tmp_path / "c.jsonl"
    write_cases([Case("old")], path)
    for bad in (float("nan"), object()):
        with pytest.raises(InputError, match="Case new: tags"):
            write_cases([Case("fine"), Case("new", tags={"x": bad})], path)
    assert read_cases(path) == [Case("old")]
    assert [file.name for file in tmp_path.iterdir()] == ["c.jsonl"]
    with pytest.raises(InputError, match="the ending must be one of"):
        write_cases([], tmp_path / "c.txt")
