"""The command line: exit codes, JSON, bad input. Results are checked where they are made; here, that they arrive."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as Pillow

from dermjudge.cli.main import main
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.records import Case, Image, Narrative, Rating, Score
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import write_narratives, write_ratings

RUBRIC = load_rubric("derm6")


@pytest.fixture
def bench(tmp_path):
    cases, images, narratives, ratings = [], {}, [], []
    for k in range(24):
        name = f"c{k:02d}"
        Pillow.new("RGB", (16, 16), (k * 10, 90, 60)).save(tmp_path / f"{name}.png")
        images[f"images/{name}.png"] = tmp_path / f"{name}.png"
        gold = ("psoriasis", "melanoma", "impetigo")[k % 3]
        urgency = ("routine", "urgent", "soon")[k % 3]
        cases.append(Case(name, (Image(f"images/{name}.png"),), patient_id=f"p{k}", diagnosis=(gold,), urgency=urgency))
        for system in ("good", "bad"):
            said = gold if system == "good" else "scabies"
            text = f"Differential: 1. {said} 2. tinea corporis. Triage: {urgency}."
            narratives.append(Narrative(name, system, text))
            for rater in ("e1", "e2"):
                value = float((k + (system == "good") + (rater == "e1")) % 6)
                ratings.append(
                    Rating(name, system, rater, "expert", RUBRIC.id, {d: Score(value) for d in RUBRIC.names})
                )
    folder = tmp_path / "bench"

    def extra(path):
        write_narratives(narratives, path / "narratives.jsonl")
        write_ratings(ratings, path / "ratings.parquet")

    write_benchmark(
        folder, name="toy", version="1", licence="CC0-1.0", source="test", cases=cases, images=images, extra=extra
    )
    return folder


@pytest.fixture
def answers(bench, tmp_path):
    rows = []
    for k in range(24):
        for system in ("good", "bad"):
            scores = {name: (k + (system == "good")) % 6 for name in RUBRIC.names}
            rows.append({"case_id": f"c{k:02d}", "system": system, "answer": json.dumps({"scores": scores})})
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def call(capsys, *arguments):
    """Exit code, stdout, stderr of one command."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_score_reports_and_resumes_and_verifies(capsys, bench, answers, tmp_path):
    run = tmp_path / "run"
    code, out, err = call(capsys, "score", bench, "--judge", f"replay:{answers}", "--out", run)
    assert code == 0, err
    assert "288 planned scores: 288 scored" in out and "good" in out and "Judge beside experts" in out
    assert (run / "report.md").exists() and json.loads((run / "report.json").read_text())["judge"].startswith("replay:")
    code, out, _ = call(capsys, "score", bench, "--judge", f"replay:{answers}", "--out", run, "--json")
    assert code == 0 and json.loads(out)["resumed"] == 48
    code, out, _ = call(capsys, "verify", run)
    assert code == 0 and "48 of 48 planned results, complete" in out
    report = (run / "report.md").read_text()
    (run / "report.md").write_text(report.replace("good", "best"))
    assert call(capsys, "verify", run)[0] == 1  # the page that is passed on is covered too
    (run / "report.md").write_text(report)
    assert call(capsys, "verify", run)[0] == 0
    journal = run / "journal.jsonl"
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    code, out, _ = call(capsys, "verify", run, "--json")
    assert code == 1 and json.loads(out)["problems"]


def test_dry_run_touches_nothing(capsys, bench, answers, tmp_path):
    code, out, _ = call(
        capsys,
        "score",
        bench,
        "--judge",
        f"replay:{answers}",
        "--out",
        tmp_path / "run",
        "--dry-run",
        "--json",
        "--probe",
        "swap,blank",
    )
    assert code == 0 and json.loads(out)["questions"] == 144 and not (tmp_path / "run").exists()


def test_limit_and_another_judge_refuse_the_folder(capsys, bench, answers, tmp_path):
    run = tmp_path / "run"
    assert call(capsys, "score", bench, "--judge", f"replay:{answers}", "--out", run, "--limit", 10)[0] == 0
    code, _, err = call(capsys, "score", bench, "--judge", f"replay:{answers}", "--out", run)
    assert code == 2 and "limited" in err


