"""The run folder: resume, refusal, one writer, kills, full disks, and a verify that catches every changed byte."""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from dermjudge.judge.errors import BusyError, InputError
from dermjudge.judge.manifest import read_manifest, write_manifest
from dermjudge.judge.run import Run, sigterm_interrupts
from dermjudge.judge.verify import verify_run

CONFIG = {
    "judge": "replay:answers.jsonl",
    "rubric": {"id": "derm6@1", "hash": "0123456789abcdef"},
    "batch": 8,
    "temperature": 0.0,
    "critique": False,
    "probes": ["swap", "blank"],
    "adapter": None,
    "extra": {},
}
KEYS = [(f"case-{i}", "system-a", "image_only", 0) for i in range(6)]


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one: every result is synced, which takes long on a busy disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def finished(folder, keys=KEYS):
    with Run.open(folder, CONFIG, keys, seed=1) as run:
        run.append_many([(key, {"score": i, "state": "scored"}) for i, key in enumerate(keys[:4])])
        for key in keys[4:]:
            run.append(key, {"score": None, "state": "refused"})
        run.export("ratings.csv", "case_id,score\n" + "".join(f"{e.key[0]},{e.data['score']}\n" for e in run.results()))
        run.export("report.md", b"# Report\n")
        run.close(summary={"states": {"scored": 4, "refused": 2}})
    return folder


def test_a_run_is_recorded_whole(tmp_path):
    folder = finished(tmp_path / "deep" / "run")
    manifest = read_manifest(folder / "manifest.json")
    assert manifest["status"] == "complete"
    assert manifest["asked"]["config"] == CONFIG
    assert (manifest["asked"]["planned"], manifest["asked"]["seed"]) == (6, 1)
    assert manifest["results"] == {"planned": 6, "done": 6, "lines": 6}
    assert manifest["summary"]["states"] == {"scored": 4, "refused": 2}
    assert set(manifest["exports"]) == {"ratings.csv", "report.md"}
    assert manifest["sessions"][0]["software"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert manifest["sessions"][0]["software"]["numpy"]
    report = verify_run(folder)
    assert (report.ok, report.status, report.planned, report.done, report.lines) == (True, "complete", 6, 6, 6)
    assert report.notes == ()


def test_a_run_folder_is_for_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        folder = finished(tmp_path / "run")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}


def test_resume_goes_on_where_it_stopped(tmp_path):
    folder = tmp_path / "run"
    with Run.open(folder, CONFIG, KEYS, info={"host": "a"}) as run:
        run.append_many([(key, 1) for key in KEYS[:4]])
    assert run.manifest["status"] == "incomplete"
    with Run.open(folder, dict(reversed(CONFIG.items())), KEYS[::-1], info={"host": "b"}) as run:
        assert run.done == set(KEYS[:4])
        assert run.recovered is None
        run.append(KEYS[0], 2)  # asked again
        run.append_many([(key, 1) for key in KEYS[4:]])
        assert {e.key: e.data for e in run.results()} == {key: 2 if key == KEYS[0] else 1 for key in KEYS}
    assert run.manifest["status"] == "complete"
    assert [s["info"]["host"] for s in run.manifest["sessions"]] == ["a", "b"]
    assert verify_run(folder).ok


def test_looking_at_a_complete_run_changes_no_byte(tmp_path):
    folder = finished(tmp_path / "run")
    before = (folder / "manifest.json").read_bytes()
    with Run.open(folder, CONFIG, KEYS, seed=1) as run:
        assert len(list(run.results())) == 6
    assert (folder / "manifest.json").read_bytes() == before


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    return [path]


