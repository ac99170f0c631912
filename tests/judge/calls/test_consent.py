from __future__ import annotations

import datetime
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pixels

from dermjudge.judge.calls import consent
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image, Narrative

DATA = "3f" * 32
GOOD = {
    "data": DATA,
    "hosts": ["api.example.org"],
    "provider": "Example Ltd, contract 7",
    "purpose": "comparison of judges",
    "region": "EU (Frankfurt)",
    "retention": "none",
    "legal_basis": "GDPR Art. 9(2)(j), vote 12/2026",
    "person": "A. Muster, head of dermatology",
    "date": datetime.date(2025, 1, 31),
}


@pytest.fixture
def write(tmp_path):
    def writer(name="consent.yaml", **changes):
        content = {key: value for key, value in (GOOD | changes).items() if value is not None}
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
        return path

    return writer


def test_a_whole_file_goes_into_the_manifest(write):
    record = consent.require(["api.example.org:443", "127.0.0.1:8000", "localhost"], write(), DATA)
    assert record["hosts"] == ["api.example.org"]
    (file,) = record["files"]
    assert file["name"] == "consent.yaml"
    assert len(file["sha256"]) == 64
    assert {key: file[key] for key in GOOD} == {**GOOD, "date": "2025-01-31"}
    json.dumps(record)


def test_loopback_needs_none():
    assert consent.require(["localhost", "127.0.0.1", "[::1]:8000", "127.3.2.1:1"], None, DATA) == {}
    assert consent.require([], None, DATA) == {}


@pytest.mark.parametrize("host", ["192.168.0.7", "gpu-box:8000", "10.0.0.1", "api.example.org", "[fd00::1]:80"])
def test_every_other_host_needs_one(host):
    with pytest.raises(InputError, match=rf"needs a consent file for data {DATA}.*--dry-run"):
        consent.require([host], None, DATA)


def test_other_data(write):
    other = "a0" * 32
    with pytest.raises(InputError, match=rf"names {DATA}.*would send {other}.*writes 'data: {other}'"):
        consent.require(["api.example.org"], write(), other)


def test_other_host(write):
    with pytest.raises(InputError, match=r"no consent file names evil\.example; .*named api\.example\.org"):
        consent.require(["api.example.org", "evil.example"], write(), DATA)
    with pytest.raises(InputError, match=r"no consent file names x\.api\.example\.org"):
        consent.require(["x.api.example.org"], write(), DATA)


def test_a_file_for_each_provider(write):
    one, two = write("one.yaml"), write("two.yaml", hosts=["other.example"], provider="Other SA")
    record = consent.require(["api.example.org", "other.example"], [one, two], DATA)
    assert [file["provider"] for file in record["files"]] == ["Example Ltd, contract 7", "Other SA"]
    assert len(consent.require(["other.example"], [one, two], DATA)["files"]) == 1


@pytest.mark.parametrize("field", GOOD)
def test_each_field_must_be_there(write, field):
    with pytest.raises(InputError, match=rf"{field}: is missing; {consent._FIELDS[field][:12]}"):
        consent.read_consent(write(**{field: None}))


@pytest.mark.parametrize("field", [name for name in GOOD if name not in ("data", "hosts", "date")])
@pytest.mark.parametrize("text", ["TODO", " todo: ", "TBD", "...", "xxx", "<name>", "?", "", "-", "n/a", "[fill in]"])
def test_placeholders(write, field, text):
    with pytest.raises(InputError, match=rf"{field}: "):
        consent.read_consent(write(**{field: text}))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("data", "3f", "pattern"),
        ("data", DATA.upper(), "pattern"),
        ("hosts", [], "at least 1"),
        ("hosts", ["*"], "no host"),
        ("hosts", ["https://api.example.org"], "no host"),
        ("hosts", [1], "list of hosts"),
        ("date", "soon", "isoformat"),
        ("date", 20260131, "2026-01-31"),
        ("date", datetime.datetime(2026, 1, 31, 10), "2026-01-31"),
        ("date", datetime.date.today() + datetime.timedelta(2), "after today"),
        ("person", ["A", "B"], "string"),
        ("signature", "x", "is no field of a consent file; there are data, hosts"),
    ],
)
def test_fields_with_what_they_cannot_hold(write, field, value, words):
    with pytest.raises(InputError, match=rf"{field}: .*{words}"):
        consent.read_consent(write(**{field: value}))


