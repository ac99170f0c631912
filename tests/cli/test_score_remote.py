"""`score` with judges behind an API, over a real loopback server: paid once, private, budgeted, and juries."""

import json

import pytest
from PIL import Image as Pillow

from dermjudge.cli.main import main
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.tables import write_narratives
from tests.fault_server import FaultServer

pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("remote")
    cases, images, narratives = [], {}, []
    for k in range(12):
        Pillow.new("RGB", (16, 16), (k * 10, 90, 60)).save(root / f"c{k}.png")
        images[f"images/c{k}.png"] = root / f"c{k}.png"
        cases.append(Case(f"c{k}", (Image(f"images/c{k}.png"),), context=f"item=c{k}", reference="psoriasis"))
        narratives += [Narrative(f"c{k}", s, f"Differential: 1. psoriasis. Written by {s}.") for s in ("one", "two")]
    write_benchmark(
        root / "bench", name="toy", version="1", licence="CC0-1.0", source="t", cases=cases, images=images,
        extra=lambda path: write_narratives(narratives, path / "narratives.jsonl"),
    )  # fmt: skip
    return root / "bench"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_an_endpoint_scores_and_a_second_run_pays_nothing(capsys, bench, tmp_path):
    with FaultServer() as server:
        judge = f"endpoint:{server.url}#tiny"
        code, out, err = call(capsys, "score", bench, "--judge", judge, "--out", tmp_path / "run", "--json")
        assert code == 0, err
        found = json.loads(out)
        assert found["states"] == {"scored": 144} and len(server.log) == 24
        code, out, err = call(capsys, "score", bench, "--judge", judge, "--out", tmp_path / "run", "--json")
        assert code == 0 and json.loads(out)["resumed"] == 24 and len(server.log) == 24
        code, out, _ = call(capsys, "score", bench, "--judge", judge, "--out", tmp_path / "run", "--dry-run", "--json")
        told = json.loads(out)
        assert told["calls"] == 0 and told["answered already"] == "24 of 24" and told["cost, about"] is None
    code, out, _ = call(capsys, "verify", tmp_path / "run")
    assert code == 0, out


def test_a_budget_ends_the_run_and_the_next_session_goes_on(capsys, bench, tmp_path):
    with FaultServer() as server:
        asked = ["score", bench, "--judge", f"endpoint:{server.url}#tiny", "--out", tmp_path / "run"]
        code, _, err = call(capsys, *asked, "--max-calls", 5)
        assert code == 2 and "budget" in err and len(server.log) == 5
        code, _, err = call(capsys, *asked, "--max-calls", 5)
        assert code == 2 and len(server.log) == 5  # the budget is of the run, not of the session
        code, _, err = call(capsys, *asked)
        assert code == 0 and len(server.log) == 24, err


def test_reference_mode_sends_the_reference_and_no_picture(capsys, bench, tmp_path):
    with FaultServer() as server:
        judge = f"endpoint:{server.url}#tiny"
        code, _, err = call(
            capsys, "score", bench, "--judge", judge, "--mode", "reference", "--out", tmp_path / "run", "--limit", 2
        )
        assert code == 0, err
        sent = json.dumps(server.log)
        assert len(server.log) == 2 and "image_url" not in sent


def test_nothing_leaves_the_machine_without_permission(capsys, bench, tmp_path):
    judge = "endpoint:https://judge.example.org/v1#tiny"
    code, _, err = call(capsys, "score", bench, "--judge", judge, "--out", tmp_path / "run")
    assert code == 2 and "--allow-remote judge.example.org" in err and not (tmp_path / "run").exists()
    code, _, err = call(
        capsys, "score", bench, "--judge", judge, "--out", tmp_path / "run", "--allow-remote", "judge.example.org"
    )
    assert code == 2 and "consent" in err
    code, out, err = call(capsys, "score", bench, "--judge", judge, "--out", tmp_path / "run", "--dry-run")
    assert code == 0 and "hosts: [judge.example.org]" in out and "TODO" in out, err
    template = out[out.index("# Consent") :]
    (tmp_path / "consent.yaml").write_text(template)
    code, _, err = call(
        capsys, "score", bench, "--judge", judge, "--out", tmp_path / "run", "--allow-remote", "judge.example.org",
        "--consent", tmp_path / "consent.yaml",
    )  # fmt: skip
    assert code == 2 and "does not allow anything yet" in err


