"""`generate` from the command line: what it writes, says, refuses, and never sends without leave."""

import json
import re

import pytest
import typer
import yaml
from PIL import Image as Pillow

from dermjudge.cli.generate_verb import generate
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.calls import guard
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image
from dermjudge.judge.tables import read_narratives
from tests.fault_server import FaultServer

app = typer.Typer()
app.command()(generate)


@pytest.fixture(autouse=True)
def rules_as_before():
    with guard.limited_to(()):
        yield


@pytest.fixture
def bench(tmp_path):
    images, cases = {}, []
    for k in range(4):
        Pillow.new("RGB", (60, 40), (60 * k, 30, 30)).save(tmp_path / f"{k}.png")
        images[f"images/{k}.png"] = tmp_path / f"{k}.png"
        text = f"item=c{k} itchy for 3 weeks" + ("; seen by Dr. Miller on 12 March 2021" if k == 2 else "")
        split = "test" if k else "train"
        cases.append(Case(f"c{k}", (Image(f"images/{k}.png"),), context=text, diagnosis=("psoriasis",), split=split))
    write_benchmark(tmp_path / "bench", name="toy", version="1", licence="CC0-1.0", source="test", cases=cases,
                    images=images)  # fmt: skip
    return tmp_path / "bench"


@pytest.fixture
def server():
    answer = "Plaques.\nDifferential diagnosis:\n1. Psoriasis\n2. Eczema\nTriage: routine"
    with FaultServer(answer=lambda item, prompt: answer, retry_after="0") as running:
        running.bodies = []
        yield running


def call(capsys, *arguments):
    """Exit code and the JSON on stdout."""
    code = 0
    try:
        app([*map(str, arguments), "--json"], standalone_mode=False)
    except SystemExit as end:
        code = end.code
    return code, json.loads(capsys.readouterr().out)


def test_a_run_and_its_resume(bench, server, tmp_path, capsys):
    asked = [bench, "--candidate", f"one=endpoint:{server.url}#tiny", "--arm", "image_only,text_only", "--out",
             tmp_path / "run", "--set", "max_tokens=50", "--max-side", "32"]  # fmt: skip
    code, said = call(capsys, *asked)
    assert code == 0 and said["complete"] and said["states"] == {"one": {"written": 8}} and said["planned"] == 8
    found = read_narratives(said["narratives"])
    assert {n.key[1:3] for n in found} == {("one", "image_only"), ("one", "text_only")}
    assert {n.triage for n in found} == {"routine"} and len(server.log) == 8
    assert {json.loads(body)["max_tokens"] for body in server.bodies} == {50}
    code, again = call(capsys, *asked)
    assert code == 0 and again["resumed"] == 8 and len(server.log) == 8
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["asked"]["config"]["benchmark"] == "toy@1"


def test_the_text_for_people(bench, server, tmp_path, capsys):
    spec = f"one=endpoint:{server.url}#tiny"
    app([str(bench), "--candidate", spec, "--out", str(tmp_path / "run"), "--split", "test"], standalone_mode=False)
    out = capsys.readouterr().out
    assert re.search(r"one +3 written +3 +\d+ +unknown", out) and "3 planned. Written: " in out


def test_an_incomplete_run_says_so(bench, tmp_path, capsys):
    with FaultServer(sticky={"c1": "400"}) as server:
        code, said = call(capsys, bench, "--candidate", f"one=endpoint:{server.url}#tiny", "--arm", "text_only",
                          "--out", tmp_path / "run")  # fmt: skip
    assert code == 4 and said["states"] == {"one": {"written": 3, "api_error": 1}} and not said["complete"]


def test_a_dry_run_sends_nothing(bench, server, tmp_path, capsys):
    (tmp_path / "prices.yaml").write_text("tiny: {input_per_million: 3, output_per_million: 15}\n")
    specs = [f"one=endpoint:{server.url}#tiny", f"two=endpoint:{server.url}#dark",
             "far=endpoint:https://api.example.org/v1#big"]  # fmt: skip
    two = [*(word for spec in specs for word in ("--candidate", spec)), "--prices", tmp_path / "prices.yaml"]
    code, said = call(capsys, bench, *two, "--out", tmp_path / "run", "--dry-run", "--max-images", "far=1")
    assert code == 0 and not (tmp_path / "run").exists() and server.log == []
    rows = {row["candidate"]: row for row in said["candidates"]}
    assert rows["one"]["calls"] == 4 and rows["one"]["cost"] > 0 and rows["two"]["cost"] is None
    assert said["hosts"] == ["api.example.org:443"] and len(said["data"]) == 64
    consent = yaml.safe_load(said["consent"])
    assert consent["hosts"] == ["api.example.org"] and consent["data"] == said["data"] and consent["purpose"] == "TODO"


