"""The journal's lines: what goes in comes out, any changed byte is seen, only a torn tail is dropped."""

from __future__ import annotations

import json
import os
import random
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dermjudge.judge.errors import BusyError, InputError
from dermjudge.judge.journal import Entry, decode, encode, open_journal, scan

ids = st.text(max_size=12)  # lone surrogates too
keys = ids | st.lists(ids | st.integers(-(2**60), 2**60), min_size=1, max_size=7).map(tuple)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ids,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ids, inner, max_size=3),
    max_leaves=8,
)


@given(keys, values)
def test_entry_survives_its_line(key, data):
    entry = Entry(3, 1, 2, "2026-01-31T12:00:00.000+00:00", "result", key, data)
    line = encode(entry)
    assert decode(line) == entry
    assert line.count(b"\n") == 1
    assert json.loads(line)["rec"]["data"] == data  # any JSON reader can read the journal


def test_every_changed_byte_of_a_line_is_seen():
    line = encode(Entry(12, 0, 1, "2026-01-31T12:00:00.000+00:00", "result", ("c", "s", 0), {"score": 4.5, "t": "ö"}))
    for place in range(len(line)):
        for value in set(range(256)) - {line[place]}:
            assert decode(line[:place] + bytes([value]) + line[place + 1 :]) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_nothing_is_written_for_what_is_no_number(tmp_path, bad):
    journal, _ = open_journal(tmp_path / "journal.jsonl")
    journal.append([("a", 1)])
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append([("b", 1), ("c", bad)])
    journal.append([("d", 1)])
    assert [e.key for e in journal.entries()] == ["a", "d"]


@pytest.mark.parametrize("key", [1, None, (), ("a", 1.0), ("a", True), ("a", None), ("a", ("b",)), b"a"])
def test_keys_that_would_change_in_json_are_refused(tmp_path, key):
    journal, _ = open_journal(tmp_path / "journal.jsonl")
    with pytest.raises(TypeError, match="a key is text or a tuple"):
        journal.append([(key, 1)])
    assert (tmp_path / "journal.jsonl").stat().st_size == 0


def test_last_entry_of_a_key_wins_and_keeps_its_place(tmp_path):
    journal, _ = open_journal(tmp_path / "journal.jsonl")
    journal.append([("a", 1), ("b", 1)])
    journal.append([("a", 2)], kind="note")
    reader = journal.entries()
    assert next(reader)[4:] == ("result", "a", 1)
    journal.append([("b", 2), ("b", 3)])  # not seen by the reader, which began before
    assert [e.data for e in reader] == [1]
    journal.close()
    again, _ = open_journal(tmp_path / "journal.jsonl")
    assert [(e.key, e.data) for e in again.entries()] == [("a", 1), ("b", 3)]
    assert [(e.key, e.data) for e in again.entries("note")] == [("a", 2)]
    assert again.keys() == {"a", "b"}
    assert (again.lines, again.results) == (5, 4)


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one: every result is synced, which takes long on a busy disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def written(path, sizes):
    """A journal of writes of these sizes; returns its bytes and the offset at which each write ends."""
    journal, _ = open_journal(path)
    ends, count = [], 0
    for size in sizes:
        journal.append([(f"k{count + i}", {"n": count + i, "text": "x" * 20}) for i in range(size)])
        count += size
        ends.append(path.stat().st_size)
    journal.close()
    return path.read_bytes(), ends


def test_cut_anywhere_only_whole_writes_stay_and_nothing_is_lost(tmp_path):
    path = tmp_path / "journal.jsonl"
    data, ends = written(path, [2, 1, 3])
    near = {end + i for end in (0, *ends) for i in (-2, -1, 0, 1)}
    for cut in sorted(near & set(range(len(data))) | set(range(0, len(data), 13))):
        folder = tmp_path / str(cut)
        folder.mkdir()
        path = folder / "journal.jsonl"
        path.write_bytes(data[:cut])
        kept = max([end for end in ends if end <= cut], default=0)
        journal, recovered = open_journal(path)
        assert path.read_bytes() == data[:kept]
        assert journal.lines == {0: 0, ends[0]: 2, ends[1]: 3}[kept]
        if kept == cut:
            assert recovered is None
        else:
            assert recovered.file.read_bytes() == data[kept:cut]
            assert recovered.bytes == cut - kept
        journal.append([("next", 0)])  # goes on where the whole writes end
        journal.close()
        found = scan(path)
        assert (found.damage, found.tail) == ([], 0)


def test_power_loss_that_leaves_holes_in_the_last_write_is_a_torn_tail(tmp_path):
    path = tmp_path / "journal.jsonl"
    data, ends = written(path, [2, 3])
    lines = data[ends[0] :].splitlines(keepends=True)
    for hole in range(3):
        torn = b"".join(b"\0" * len(line) if i == hole else line for i, line in enumerate(lines))
        path.write_bytes(data[: ends[0]] + torn)
        journal, recovered = open_journal(path)
        assert (journal.lines, recovered.bytes) == (2, len(torn))
        journal.close()