def test_two_writers_on_one_folder(capsys, bench, answers, tmp_path):
    import fcntl

    run = tmp_path / "run"
    call(capsys, "score", bench, "--judge", f"replay:{answers}", "--out", run)
    with (run / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = call(capsys, "score", bench, "--judge", f"replay:{answers}", "--out", run)
    assert code == 3 and str(run) in err


def test_evaluate_prints_top_k_and_triage_and_why(capsys, bench, tmp_path):
    code, out, _ = call(capsys, "evaluate", bench, "--explain", tmp_path / "why.csv", "--json")
    found = json.loads(out)
    assert code == 0 and {"diagnosis", "triage"} <= set(found)
    assert "scabies" in (tmp_path / "why.csv").read_text()
    assert call(capsys, "evaluate", bench, "--k", "0")[0] == 2


def test_agree_reads_files_and_maps_columns(capsys, bench, tmp_path):
    csv = tmp_path / "judge.csv"
    lines = ["item,system,rater,rater_kind,dimension,score"]
    lines += [
        f"c{k:02d},{s},j,judge,{d},{(k + 1) % 6}" for k in range(24) for s in ("good", "bad") for d in RUBRIC.names
    ]
    csv.write_text("\n".join(lines))
    ratings = bench / "ratings.parquet"
    code, out, err = call(capsys, "agree", ratings, csv, "--map", "item=case_id", "--bench", bench, "--resamples", 200)
    assert code == 0, err
    assert "against the mean of the experts" in out
    code, out, _ = call(
        capsys, "agree", ratings, csv, "--map", "item=case_id", "--resamples", 200, "--json", "--judge", "j"
    )
    assert json.loads(out)["judges"][0]["judge"] == "j"
    code, _, err = call(capsys, "agree", ratings, csv)
    assert code == 2 and "item" in err and "--map" in err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        ("case_id,system,text\nc00,x,hello".encode("utf-16"), "UTF-16"),
        (b"case_id,system,txet\nc00,x,hello", "txet"),
        (b"case_id,system,text\nc00,x,one\nC00 ,x,two", "C00|c00"),
        (b"case_id,system,text\nnobody,x,one", "nobody"),
        (b"case_id,system,text\nc00,x", "line 2|column"),
    ],
)
def test_bad_narratives_are_told_and_nothing_is_written(capsys, bench, answers, tmp_path, content, told):
    file = tmp_path / "narratives.csv"
    file.write_bytes(content)
    code, out, err = call(capsys, "score", bench, file, "--judge", f"replay:{answers}", "--out", tmp_path / "run")
    assert code == 2 and out == "" and not (tmp_path / "run").exists()
    assert any(word in err for word in told.split("|")), err
    assert "Traceback" not in err


@pytest.mark.parametrize(("score", "told"), [("nan", "nan"), ("inf", "inf"), ("four", "four")])
def test_scores_that_are_no_numbers_are_refused(capsys, tmp_path, score, told):
    file = tmp_path / "r.csv"
    file.write_text(f"case_id,system,rater,rater_kind,dimension,score\nc,s,e,expert,Accuracy,{score}")
    code, _, err = call(capsys, "agree", file)
    assert code == 2 and told in err and "line 2" in err and "r.csv" in err


def test_scores_out_of_scale_are_listed_and_not_used(capsys, tmp_path):
    file = tmp_path / "r.csv"
    rows = [
        f"c{k},s,{r},{kind},Accuracy,{k % 6}"
        for k in range(30)
        for r, kind in (("e", "expert"), ("f", "expert"), ("j", "judge"))
    ]
    file.write_text("case_id,system,rater,rater_kind,dimension,score\n" + "\n".join(rows) + "\nz,s,e,expert,Accuracy,7")
    code, out, err = call(capsys, "agree", file, "--json", "--resamples", 200)
    assert code == 0 and "7" in err and "out_of_scale" in err + out


def test_unknown_rubric_judge_recipe_dataset(capsys, bench, answers, tmp_path):
    for arguments, told in (
        (["score", bench, "--judge", f"replay:{answers}", "--rubric", "derm7"], "derm6"),
        (["score", bench, "--judge", "oracle"], "embedded"),
        (["score", bench], "--judge"),
        (["train", "nothing"], "embedded"),
        (["data", "import", "isic"], "ham10000"),
        (["data", "import", "ham10000"], "where the files"),
        (["score", tmp_path / "no-bench", "--judge", "embedded"], "no-bench"),
        (["score", bench, "--judge", f"replay:{answers}", "--probe", "mirror"], "swap"),
        (["score", bench, "--judge", f"replay:{answers}", "--retry", "sometimes"], "api_error"),
    ):
        code, _, err = call(capsys, *arguments)
        assert code == 2 and told in err, (arguments, err)
        assert "Traceback" not in err