def test_nothing_leaves_without_a_host_and_a_consent(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DERMJUDGE_API_KEY", "key")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    for spec, host in (("endpoint:http://192.0.2.7:9/v1#m", "192.0.2.7"),
                       ("litellm:openai/gpt-4o-2024-08-06", "api.openai.com")):  # fmt: skip
        asked = [str(bench), "--candidate", spec, "--out", str(tmp_path / "run")]
        with pytest.raises(InputError, match=f"--allow-remote {host}"):
            app(asked, standalone_mode=False)
        with pytest.raises(InputError, match="needs a consent file"):
            app([*asked, "--allow-remote", host], standalone_mode=False)
    _, said = call(capsys, *asked, "--dry-run")
    (tmp_path / "consent.yaml").write_text(said["consent"])
    with pytest.raises(InputError, match="placeholder"):
        app([*asked, "--allow-remote", host, "--consent", str(tmp_path / "consent.yaml")], standalone_mode=False)
    filled = yaml.safe_load(said["consent"]) | {name: "the hospital's own words" for name in (
        "provider", "purpose", "region", "retention", "legal_basis", "person")} | {"date": "2026-01-02"}  # fmt: skip
    (tmp_path / "consent.yaml").write_text(yaml.safe_dump(filled | {"data": "0" * 64}))
    with pytest.raises(InputError, match="about other data"):
        app([*asked, "--allow-remote", host, "--consent", str(tmp_path / "consent.yaml")], standalone_mode=False)
    assert not (tmp_path / "run").exists()


def test_contexts_with_names_are_not_sent_to_other_machines(bench, tmp_path, capsys):
    asked = [bench, "--candidate", "far=endpoint:https://api.example.org/v1#big", "--out", tmp_path / "run"]
    with pytest.raises(InputError, match=r"of 1 cases hold .*1 NAME.* such as case c2"):
        app([*map(str, asked), "--dry-run", "--arm", "image_context"], standalone_mode=False)
    hashes = {}
    for rule in ("redact", "send"):
        _, said = call(capsys, *asked, "--dry-run", "--arm", "image_context", "--private-words", rule)
        hashes[rule] = said["data"]
    assert hashes["redact"] != hashes["send"]
    assert call(capsys, *asked, "--dry-run")[0] == 0  # no context is shown


def test_redacted_contexts_are_what_is_sent(bench, server, tmp_path, capsys, monkeypatch):
    """With loopback taken for another machine, the whole way with host, consent and redaction."""
    monkeypatch.setattr(guard, "is_loopback", lambda name: False)
    asked = [bench, "--candidate", f"one=endpoint:{server.url}#tiny", "--out", tmp_path / "run", "--arm", "text_only",
             "--private-words", "redact"]  # fmt: skip
    monkeypatch.setenv("DERMJUDGE_API_KEY", "key")
    _, said = call(capsys, *asked, "--dry-run")
    filled = yaml.safe_load(said["consent"]) | {name: "the hospital's own words" for name in (
        "provider", "purpose", "region", "retention", "legal_basis", "person")} | {"date": "2026-01-02"}  # fmt: skip
    (tmp_path / "consent.yaml").write_text(yaml.safe_dump(filled))
    code, done = call(capsys, *asked, "--allow-remote", "127.0.0.1", "--consent", tmp_path / "consent.yaml")
    assert code == 0 and done["complete"]
    sent = b"".join(server.bodies)
    assert b"Miller" not in sent and b"12 March" not in sent and b"[NAME 1]" in sent
    assert "Miller" in (tmp_path / "run" / "redactions.json").read_text()
    manifest = (tmp_path / "run" / "manifest.json").read_text()
    assert "the hospital's own words" in manifest and "Miller" not in manifest and said["data"] in manifest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arm", "picture"], "unknown arm 'picture'"),
        (["--retry", "broken"], "unknown state 'broken'"),
        (["--max-images", "few"], "--max-images takes a number"),
        (["--max-images", "nobody=3"], "no candidate is called 'nobody'"),
        (["--over-images", "last"], "skip or first"),
        (["--set", "temperature"], "a pair is written"),
        (["--prompt", "nowhere.txt"], "cannot read the prompt"),
        (["--split", "valid"], "no split 'valid'"),
    ],
)
def test_what_is_refused(bench, server, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        app([str(bench), "--candidate", f"one=endpoint:{server.url}#tiny", "--out", str(tmp_path / "run"), *options],
            standalone_mode=False)  # fmt: skip
    assert server.log == [] and not (tmp_path / "run").exists()