def test_all_complaints_at_once(write):
    with pytest.raises(InputError) as caught:
        consent.read_consent(write(person="TODO", date=None, colour="red"))
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == ["person", "date", "colour"]


@pytest.mark.parametrize("content", ["- a\n", "just a text\n", "a: [1\n", "!!python/object:os.system {}\n", "1\n"])
def test_what_is_no_consent_file(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(InputError):
        consent.read_consent(path)


def test_template_is_refused_until_filled_in(tmp_path):
    path = tmp_path / "c.yaml"
    text = consent.template(["api.example.org", "localhost:8000", "10.0.0.1:80"], "0" * 64)
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        consent.read_consent(path)
    assert str(caught.value).count("\n") == 7
    for field, value in GOOD.items():
        text = text.replace(f"{field}: TODO", f"{field}: {value}")
    path.write_text(text)
    assert consent.read_consent(path).hosts == ("10.0.0.1", "api.example.org")
    assert consent.require(["10.0.0.1"], path, "0" * 64)["hosts"] == ["10.0.0.1"]


def picture(root, name, colour=(200, 150, 120)):
    Pixels.new("RGB", (8, 8), colour).save(root / name)


def test_data_hash_is_of_what_is_sent(tmp_path):
    picture(tmp_path, "a.png")
    picture(tmp_path, "b.png", (0, 0, 0))
    cases = [Case("1", (Image("a.png"),), context="a papule"), Case("2", (Image("b.png"),), reference="BCC")]
    texts = [Narrative("1", "m", "melanoma"), Narrative("2", "m", "<think>hm</think>BCC")]
    whole = consent.data_hash(cases, texts, root=tmp_path)
    assert whole == consent.data_hash(cases[::-1], texts[::-1], root=tmp_path)
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    renamed = [cases[0], Case("seven", (Image("c.png"),), reference="BCC", tags={"age": 7}, split="test")]
    retold = [texts[0], Narrative("seven", "other", "BCC", arm="text_only")]
    assert whole == consent.data_hash(renamed, retold, root=tmp_path)
    changed = [
        consent.data_hash(cases[:1], texts, root=tmp_path),
        consent.data_hash(cases[:1], texts[:1], root=tmp_path),
        consent.data_hash([cases[0], Case("2", (Image("a.png"),), reference="BCC")], texts, root=tmp_path),
        consent.data_hash([cases[0], Case("2", (Image("c.png"),), context="BCC")], texts, root=tmp_path),
        consent.data_hash(renamed, [texts[0], Narrative("2", "m", "bcc")], root=tmp_path),
        consent.data_hash(cases, texts),
    ]
    assert len({whole, *changed}) == 7


def test_data_hash_from_known_digests():
    cases = [Case("1", (Image("x.jpg"),)), Case("2", (Image("y.jpg"),))]
    known = {"x.jpg": "a" * 64, "y.jpg": "b" * 64}
    assert consent.data_hash(cases, pictures=known) != consent.data_hash(cases, pictures={**known, "y.jpg": "c" * 64})
    with pytest.raises(InputError, match=r"y\.jpg"):
        consent.data_hash(cases, pictures={"x.jpg": "a" * 64})


@pytest.mark.parametrize("path", ["missing.png", "../a.png", "/etc/hostname", "https://h/a.png"])
def test_data_hash_reads_below_the_root_only(tmp_path, path):
    with pytest.raises(InputError, match="image"):
        consent.data_hash([Case("1", (Image(path),))], root=tmp_path)


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_contexts_are_not_run_together(one, two):
    same = set(one) == set(two)
    hashes = [consent.data_hash([Case(str(n), context=t) for n, t in enumerate(texts)]) for texts in (one, two)]
    assert (hashes[0] == hashes[1]) == same
