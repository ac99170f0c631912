"""`evaluate --adjudicate` over a real loopback server: asked once, kept, resumed, budgeted, never overruling."""

import fcntl
import json
import re

import pytest

from dermjudge.cli.main import main
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.journal import decode
from dermjudge.judge.records import Case, Narrative
from dermjudge.judge.tables import write_narratives
from tests.fault_server import FaultServer

pytest.importorskip("aiohttp")

ITEMS = ["Floopitis", "Grublosis", "Snarkoderma", "Wibblemia"]  # none of the list; the server takes two for psoriasis


TOLD = {"floopitis": "synonym", "grublosis": "narrower", "snarkoderma": "other"}


class Adjudicator(FaultServer):
    """Answers each question by the item in it; one in four with nothing that can be read."""

    told = TOLD

    def completion(self, body, item, mode):
        prompt = json.loads(body)["messages"][-1]["content"]
        prompt = prompt if isinstance(prompt, str) else prompt[0]["text"]
        named = re.search(r"NAMED, between lines (\w+):\n\1\n(.*)\n\1", prompt)[2].casefold()
        found = self.told.get(named)
        self.answer = lambda *_: f'<think>{named}</think>{{"relation": "{found}"}}' if found else "It is hard to say."
        return super().completion(body, item, mode)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("adjudicate")
    cases = [Case(f"c{k}", diagnosis=("psoriasis",)) for k in range(8)]
    said = [f"1. {ITEMS[k % 4]}\n2. eczema" for k in range(7)] + ["1. melanoma\n2. psoriasis"]
    write_benchmark(
        root / "bench", name="toy", version="1", licence="CC0-1.0", source="t", cases=cases, images={},
        extra=lambda path: write_narratives([Narrative(f"c{k}", "m", text) for k, text in enumerate(said)],
                                            path / "narratives.jsonl"),
    )  # fmt: skip
    return root / "bench"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_each_question_is_asked_once_and_stands_in_a_column_of_its_own(capsys, bench, tmp_path):
    kept = tmp_path / "new" / "answers.jsonl"
    with Adjudicator() as server:
        asked = ("evaluate", bench, "--k", "1,2", "--adjudicate", f"endpoint:{server.url}#tiny", "--adjudication", kept)
        code, out, err = call(capsys, *asked, "--json", "--explain", tmp_path / "why.jsonl")
        assert code == 0, err
        assert len(server.log) == 4  # seven items, four distinct
        found = json.loads(out)
        told = found["adjudication"]
        counts = ("questions", "answered", "unreadable", "open", "failed_now")
        assert [told[name] for name in counts] == [4, 3, 1, 0, 0] and told["spent"]["calls"] == 4
        assert found["diagnosis"]["systems"][0]["strict"]["1"]["value"] == 0  # by the list, nothing changes
        assert told["systems"][0]["strict"]["1"]["value"] == pytest.approx(4 / 8)  # two Floopitis, two Grublosis
        assert told["systems"][0]["strict"]["2"]["value"] == pytest.approx(5 / 8)
        code, out, err = call(capsys, *asked)
        assert code == 0 and len(server.log) == 4, err  # the unreadable answer was paid, too, and is final
        assert re.search(r"\| m +\| image_only \| +1 \| +8 \| +3 of 4 \| 0.00 \[.*\] \| 0.50 \[", out), out
        assert "Calls so far: 4" in out
    rows = [json.loads(line) for line in (tmp_path / "why.jsonl").read_text().splitlines()]
    assert rows[0]["adjudicated"] == ["1 'Floopitis': synonym of psoriasis"] and rows[0]["strict_rank"] is None
    code, out, err = call(capsys, "evaluate", bench, "--adjudication", kept, "--json")  # the server is gone
    assert code == 0 and json.loads(out)["adjudication"]["answered"] == 3, err
    entries = [decode(line) for line in kept.read_bytes().splitlines(keepends=True)]
    assert "between lines {nonce}" in entries[0].data["template"] and kept.stat().st_mode & 0o077 == 0
    assert entries[1].data["item"] in ITEMS and "relation" in entries[1].data["answer"] + "relation"


def test_a_dry_run_says_how_many_questions_and_asks_none(capsys, bench, tmp_path):
    kept = tmp_path / "answers.jsonl"
    (tmp_path / "prices.yaml").write_text("tiny: {input_per_million: 1000, output_per_million: 1000}")
    with Adjudicator() as server:
        asked = ["evaluate", bench, "--adjudicate", f"endpoint:{server.url}#tiny", "--adjudication", kept]
        code, out, err = call(capsys, *asked, "--dry-run", "--json", "--prices", tmp_path / "prices.yaml")
        assert code == 0, err
        told = json.loads(out)
        assert (told["questions"], told["of unmatched items"], told["calls"], told["answered already"]) == (4, 7, 4, 0)
        assert told["cost, about"] > 0 and not server.log and not kept.exists()
        call(capsys, *asked)
        code, out, _ = call(capsys, *asked, "--dry-run")
        assert "questions: 4" in out and "answered already: 4" in out and "calls: 0" in out and len(server.log) == 4
    code, out, _ = call(capsys, "evaluate", bench, "--dry-run")
    assert code == 0 and "judge: none" in out