@pytest.mark.parametrize("path", leaves(CONFIG), ids=".".join)
@pytest.mark.parametrize("how", ["changed", "dropped", "type"])
def test_a_changed_config_is_refused_and_the_field_named(tmp_path, path, how):
    folder = finished(tmp_path / "run")
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "lock"}
    config = copy.deepcopy(CONFIG)
    *parents, last = path
    place = config
    for name in parents:
        place = place[name]
    old = place[last]
    if how == "dropped":
        del place[last]
    else:  # 0.0 -> False and 8 -> 8.0 are equal in Python and must be seen all the same
        place[last] = {"changed": "other", "type": {8: 8.0, 0.0: 0}.get(old, [old]) if not isinstance(old, list | dict)
                       else str(old)}[how]  # fmt: skip
    with pytest.raises(InputError) as caught:
        Run.open(folder, config, KEYS, seed=1)
    lines = str(caught.value).splitlines()
    new = "(absent)" if how == "dropped" else json.dumps(place[last], separators=(",", ":"))
    assert lines[1:] == [f"  {'.'.join(path)}: was {json.dumps(old, separators=(',', ':'))}, now {new}"]
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "lock"} == before


@pytest.mark.parametrize(
    ("planned", "seed", "named"),
    [(KEYS, 2, "seed: was 1, now 2"), (KEYS[:5], 1, "planned: was 6, now 5"), (6, 1, "planned_keys: was "),
     ([*KEYS[:5], "other"], 1, "planned_keys: was ")],
)  # fmt: skip
def test_another_plan_or_seed_is_refused(tmp_path, planned, seed, named):
    folder = finished(tmp_path / "run")
    with pytest.raises(InputError, match=named):
        Run.open(folder, CONFIG, planned, seed=seed)


def test_another_minor_version_is_refused(tmp_path):
    folder = finished(tmp_path / "run")
    manifest = read_manifest(folder / "manifest.json")
    manifest["asked"]["version"] = "0.0"
    write_manifest(folder / "manifest.json", manifest)
    with pytest.raises(InputError, match=r'version: was "0\.0", now '):
        Run.open(folder, CONFIG, KEYS, seed=1)


def test_bad_input_is_told_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match="config field 'path' cannot be recorded"):
        Run.open(tmp_path / "run", {"path": Path("x")}, 1)
    with pytest.raises(InputError, match="config field 'rate' cannot be recorded"):
        Run.open(tmp_path / "run", {"rate": float("nan")}, 1)
    with pytest.raises(InputError, match="'a' is planned twice"):
        Run.open(tmp_path / "run", {}, ["a", "b", "a"])
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        Run.open(tmp_path / "file", {}, 1)
    with pytest.raises(InputError, match=r"holds file: it is no run folder"):
        Run.open(tmp_path, {}, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "lock"]


def test_status_says_how_the_block_was_left(tmp_path):
    with pytest.raises(KeyboardInterrupt), Run.open(tmp_path / "a", {}, 2) as run:
        raise KeyboardInterrupt
    assert run.manifest["status"] == "interrupted"
    with pytest.raises(ZeroDivisionError), Run.open(tmp_path / "b", {}, 2) as run:
        raise ZeroDivisionError("Mrs Example, born 1950")
    assert run.manifest["status"] == "incomplete"
    assert run.manifest["sessions"][0]["stopped_by"] == "ZeroDivisionError"
    assert "Example" not in (tmp_path / "b" / "manifest.json").read_text()
    with Run.open(tmp_path / "c", {}, 2) as run:
        run.append("a", 1)
        with pytest.raises(ValueError, match="1 of 2 planned results"):
            run.close("complete")
        run.close("interrupted")
        run.close("complete")  # the second close does nothing
        with pytest.raises(ValueError, match="is closed"):
            run.append("b", 1)
    assert read_manifest(tmp_path / "c" / "manifest.json")["status"] == "interrupted"


def test_results_for_other_keys_than_planned_are_not_complete(tmp_path):
    with Run.open(tmp_path / "run", {}, ["a", "b"]) as run:
        run.append_many([("a", 1), ("c", 1)])
    assert run.manifest["status"] == "incomplete"


def test_only_kind_result_counts(tmp_path):
    with Run.open(tmp_path / "run", {}, ["a"]) as run:
        run.append("a", {"why": "timeout"}, kind="call")
        assert run.done == set()
        assert [e.data for e in run.results("call")] == [{"why": "timeout"}]
    assert run.manifest["status"] == "incomplete"