def test_damage_above_the_last_write_is_refused_and_nothing_is_touched(tmp_path):
    path = tmp_path / "journal.jsonl"
    data, ends = written(path, [2, 1, 3])
    rng = random.Random(0)
    for place in range(ends[1]):
        rotten = data[:place] + bytes([data[place] ^ rng.randrange(1, 256)]) + data[place + 1 :]
        path.write_bytes(rotten)
        # a lost line end joins two lines, a new one splits a line: the first line that is wrong is the same
        number = data[:place].count(b"\n") + 1
        offset = data.rfind(b"\n", 0, place) + 1
        with pytest.raises(InputError, match=rf"line {number} \(byte {offset}\)"):
            open_journal(path)
        assert path.read_bytes() == rotten
    assert [p.name for p in tmp_path.iterdir()] == ["journal.jsonl"]


def without(lines, i):
    return lines[:i] + lines[i + 1 :]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: without(x, 0), r"line 1 .*place 1 of its write"),
        (lambda x: without(x, 2), r"line 3 .*number 3 where 2 should stand"),
        (lambda x: [x[0], x[1], x[3], x[2], *x[4:]], r"line 3 .*number 3 where 2"),
        (lambda x: [*x[:3], x[2], *x[3:]], r"line 4 .*number 2 stands here a second time"),
        (lambda x: [*x, x[-1]], r"line 7 .*number 5 stands here a second time"),
        (lambda x: [*x[:2], b"{}\n", *x[2:]], r"line 3 .*not those written"),
    ],
    ids=["first lost", "middle lost", "swapped", "doubled", "last doubled", "foreign line"],
)
def test_lost_swapped_doubled_and_foreign_lines_are_found(tmp_path, change, told):
    path = tmp_path / "journal.jsonl"
    data, _ = written(path, [2, 1, 1, 1, 1])
    path.write_bytes(b"".join(change(data.splitlines(keepends=True))))
    with pytest.raises(InputError, match=told):
        open_journal(path)


def test_after_a_close_nothing_counts_as_torn(tmp_path):
    path = tmp_path / "journal.jsonl"
    data, ends = written(path, [2, 1])
    path.write_bytes(data[: ends[0]])
    with pytest.raises(InputError, match=r"ends at byte .* lines are lost"):
        open_journal(path, closed_at=len(data))
    path.write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"line 3 .*cut short"):
        open_journal(path, closed_at=len(data))
    assert path.read_bytes() == data[:-1]


def test_scan_lists_all_damage_and_reads_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    data, _ = written(path, [1] * 20)
    lines = data.splitlines(keepends=True)
    for i in (3, 4, 11):
        lines[i] = lines[i].replace(b"xxx", b"xyx", 1)
    path.write_bytes(b"".join(lines) + b"half a li")
    found = scan(path)
    assert [d.line for d in found.damage] == [4, 5, 12]
    assert [d.line for d in found.tail_damage] == [21]
    assert found.results == 17
    assert found.tail == 9


def test_a_second_writer_is_noticed(tmp_path):
    path = tmp_path / "journal.jsonl"
    one, _ = open_journal(path)
    one.append([("a", 1)])
    two, _ = open_journal(path)
    two.append([("b", 1)])
    with pytest.raises(BusyError, match="another process writes to it"):
        one.append([("c", 1)])
    assert scan(path).keys == {"result": {"a", "b"}}


def test_rot_while_reading_is_not_passed_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    data, ends = written(path, [1, 1])
    journal, _ = open_journal(path)
    path.write_bytes(data.replace(b'"n":1', b'"n":9'))
    reader = journal.entries()
    assert next(reader).data["n"] == 0
    with pytest.raises(InputError, match=rf"line 2 \(byte {ends[0]}\)"):
        next(reader)


def test_reading_streams(tmp_path):
    journal, _ = open_journal(tmp_path / "journal.jsonl")
    for start in range(0, 20_000, 1000):
        journal.append([(f"case-{start + i}", {"critique": "y" * 500}) for i in range(1000)])
    tracemalloc.start()
    try:
        count = sum(1 for _ in journal.entries())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 200_000  # the file has 12 MB


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.integers(0, 400)), max_size=12), st.randoms())
def test_any_history_of_writes_and_crashes_keeps_all_whole_writes(tmp_path, history, rng):
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "journal.jsonl"
    truth: dict[str, int] = {}
    journal, _ = open_journal(path)
    for step, (size, crash, lost) in enumerate(history):
        batch = [(f"k{rng.randrange(10)}", step * 10 + i) for i in range(size)]
        before = path.stat().st_size
        journal.append(batch)
        if crash:  # the process dies in the midst of this write
            journal.close()
            length = path.stat().st_size
            cut = max(before, length - lost)
            with path.open("r+b") as file:
                file.truncate(cut)
            journal, recovered = open_journal(path)
            assert (recovered is not None) == (before < cut < length)
            if cut < length:
                continue
        truth.update(batch)
    assert {e.key: e.data for e in journal.entries()} == truth
    assert journal.keys() == truth.keys()
    journal.close()
