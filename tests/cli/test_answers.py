"""`answers` from the command line: gold and questions of the benchmark folder, JSON, exit codes."""

import json

import typer
import yaml
from typer.testing import CliRunner

from dermjudge.cli.answers_verb import answers
from dermjudge.judge.answers import Answer, write_answers
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case

app = typer.Typer()
app.command()(answers)


def benchmark(folder, name="b", question="q"):
    gold = [Answer(f"c{i}", question, ("red" if i % 2 else "Not mentioned",)) for i in range(24)]
    cases = [Case(f"c{i}", patient_id=f"p{i // 2}") for i in range(24)]
    write_benchmark(folder / "bench", name=name, version="1", licence="", source="", cases=cases,
                    extra=lambda draft: write_answers(gold, draft / "answers.jsonl"))  # fmt: skip
    return folder / "bench"


def test_scores_as_json_and_text(tmp_path):
    bench, given, asked = benchmark(tmp_path), tmp_path / "mine.csv", tmp_path / "questions.jsonl"
    asked.write_text(json.dumps({"question_id": "q", "kind": "single", "options": ["red", "blue"]}))
    write_answers([Answer(f"c{i}", "q", ("red",)) for i in range(24)], given)
    found = CliRunner().invoke(app, [str(bench), str(given), "--questions", str(asked), "--json", "--resamples", "100"])
    assert found.exit_code == 0, found.output
    (one,) = json.loads(found.stdout)["questions"]
    assert (one["system"], one["results"]["accuracy"]["value"], one["counts"]["patients"]) == ("mine", 0.5, 12)
    text = CliRunner().invoke(app, [str(bench), str(given), "--questions", str(asked)]).stdout
    assert text.startswith("## Closed questions") and "### mine" in text


def test_unanswered_ends_in_4_and_the_shipped_table_stands_in(tmp_path):
    bench, given = benchmark(tmp_path, "dermavqa_das", "CQID034-001"), tmp_path / "mine.jsonl"
    write_answers([Answer("c1", "CQID034-001", ("red",), "a")], given)
    found = CliRunner().invoke(app, [str(bench), str(given)])
    assert found.exit_code == 4 and "23 questions without an answer" in found.stderr
    assert "knows 27 of 63 questions" in found.stderr


def test_what_is_missing_is_said(tmp_path):
    bench, given = benchmark(tmp_path), tmp_path / "mine.jsonl"
    write_answers([Answer("c1", "q", ("red",))], given)
    found = CliRunner().invoke(app, [str(bench), str(given)])
    assert isinstance(found.exception, InputError) and "no questions at" in str(found.exception)
    (bench / "answers.jsonl").unlink()
    found = CliRunner().invoke(app, [str(bench), str(given)])
    assert isinstance(found.exception, InputError) and "has no answers.jsonl" in str(found.exception)


def test_config(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"sed": 3}))
    found = CliRunner().invoke(app, [str(tmp_path), str(path), "--config", str(path)])
    assert isinstance(found.exception, InputError) and "unknown key 'sed'" in str(found.exception)