def test_exports_are_whole_or_as_before(tmp_path):
    folder = finished(tmp_path / "run")
    with Run.open(folder, CONFIG, KEYS, seed=1) as run:

        def fail(path):
            path.write_text("half")
            raise RuntimeError("writer failed")

        with pytest.raises(RuntimeError):
            run.export("report.md", fail)
        for name in (
            "manifest.json",
            "journal.jsonl",
            "lock",
            "../x",
            "a/b",
            ".hidden",
            "",
            "/etc/x",
            "journal.torn-1",
        ):
            with pytest.raises(ValueError, match="cannot be the name of an export"):
                run.export(name, "x")
    assert (folder / "report.md").read_text() == "# Report\n"
    assert verify_run(folder).ok
    assert not list(folder.glob(".part-*"))


def test_a_new_export_without_its_new_hash_does_not_look_like_rot(tmp_path, monkeypatch):
    folder = finished(tmp_path / "run")
    run = Run.open(folder, CONFIG, KEYS, seed=1)
    run.export("report.md", "# New\n")
    shutil.copytree(folder, tmp_path / "killed")  # what a kill before the close would leave
    report = verify_run(tmp_path / "killed")
    assert (report.problems, report.notes) == ((), ("report.md is not in the manifest",))

    def interrupted(folder):
        if (folder / "ratings.csv").read_text() == "new":  # the new file has just taken its place
            raise KeyboardInterrupt

    monkeypatch.setattr("dermjudge.judge.files.sync_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.export("ratings.csv", "new")
    monkeypatch.undo()
    run.close()
    report = verify_run(folder)
    assert (report.problems, report.notes) == ((), ("ratings.csv is not in the manifest",))
    assert (folder / "ratings.csv").read_text() == "new"


def test_an_export_older_than_the_journal_is_told(tmp_path):
    folder = finished(tmp_path / "run")
    with Run.open(folder, CONFIG, KEYS, seed=1) as run:
        run.append(KEYS[0], {"score": 9})
        run.export("report.md", "# New\n")
    assert verify_run(folder).problems == ("ratings.csv was made from 6 results, the journal now holds 7",)


def test_verify_lists_everything_at_once_and_changes_nothing(tmp_path):
    folder = finished(tmp_path / "run")
    (folder / "report.md").unlink()
    (folder / "ratings.csv").write_text("forged")
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"scored", b"scared")
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    (folder / "mine.txt").write_text("x")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    report = verify_run(folder)
    text = "\n".join(report.problems)
    assert len(report.problems) == 6
    for told in ("journal.jsonl: line 2 ", "line 6 ", "not those of the last close", "report.md cannot be read",
                 "ratings.csv: its bytes", "1 results, but 6 were planned"):  # fmt: skip
        assert told in text
    assert report.notes == ("mine.txt is not in the manifest",)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