def test_a_budget_or_a_failing_server_leaves_questions_open_for_the_next_time(capsys, bench, tmp_path):
    kept = tmp_path / "answers.jsonl"
    with Adjudicator() as server:
        asked = ["evaluate", bench, "--adjudicate", f"endpoint:{server.url}#tiny", "--adjudication", kept, "--json"]
        code, out, err = call(capsys, *asked, "--max-calls", 3)
        assert code == 4 and "budget" in err and len(server.log) == 3
        assert json.loads(out)["adjudication"]["open"] == 1 and json.loads(out)["diagnosis"]["systems"]
        code, out, err = call(capsys, *asked, "--max-calls", 3)
        assert code == 4 and len(server.log) == 3  # the budget is of the file, not of the session
        server.behaviour = type(server.behaviour)(sticky={"*": "400"})
        code, out, err = call(capsys, *asked)
        assert code == 4 and json.loads(out)["adjudication"]["failed_now"] == 1 and "1 questions have no answer" in err
        server.behaviour = type(server.behaviour)()
        code, out, err = call(capsys, *asked)
        told = json.loads(out)["adjudication"]
        assert code == 0 and told["open"] == 0 and told["spent"]["calls"] == len(server.log) == 5, err


def test_nothing_leaves_the_machine_without_permission(capsys, bench, tmp_path):
    judge = "endpoint:https://judge.example.org/v1#tiny"
    asked = ("evaluate", bench, "--adjudicate", judge, "--adjudication", tmp_path / "a.jsonl")
    code, _, err = call(capsys, *asked)
    assert code == 2 and "--allow-remote judge.example.org" in err
    code, out, _ = call(capsys, *asked, "--dry-run")
    assert code == 0 and "hosts: [judge.example.org]" in out and "TODO" in out
    told = tmp_path / "n.jsonl"
    write_narratives([Narrative("c0", "m", "1. Floopitis, as in Mrs Jones\n2. psoriasis")], told)
    code, _, err = call(capsys, "evaluate", bench, told, *asked[2:])
    assert code == 2 and "hold what may name a patient" in err and "Jones" not in err
    code, out, err = call(capsys, "evaluate", bench, told, *asked[2:], "--private-words", "redact", "--dry-run")
    assert code == 0 and "questions: 1" in out, err
    code, _, err = call(capsys, *asked, "--private-words", "maybe")
    assert code == 2 and "--private-words is one of" in err


def test_another_file_is_never_written_to(capsys, bench, tmp_path):
    judge = "endpoint:http://127.0.0.1:9/v1#tiny"
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"case_id": "c0"}')
    for more in ((), ("--dry-run",)):
        code, _, err = call(capsys, "evaluate", bench, "--adjudicate", judge, "--adjudication", mine, *more)
        assert code == 2 and "is no file of adjudications" in err and mine.read_text() == '{"case_id": "c0"}'
    code, _, err = call(capsys, "evaluate", bench, "--adjudication", tmp_path / "none.jsonl")
    assert code == 2 and "no answers at" in err
    code, _, err = call(capsys, "evaluate", bench, "--adjudicate", "embedded")
    assert code == 2 and "--adjudicate takes endpoint:URL#MODEL" in err


def test_a_file_in_use_is_left_alone_and_two_judges_need_a_name(capsys, bench, tmp_path):
    kept = tmp_path / "answers.jsonl"
    with Adjudicator() as one, Adjudicator() as two:
        two.told = dict.fromkeys(TOLD, "other")
        for server in (one, two):
            judge = f"endpoint:{server.url}#tiny"
            code, out, err = call(capsys, "evaluate", bench, "--adjudicate", judge, "--adjudication", kept, "--json")
            assert code == 0, err
        assert json.loads(out)["adjudication"]["systems"][0]["strict"]["1"]["value"] == 0  # its own answers only
        with kept.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            code, _, err = call(capsys, "evaluate", bench, "--adjudicate", judge, "--adjudication", kept)
            assert code == 3 and "in use" in err
    code, _, err = call(capsys, "evaluate", bench, "--adjudication", kept)
    assert code == 2 and "name one with --adjudicate" in err