def test_names_in_texts_are_refused_or_redacted_before_anything_is_sent():
    from dermjudge.cli.remote import without_private_words
    from dermjudge.judge.errors import InputError

    case, told = (
        Case("c1", context="Mrs Jones, born 3.4.1950, forearm."),
        Narrative("c1", "s", "Mrs Jones has psoriasis."),
    )
    with pytest.raises(InputError, match="--private-words redact") as refused:
        without_private_words([case], [told], "refuse")
    assert "Jones" not in str(refused.value) and "1950" not in str(refused.value)
    cases, texts, words = without_private_words([case], [told], "redact")
    assert (
        cases[0].context == "Mrs [NAME 1], born [DATE 1], forearm." and texts[0].text == "Mrs [NAME 1] has psoriasis."
    )
    assert words == {"c1 [NAME 1]": "Jones", "c1 [DATE 1]": "3.4.1950"}
    assert without_private_words([case], [told], "send") == ([case], [told], {})


def test_a_run_without_a_single_score_says_why_and_not_more(capsys, bench, tmp_path):
    with FaultServer(sticky={"*": "400"}) as server:
        code, out, _ = call(
            capsys, "score", bench, "--judge", f"endpoint:{server.url}#tiny", "--out", tmp_path / "run", "--limit", 2
        )
    assert code == 4 and out.startswith("Nothing was scored:\n  api_error: ") and len(out.split("\n")) < 8


def test_a_jury_of_two_shows_each_judges_coverage(capsys, bench, tmp_path):
    with FaultServer() as one, FaultServer(sticky={"c3": "400"}, model="other") as two:
        code, out, err = call(
            capsys, "score", bench, "--judge", f"endpoint:{one.url}#tiny", "--judge", f"endpoint:{two.url}#other",
            "--jury", "mean", "--out", tmp_path / "jury", "--json",
        )  # fmt: skip
    assert code == 4, err  # a case is still open for one judge
    found = json.loads(out)
    assert found["jury"]["scored"] == 132 and found["jury"]["planned"] == 144
    assert sorted(m["scored"] for m in found["jury"]["members"]) == [132, 144]
    assert "Alone missing" in (tmp_path / "jury" / "report.md").read_text()


def test_repeats_show_the_judges_own_noise(capsys, bench, tmp_path):
    with FaultServer() as server:
        code, out, err = call(
            capsys, "score", bench, "--judge", f"endpoint:{server.url}#tiny", "--repeat", 2, "--out", tmp_path / "run",
            "--limit", 8, "--json",
        )  # fmt: skip
    assert code == 0 and len(server.log) == 16, err
    noise = json.loads(out)["judge_noise"]
    # This server says the same every time.
    assert len(noise) == 6 and all(n["items"] == 8 and n["sd"] == 0 and n["identical"] == 1 for n in noise)


def test_a_file_that_cannot_be_used_is_found_before_anything_is_paid(capsys, bench, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    with FaultServer() as server:
        asked = ["score", bench, "--judge", f"endpoint:{server.url}#tiny", "--out", tmp_path / "run"]
        for option in ("--calibration", "--licence"):
            code, _, err = call(capsys, *asked, option, tmp_path / "bad.json")
            assert code == 2 and "damaged, edited or foreign" in err
        assert not server.log and not (tmp_path / "run").exists()
    code, _, err = call(capsys, "score", bench, "--judge", "endpoint:foo", "--out", tmp_path / "run")
    assert code == 2 and "endpoint:URL#MODEL" in err


def test_a_jury_shares_one_budget_and_a_bad_option_costs_nothing(capsys, bench, tmp_path):
    with FaultServer() as one, FaultServer(model="other") as two:
        asked = ["score", bench, "--judge", f"endpoint:{one.url}#tiny", "--judge", f"endpoint:{two.url}#other",
                 "--out", tmp_path / "jury"]  # fmt: skip
        code, _, err = call(capsys, *asked, "--jury", "loudest")
        assert code == 2 and "mean, median, calibrated" in err and not one.log
        code, _, err = call(capsys, *asked, "--max-calls", 30)
        assert code == 2 and "budget" in err and (len(one.log), len(two.log)) == (24, 6)


def test_a_proxy_on_another_machine_needs_permission_too(bench):
    from dermjudge.cli.remote import Remote

    judge = ["endpoint:http://127.0.0.1:9/v1#m"]
    assert Remote().remote_hosts(judge) == []
    assert Remote(proxy="http://proxy.example.org:3128").remote_hosts(judge) == ["proxy.example.org"]


def test_a_model_does_not_judge_itself(capsys, bench, tmp_path):
    code, _, err = call(
        capsys, "score", bench, "--judge", "endpoint:http://127.0.0.1:9/v1#one", "--out", tmp_path / "r"
    )
    assert code == 2 and "rates itself" in err