def test_verify_without_a_run(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        verify_run(tmp_path / "nowhere")
    report = verify_run(tmp_path)
    assert report.problems == (
        f"{tmp_path / 'manifest.json'} is missing",
        "journal.jsonl cannot be read: No such file or directory",
    )
    assert (report.ok, report.status, report.planned) == (False, None, None)


def test_tampering_with_a_right_crc_is_caught_by_the_hash_of_the_close(tmp_path):
    folder = finished(tmp_path / "run")
    other = finished(tmp_path / "other")  # the same but for the times: every line of it is valid
    time.sleep(0.002)
    shutil.copy(other / "journal.jsonl", folder / "journal.jsonl")
    assert any("not those of the last close" in p for p in verify_run(folder).problems)


@pytest.mark.parametrize("lines", [5, 3, 0])
def test_a_truncated_journal_is_caught(tmp_path, lines):
    folder = finished(tmp_path / "run")
    journal = folder / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    assert not verify_run(folder).ok
    with pytest.raises(InputError, match=r"lines are lost|only 3 of the 4 lines"):
        Run.open(folder, CONFIG, KEYS, seed=1)
    journal.unlink()
    assert any("cannot be read" in p for p in verify_run(folder).problems)
    with pytest.raises(InputError, match="lines are lost"):
        Run.open(folder, CONFIG, KEYS, seed=1)


def test_every_flipped_byte_is_caught_and_never_taken_up(tmp_path):
    folder = finished(tmp_path / "run")
    truth = {key: {"score": i, "state": "scored"} if i < 4 else {"score": None, "state": "refused"}
             for i, key in enumerate(KEYS)}  # fmt: skip
    rng = random.Random(7)
    names = ["journal.jsonl"] * 150 + ["manifest.json"] * 75 + ["ratings.csv"] * 50 + ["report.md"] * 25
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        report = verify_run(folder)
        assert not report.ok, (name, place)
        assert any(name in problem for problem in report.problems)
        if name in ("journal.jsonl", "manifest.json"):
            with pytest.raises(InputError, match=name):
                Run.open(folder, CONFIG, KEYS, seed=1)
        path.write_bytes(whole)
    assert verify_run(folder).ok
    with Run.open(folder, CONFIG, KEYS, seed=1) as run:
        assert {e.key: e.data for e in run.results()} == truth


def test_a_killed_start_can_be_taken_up(tmp_path):
    finished(tmp_path / "run")
    for names in (["lock"], ["lock", ".part-0a0a0a0a.manifest.json"], ["lock", "manifest.json"]):
        folder = tmp_path / f"started-{len(names)}-{names[-1]}"
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"")
        if "manifest.json" in names:
            manifest = read_manifest(tmp_path / "run" / "manifest.json")
            for name in ("journal", "results", "closed"):
                del manifest[name]
            write_manifest(folder / "manifest.json", manifest | {"status": "running", "exports": {}, "sessions": []})
        finished(folder)
        assert verify_run(folder).ok
        assert verify_run(folder).notes == ()


# Other processes. The child knows no torch and no clock: what it "computes" follows from the key alone.

CHILD = """
import csv, hashlib, os, random, signal, sys, time
from dermjudge.judge.run import Run, sigterm_interrupts

folder, count, pause, last_step = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
steps = 0

def mortal(call):
    # Dies at the step that was drawn: before the call, after it, or, of a write, in the midst of it.
    def step(*arguments):
        global steps
        steps += 1
        if steps != last_step:
            return call(*arguments)
        how = random.choice(["before", "midst", "midst", "after"])
        if how == "midst" and call is write:
            call(arguments[0], arguments[1][:random.randrange(len(arguments[1]) + 1)])
        elif how != "before":
            call(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return step

if last_step:
    random.seed(last_step)
    write = os.write
    os.write, os.fsync, os.replace, os.ftruncate = map(mortal, (os.write, os.fsync, os.replace, os.ftruncate))

keys = [(f"case-{i}", "system", "image_only", 0) for i in range(count)]

def answer(key):
    digest = hashlib.sha256(repr(key).encode()).hexdigest()
    return {"score": int(digest[:2], 16) / 51, "critique": digest * (1 + int(digest[2:4], 16) // 16)}

def table(path, run):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        for entry in run.results():
            writer.writerow([*entry.key, entry.data["score"]])
            file.flush()

with sigterm_interrupts(), Run.open(folder, {"n": count}, keys, seed=0) as run:
    print("open", run.recovered.bytes if run.recovered else 0, flush=True)
    todo = [key for key in keys if key not in run.done]
    while todo:
        size = random.choice([1, 1, 2, 3, 8])
        batch, todo = todo[:size], todo[size:]
        if size == 1:
            run.append(batch[0], answer(batch[0]))
        else:
            run.append_many([(key, answer(key)) for key in batch])
        if random.random() < 0.02:
            run.export("ratings.csv", lambda path: table(path, run))
        time.sleep(random.random() * pause)
    run.export("ratings.csv", lambda path: table(path, run))
"""


