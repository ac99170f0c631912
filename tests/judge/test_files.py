"""Atomic writing: the old file or the new one, never half, also on a full disk."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest

from dermjudge.judge.files import atomic, remove_leftovers, sha256_file, write_atomic


def test_write_returns_the_hash_of_what_is_on_the_disk(tmp_path):
    path = tmp_path / "table.csv"
    assert write_atomic(path, "a,b\nä,ß\n") == hashlib.sha256("a,b\nä,ß\n".encode()).hexdigest() == sha256_file(path)
    assert path.read_bytes() == "a,b\nä,ß\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_failing_writer_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "report.md"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError), atomic(path) as temporary:
        temporary.write_text("half of the n" * 10_000 + "\ud800", "utf-8")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def test_temporary_file_lies_in_the_same_folder_and_keeps_the_ending(tmp_path):
    with atomic(tmp_path / "ratings.parquet") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".parquet"
        assert not (tmp_path / "ratings.parquet").exists()


def test_private_files_are_for_the_owner_only_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_atomic(tmp_path / "private", "x", private=True)
        write_atomic(tmp_path / "shared", "x")
        with atomic(tmp_path / "replaced", private=True) as temporary:  # a writer that renames a file of its own
            temporary.unlink()
            temporary.write_text("x")
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == {"private": 0o600, "replaced": 0o600, "shared": 0o666}


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write .*nowhere/x"):
        write_atomic(tmp_path / "nowhere" / "x", "x")


def test_leftovers_of_killed_writers_go_and_nothing_else(tmp_path):
    write_atomic(tmp_path / "kept", "x")
    (tmp_path / ".part-0a0a0a0a.kept").write_text("half")
    (tmp_path / ".hidden").write_text("mine")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "kept"]
