"""Ids, literals, tables with a nameless column, JSON lists, labels: what importers share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.benchmarks.reading import (
    Labels,
    Tree,
    literal,
    plain_text,
    read_csv_with_index,
    read_json_list,
    single_type,
    strict_majority,
    whole_id,
)
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case

from .test_importers import picture


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_id_comes_back_digit_by_digit_and_as_a_float_never(number):
    assert whole_id(f" {number} ", "id") == str(number)
    with pytest.raises(ValueError, match="was read as a number and has lost digits"):
        whole_id(repr(float(number)), "id")


@pytest.mark.parametrize("text", ["ISIC_0001", "000001", "1e", "a.0", "12-3"])
def test_ids_that_only_look_odd_stay(text):
    assert whole_id(text, "id") == text


@given(st.dictionaries(st.text(max_size=8), st.floats(0, 1), max_size=4))
def test_a_dictionary_that_python_wrote_comes_back(value):
    assert literal(repr(value), "x", dict) == value


@pytest.mark.parametrize("text", ["[" * 5000, "{'a': }", "__import__('os')", "{'a': open('x')}", "Eczema"])
def test_what_is_no_literal_is_refused_and_never_run(text):
    with pytest.raises(ValueError, match="is no dict in Python's notation"):
        literal(text, "x", dict)


@pytest.mark.parametrize("band", ["12", "I-II", "3-4", "56.0"])
def test_a_band_is_no_type(band):
    with pytest.raises(ValueError, match="is a band; types 1 to 6 are needed"):
        single_type(band, "skin")


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_first_column_without_a_name_is_a_row_number(tmp_path, separator):
    path = tmp_path / "t.csv"
    rows = [["", "id", "note"], ["0", "a", '"two\nlines"'], ["1", "007", "x"]]
    path.write_text("\ufeff" + "\r\n".join(map(separator.join, rows)) + "\r\n\r\n", "utf-8", newline="")
    table = read_csv_with_index(path)
    assert table.columns == ("row", "id", "note")
    assert list(table.dicts()) == [(2, {"row": "0", "id": "a", "note": "two\nlines"}),
                                   (4, {"row": "1", "id": "007", "note": "x"})]  # fmt: skip


def test_a_table_with_an_index_that_is_ragged_or_doubly_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",a,b\n0,1,2\n1,2\n")
    with pytest.raises(InputError, match=r"t.csv line 3: 2 fields where the header has 3"):
        read_csv_with_index(path)
    for header in (",a,a", ",a,"):
        path.write_text(f"{header}\n0,1,2\n")
        with pytest.raises(InputError, match="needs a name of its own"):
            read_csv_with_index(path)


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_lines_of_a_json_list(tmp_path, indent):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"id": "a", "t": 'say "id" twice'}, {"id": "b"}], indent=indent))
    lines = path.read_text().splitlines()
    assert [(row["id"], f'"id": "{row["id"]}"' in lines[line - 1]) for line, row in read_json_list(path, "id")] == [
        ("a", True), ("b", True)]  # fmt: skip


def test_objects_without_the_key_are_counted_instead(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[\n{"id": 1},\n{}\n]')
    assert [line for line, _ in read_json_list(path, "id")] == [1, 2]


def test_labels():
    labels = Labels(load_terms())
    assert labels.needed("malignant melanoma") == ("melanoma",)
    assert labels.needed("no definitive diagnosis") == ()  # a row of the list that names no condition
    assert labels.split(["BCC", "quux", "", "basal cell carcinoma"]) == (("basal cell carcinoma",), ["quux"])
    made = [(k, Case(str(k), tags={"unmapped_labels": [f"quux {k % 25}"]})) for k in range(30)]
    notes = labels.notes(made, "t.csv")
    assert len(notes) == 21
    assert notes[0].startswith("t.csv line 0: 'quux 0' is not in the term list")
    assert notes[0].endswith("no gold from it (2 cases).")
    assert notes[-1] == "5 more labels are not in the term list."


@given(st.lists(st.sampled_from(["", "1", "2", "3"]), max_size=5))
def test_a_majority_is_more_than_half_of_those_who_speak(values):
    found = strict_majority(values)
    counts = {value: values.count(value) for value in "123"}
    assert [value for value in "123" if counts[value] > sum(counts.values()) / 2] == ([found] if found else [])


def test_a_text_loses_its_tags_only():
    assert plain_text("\ufeff<THINK>a</think> b <b>".encode(), "x") == "a b <b>"


def test_a_picture_is_found_by_path(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        Tree(tmp_path / "none")
    picture(tmp_path / "a" / "1.jpg")
    picture(tmp_path / "zip" / "zip" / "2.png")
    tree = Tree(tmp_path)
    assert (tree.find("./a/1.jpg"), tree.find("zip/2.png"), tree.find("1.jpg")) == (
        "a/1.jpg",
        "zip/zip/2.png",
        "a/1.jpg",
    )
    for path in ("b/1.jpg", "/etc/passwd", "a/../a/1.jpg", ""):
        with pytest.raises(ValueError, match=r"no image b/1.jpg|is empty or leaves"):
            tree.find(path)