@pytest.fixture(scope="session")
def child(tmp_path_factory):
    script = tmp_path_factory.mktemp("child") / "child.py"
    script.write_text(textwrap.dedent(CHILD))

    def start(folder, count, pause=0.0, last_step=0):
        return subprocess.Popen([sys.executable, str(script), *map(str, (folder, count, pause, last_step))],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip

    return start


def real_problems(folder):
    """Problems but for exports that are older than the journal, as they must be in a run that was stopped."""
    return [problem for problem in verify_run(folder).problems if " was made from " not in problem]


def stop_often(child, tmp_path, *, stops, count, number):
    """Send a signal at random moments until `stops` of them hit a living child, then let it end."""
    folder, rng = tmp_path / "stopped", random.Random(3)
    for _ in range(stops):
        with child(folder, count, 0.01) as process:
            assert process.stdout.readline(), process.stderr.read()
            time.sleep(rng.random() * 0.06)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert process.returncode == -number, f"it was over before it was stopped: {errors}"
        else:
            assert process.returncode != 0, "it was over before it was stopped"
            assert "KeyboardInterrupt" in errors
            assert read_manifest(folder / "manifest.json")["status"] == "interrupted"
            assert real_problems(folder) == []
    with child(folder, count) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return folder


def die_often(child, tmp_path, *, deaths, count):
    """Let the child die at a random step of its work with the disk, `deaths` times, then let it end."""
    folder, rng = tmp_path / "died", random.Random(5)
    for _ in range(deaths):
        with child(folder, count, 0, rng.randrange(1, 50)) as process:
            _, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, f"it was over before it died: {errors}"
    with child(folder, count) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert list(folder.glob("journal.torn-*"))  # some died in the midst of a write, or this would prove little
    return folder


def same_as_unbroken(folder, child, tmp_path, count):
    with child(tmp_path / "unbroken", count) as process:
        assert process.wait(60) == 0, process.stderr.read()
    assert verify_run(folder).problems == ()
    assert (folder / "ratings.csv").read_bytes() == (tmp_path / "unbroken" / "ratings.csv").read_bytes()
    keys = [(f"case-{i}", "system", "image_only", 0) for i in range(count)]
    found = []
    for path in (folder, tmp_path / "unbroken"):
        with Run.open(path, {"n": count}, keys, seed=0) as run:
            found.append([(e.seq, e.key, e.data) for e in run.results()])
            assert run.manifest["status"] == "complete"
    assert found[0] == found[1]  # the sequence numbers too: nothing is doubled
    assert [seq for seq, *_ in found[0]] == list(range(count))


def test_killed_20_times_the_result_is_that_of_an_unbroken_run(child, tmp_path):
    same_as_unbroken(stop_often(child, tmp_path, stops=20, count=800, number=signal.SIGKILL), child, tmp_path, 800)


@pytest.mark.slow
def test_killed_100_times_the_result_is_that_of_an_unbroken_run(child, tmp_path):
    same_as_unbroken(stop_often(child, tmp_path, stops=100, count=4500, number=signal.SIGKILL), child, tmp_path, 4500)


def test_killed_20_times_at_any_step_the_result_is_that_of_an_unbroken_run(child, tmp_path):
    same_as_unbroken(die_often(child, tmp_path, deaths=20, count=1200), child, tmp_path, 1200)


@pytest.mark.slow
def test_killed_200_times_at_any_step_the_result_is_that_of_an_unbroken_run(child, tmp_path):
    same_as_unbroken(die_often(child, tmp_path, deaths=200, count=8000), child, tmp_path, 8000)


def test_sigterm_leaves_an_interrupted_folder_that_resumes(child, tmp_path):
    same_as_unbroken(stop_often(child, tmp_path, stops=5, count=400, number=signal.SIGTERM), child, tmp_path, 400)


def test_one_writer(child, tmp_path):
    folder = tmp_path / "run"
    keys = [(f"case-{i}", "system", "image_only", 0) for i in range(10_000)]
    with child(folder, len(keys), 0.01) as first:
        assert first.stdout.readline()
        with child(folder, len(keys)) as second:
            _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"BusyError: {folder} is in use by process {first.pid} on " in errors
        with pytest.raises(BusyError, match=str(folder)):
            Run.open(folder, {}, 1)
        first.kill()
    with Run.open(folder, {"n": len(keys)}, keys, seed=0) as run:  # SIGKILL frees the lock
        with pytest.raises(BusyError, match=str(os.getpid())):
            Run.open(folder, {"n": len(keys)}, keys, seed=0)
        run.close("interrupted")
    assert real_problems(folder) == []


def test_sigterm_helper_outside_the_main_thread_does_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with sigterm_interrupts():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
    with sigterm_interrupts():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


FULL = """
import resource, sys
from dermjudge.judge.run import Run
folder, limit = sys.argv[1], int(sys.argv[2])
run = Run.open(folder, {}, 100_000)
run.append("first", "x" * 1000)
run.export("report.md", "old")
run.close("incomplete")
run = Run.open(folder, {}, 100_000)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with run:
        for i in range(0, 100_000, 3):
            run.append_many([(f"key-{i + j}", "y" * 777) for j in range(3)])
except OSError as error:
    print(run._journal.lines)
    try:
        with open(f"{folder}/report.md"): pass
        from dermjudge.judge.files import write_atomic
        write_atomic(f"{folder}/report.md", "z" * 10_000_000)
    except OSError as second:
        print(second)
    print(error, *getattr(error, "__notes__", []))
    sys.exit(7)
"""


def check_full(folder, result, reason):
    assert result.returncode == 7, result.stderr
    lines, export, text = result.stdout.strip().split("\n", 2)
    assert f"cannot write {folder}/journal.jsonl: {reason}; it keeps its {lines} lines" in text
    assert f"cannot write {folder}/report.md: {reason}; what was there before is unchanged" in export
    assert int(lines) % 3 == 1  # whole writes only, one line from before
    assert int(lines) > 3
    assert (folder / "report.md").read_text() == "old"
    assert not list(folder.glob(".part-*"))
    copied = folder.parent.parent / "copy" if folder.parent.name == "full" else folder
    if copied != folder:
        shutil.copytree(folder, copied)
    assert real_problems(copied) == []
    with Run.open(copied, {}, 100_000) as run:  # with room again it goes on
        assert run.recovered is None
        assert len(run.done) == int(lines)
        run.append("later", 1)
        assert sum(1 for _ in run.results()) == int(lines) + 1


def test_a_file_size_limit_keeps_all_whole_writes(tmp_path):
    folder = tmp_path / "run"
    result = subprocess.run([sys.executable, "-c", FULL, str(folder), "50000"],
                            capture_output=True, text=True, timeout=60)  # fmt: skip
    check_full(folder, result, "File too large")


def test_a_full_disk_keeps_all_whole_writes(tmp_path):
    disk = tmp_path / "full"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        result = subprocess.run([sys.executable, "-c", FULL, str(disk / "run"), "0"],
                                capture_output=True, text=True, timeout=60)  # fmt: skip
        check_full(disk / "run", result, "No space left on device")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_disk_space_for_the_torn_tail_changes_nothing(tmp_path):
    folder = tmp_path / "run"
    with Run.open(folder, {}, 3) as run:
        run.append("a", 1)
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"{" * 5000)
    before = (folder / "journal.jsonl").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*journal\.torn-1"):
            Run.open(folder, {}, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (folder / "journal.jsonl").read_bytes() == before
    with Run.open(folder, {}, 3) as run:
        assert run.recovered.bytes == 5000
        assert (folder / "journal.torn-1").read_bytes() == b"{" * 5000
        assert run.done == {"a"}
    assert verify_run(folder).ok
    assert verify_run(folder).notes == ("journal.torn-1 is not in the manifest",)