def test_config_fills_in_flags_win_and_unknown_keys_are_errors(capsys, bench, answers, tmp_path):
    config = tmp_path / "score.yaml"
    config.write_text(f"judge: replay:{answers}\nlimit: 4\n")
    code, out, err = call(capsys, "score", bench, "--config", config, "--out", tmp_path / "a", "--json")
    assert code == 0, err
    assert json.loads(out)["planned"] == 24
    code, out, _ = call(capsys, "score", bench, "--config", config, "--out", tmp_path / "b", "--json", "--limit", 2)
    assert json.loads(out)["planned"] == 12
    config.write_text("jugde: embedded\n")
    code, _, err = call(capsys, "score", bench, "--config", config)
    assert code == 2 and "jugde" in err and "judge" in err


def test_validate_lists_everything_at_once(capsys, bench):
    (bench / "images" / "c00.png").write_bytes(b"no picture")
    (bench / "images" / "c01.png").unlink()
    code, out, _ = call(capsys, "data", "validate", bench)
    assert code == 2 and "c00.png" in out and "c01.png" in out


def test_import_leaves_out_bad_rows_says_so_and_strict_refuses(capsys, tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    Pillow.new("RGB", (16, 16), (200, 90, 60)).save(source / "a.png")
    (source / "b.jpg").write_bytes((source / "a.png").read_bytes()[:60])
    (source / "table.csv").write_text("id,file,dx\n1,a.png,psoriasis\n2,b.jpg,melanoma\n3,nowhere.png,melanoma\n")
    arguments = [
        "data",
        "import",
        "tabular",
        source,
        "--column",
        "id=id",
        "--column",
        "image=file",
        "--column",
        "diagnosis=dx",
        "--licence",
        "internal",
    ]
    code, out, _ = call(capsys, *arguments, "--out", tmp_path / "bench")
    assert code == 4 and "1 cases" in out and "2 left out" in out and "b.jpg" in out and "nowhere.png" in out
    code, _, err = call(capsys, *arguments, "--out", tmp_path / "strict", "--strict")
    assert code == 2 and not (tmp_path / "strict").exists() and "nowhere.png" in err


def test_synthetic_import_and_list(capsys, tmp_path):
    code, out, _ = call(
        capsys, "data", "import", "synthetic", "--cases", 6, "--seed", 1, "--out", tmp_path / "s", "--json"
    )
    assert code == 0 and json.loads(out)["narratives"] == 24
    assert "SYNTHETIC" in (tmp_path / "s" / "benchmark.yaml").read_text()
    names = {row["name"] for row in json.loads(call(capsys, "data", "list", "--json")[1])}
    assert {"synthetic", "dermbench", "ham10000", "pad_ufes_20", "tabular"} <= names


def test_help_and_version_run_as_programs():
    for arguments in (["--help"], ["--version"], ["score", "--help"]):
        done = subprocess.run([sys.executable, "-m", "dermjudge.cli.main", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    done = subprocess.run([sys.executable, "-m", "dermjudge.cli", "scroe"], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_three_dimensions_on_one_to_four_pass_the_whole_journey(capsys, bench, tmp_path):
    rubric = Path(__file__).parents[1] / "judge" / "data" / "triad.yaml"
    names = load_rubric(rubric).names
    rows = [
        {
            "case_id": f"c{k:02d}",
            "system": s,
            "answer": json.dumps({"scores": {d: 1 + (k + len(s)) % 4 for d in names}}),
        }
        for k in range(24)
        for s in ("good", "bad")
    ]
    answers = tmp_path / "triad.jsonl"
    answers.write_text("\n".join(map(json.dumps, rows)))
    (bench / "ratings.parquet").unlink()
    run = tmp_path / "run"
    code, out, err = call(capsys, "score", bench, "--judge", f"replay:{answers}", "--rubric", rubric, "--out", run)
    assert code == 0, err
    assert all(name in out for name in names)
    experts = tmp_path / "experts.csv"
    lines = ["case_id,system,rater," + ",".join(names)]
    lines += [
        f"c{k:02d},{s},{r}," + ",".join(str(1 + (k + j + len(r)) % 4) for j in range(len(names)))
        for k in range(24)
        for s in ("good", "bad")
        for r in ("ann", "bo")
    ]
    experts.write_text("\n".join(lines))
    code, out, err = call(
        capsys,
        "agree",
        run / "ratings.jsonl",
        experts,
        "--rubric",
        rubric,
        "--rater-kind",
        "expert",
        "--resamples",
        200,
        "--json",
    )
    assert code == 0, err
    assert {d["dimension"] for d in json.loads(out)["judges"]} == set(names)


def test_evaluate_by_subgroup_names_what_there_is(capsys, bench):
    code, _, err = call(capsys, "evaluate", bench, "--by", "colour")
    assert code == 2 and "the cases have no 'colour'" in err
    code, out, err = call(capsys, "evaluate", bench, "--by", "diagnosis_group", "--json")
    assert code == 0, err
    assert json.loads(out)["subgroups"]
