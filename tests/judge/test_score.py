"""Scoring: every planned score ends in one state; a run resumes to the same result; probes change the picture only."""

import json

import polars as pl
import pytest
from PIL import Image as Pillow

from dermjudge.judge.backends import open_judge
from dermjudge.judge.backends.base import Answer
from dermjudge.judge.backends.replay import narrative_key
from dermjudge.judge.errors import InputError
from dermjudge.judge.probes import GREY, choose_pictures
from dermjudge.judge.records import Case, Image, Narrative, Score
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.score import ask_one, plan, score
from dermjudge.judge.tables import read_ratings
from dermjudge.judge.verify import verify_run

RUBRIC = load_rubric("derm6")


class Colour:
    """A judge whose scores are a function of the picture and the text, so that what it was shown can be told."""

    name, form, batch_size, max_images, notes = "colour", "full", 3, 1, ()

    def __init__(self):
        self.signature = {"judge": "colour"}
        self.asked = []
        self.shift = 0.0

    def answer(self, questions):
        self.asked.append([q.key for q in questions])
        answers = []
        for q in questions:
            red = q.pictures[0].getpixel((0, 0))[0] / 255 * 5 if q.pictures else 2.0
            values = {name: Score(red if name == "Accuracy" else len(q.prompt.text) % 5) for name in RUBRIC.names}
            if "REFUSE" in q.prompt.text:
                values = dict.fromkeys(RUBRIC.names, Score(None, "refused", "declined"))
            if "BROKEN" in q.prompt.text:
                values = dict.fromkeys(RUBRIC.names, Score(None, "api_error", "no connection"))
            answers.append(Answer(values, flags=("seen",)))
        return answers


@pytest.fixture
def data(tmp_path):
    cases = []
    for k in range(8):
        Pillow.new("RGB", (8, 8), (k * 30, 10, 10)).save(tmp_path / f"{k}.png")
        cases.append(
            Case(f"c{k}", (Image(f"{k}.png", modality="clinical"),), patient_id=f"p{k // 2}", diagnosis=("abc"[k % 3],))
        )
    narratives = [
        Narrative(case.id, system, f"text of {system} about {case.id}") for case in cases for system in ("x", "y")
    ]
    return tmp_path, cases, narratives


def test_every_planned_score_has_one_state(data, tmp_path):
    root, cases, narratives = data
    narratives += [
        Narrative("c1", "z", "REFUSE"),
        Narrative("c2", "z", "<think>only</think>"),
        Narrative("c3", "z", "ok"),
    ]
    cases[3] = Case("c3", (Image("missing.png"),))
    done = score(cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root)
    assert sum(done.states.values()) == done.planned == len(narratives) * 6
    assert done.states == {"scored": 84, "refused": 6, "input_error": 24}
    frame = read_ratings(tmp_path / "run" / "ratings.jsonl", RUBRIC)
    assert len(frame) == done.planned
    reasons = frame.filter(frame["state"] == "input_error")["reason"].unique().to_list()
    assert any("missing.png" in reason for reason in reasons) and any("nothing is left" in reason for reason in reasons)
    assert verify_run(tmp_path / "run").problems == ()


def test_more_pictures_than_the_judge_takes_is_an_error_and_never_the_first(data):
    root, cases, _ = data
    case = Case("two", (Image("1.png"), Image("2.png")))
    rating = ask_one(case, Narrative("two", "x", "t"), RUBRIC, Colour(), root)
    assert {s.state for s in rating.scores.values()} == {"input_error"}
    assert "2 pictures and this judge takes 1" in rating.scores["Safety"].reason


def test_a_run_is_taken_up_where_it_stopped_and_asks_nothing_twice(data, tmp_path):
    root, cases, narratives = data
    whole = Colour()
    score(cases, narratives, RUBRIC, whole, tmp_path / "whole", root=root)

    class Dies(Colour):
        def answer(self, questions):
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().answer(questions)

    broken, second = Dies(), Colour()
    with pytest.raises(KeyboardInterrupt):
        score(cases, narratives, RUBRIC, broken, tmp_path / "run", root=root)
    done = score(cases, narratives, RUBRIC, second, tmp_path / "run", root=root)
    assert done.resumed == 6 and done.complete
    assert broken.asked + second.asked == whole.asked  # the same batches, each once
    assert (tmp_path / "run" / "ratings.jsonl").read_bytes() == (tmp_path / "whole" / "ratings.jsonl").read_bytes()


def test_only_api_errors_are_asked_again(data, tmp_path):
    root, cases, _ = data
    narratives = [Narrative("c0", "x", "BROKEN"), Narrative("c1", "x", "REFUSE"), Narrative("c2", "x", "fine")]
    first = score(cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root)
    assert not first.complete and first.states["api_error"] == 6
    again = Colour()
    again.shift = 1.0  # it would say something else now: what was final must stay
    before = {
        r["case_id"]: r["score"]
        for r in read_ratings(tmp_path / "run" / "ratings.jsonl", RUBRIC).iter_rows(named=True)
        if r["dimension"] == "Safety"
    }
    second = score(cases, narratives, RUBRIC, again, tmp_path / "run", root=root)
    assert len(again.asked) == 1 and second.states == first.states
    rows = read_ratings(tmp_path / "run" / "ratings.jsonl", RUBRIC)
    after = {r["case_id"]: r["score"] for r in rows.iter_rows(named=True) if r["dimension"] == "Safety"}
    assert len(rows) == 18
    assert after == before


def test_rows_that_were_asked_again_keep_their_place(data, tmp_path):
    root, cases, narratives = data

    class Fails(Colour):
        def answer(self, questions):
            answers = super().answer(questions)
            down = Answer(dict.fromkeys(RUBRIC.names, Score(None, "api_error", "no connection")))
            return [down if '"c1"' in q.key else a for q, a in zip(questions, answers, strict=True)]

    score(cases, narratives, RUBRIC, Colour(), tmp_path / "whole", root=root, probes=("blank",))
    assert not score(cases, narratives, RUBRIC, Fails(), tmp_path / "run", root=root, probes=("blank",)).complete
    done = score(cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root, probes=("blank",))
    assert done.complete and done.resumed == 28
    for table in ("ratings.jsonl", "probe-blank.jsonl"):
        assert (tmp_path / "run" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()


def test_repeats_are_planned_between_narratives_and_probes(data):
    _, cases, narratives = data
    items = plan(cases, narratives, ["blank"], repeats=3)
    assert [item.repeat for item in items] == [0] * 16 + [1] * 16 + [2] * 16 + [0] * 16
    assert len({item.key for item in items}) == 64
    assert items[:16] == plan(cases, narratives) and {item.shown.probe for item in items[48:]} == {"blank"}


def test_changed_pictures_refuse_to_resume(data, tmp_path):
    root, cases, narratives = data
    score(cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root)
    Pillow.new("RGB", (8, 8), (1, 2, 3)).save(root / "3.png")
    with pytest.raises(InputError, match="pictures"):
        score(cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root)


def test_a_probe_that_fails_leaves_the_run_incomplete(data, tmp_path):
    root, cases, narratives = data

    class NoBlank(Colour):
        def answer(self, questions):
            answers = super().answer(questions)
            down = Answer(dict.fromkeys(RUBRIC.names, Score(None, "api_error", "no connection")))
            return [down if q.key.startswith("blank") else a for q, a in zip(questions, answers, strict=True)]

    assert not score(cases, narratives, RUBRIC, NoBlank(), tmp_path / "run", root=root, probes=("blank",)).complete


def test_text_that_is_not_unicode_ends_in_a_state(data, tmp_path):
    root, cases, narratives = data
    done = score(cases, [*narratives, Narrative("c1", "z", "a\ud800b")], RUBRIC, Colour(), tmp_path / "run", root=root)
    assert done.states["input_error"] == 6


def test_ids_come_out_as_the_benchmark_spells_them(data, tmp_path):
    root, cases, _ = data
    score(cases, [Narrative(" C1", "z", "text")], RUBRIC, Colour(), tmp_path / "run", root=root)
    assert set(read_ratings(tmp_path / "run" / "ratings.jsonl", RUBRIC)["case_id"]) == {"c1"}


def test_changed_texts_or_settings_refuse_to_resume(data, tmp_path):
    root, cases, narratives = data
    score(cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root)
    changed = [Narrative(n.case_id, n.system, n.text + "!") for n in narratives]
    with pytest.raises(InputError, match="texts"):
        score(cases, changed, RUBRIC, Colour(), tmp_path / "run", root=root)
    with pytest.raises(InputError, match="seed"):
        score(cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root, seed=3)


def test_narratives_without_case_or_twice_are_refused(data):
    _, cases, narratives = data
    with pytest.raises(InputError, match="nowhere"):
        plan(cases, [*narratives, Narrative("nowhere", "x", "t")])
    with pytest.raises(InputError, match="twice"):
        plan(cases, [*narratives, narratives[0]])
    with pytest.raises(InputError, match="unknown probe"):
        plan(cases, narratives, ["mirror"])


def test_probes_change_the_picture_and_nothing_else(data, tmp_path):
    root, cases, narratives = data
    done = score(
        cases, narratives, RUBRIC, Colour(), tmp_path / "run", root=root, probes=("swap", "blank", "wrong-patient")
    )
    assert done.planned == len(narratives) * 6  # probes are not results
    own = {
        (r["case_id"], r["system"], r["dimension"]): r["score"]
        for r in read_ratings(tmp_path / "run" / "ratings.jsonl", RUBRIC).iter_rows(named=True)
    }
    by_id = {case.id: case for case in cases}
    seen = set()
    probed = pl.concat(
        [read_ratings(tmp_path / "run" / f"probe-{p}.jsonl", RUBRIC) for p in ("swap", "blank", "wrong-patient")]
    )
    for row in probed.iter_rows(named=True):
        flags = dict(flag.split(":", 1) for flag in row["flags"] if ":" in flag)
        seen.add(flags["probe"])
        if row["dimension"] == "Safety":
            assert row["score"] == own[row["case_id"], row["system"], "Safety"]
        elif row["dimension"] == "Accuracy":
            shown, case = by_id[flags["shown"]], by_id[row["case_id"]]
            expected = GREY[0] if flags["probe"] == "blank" else 30 * int(shown.id[1:])
            assert row["score"] == pytest.approx(expected / 255 * 5)
            if flags["probe"] == "swap":
                assert shown.diagnosis != case.diagnosis and shown.patient_id != case.patient_id
            if flags["probe"] == "wrong-patient":
                assert shown.patient_id != case.patient_id and shown.diagnosis == case.diagnosis
    assert seen == {"swap", "blank", "wrong-patient"}


def test_a_case_without_picture_or_partner_says_why():
    lonely = [Case("a", (Image("a.png"),), diagnosis=("x",)), Case("b")]
    pictures = choose_pictures(lonely, "swap", 0)
    assert "no other case fits" in pictures["a"].problem and "no picture" in pictures["b"].problem


def test_replay_reads_recorded_answers_strictly(data, tmp_path):
    root, cases, narratives = data
    scores = ", ".join(f'"{name}": 4' for name in RUBRIC.names)
    rows = [
        {"case_id": n.case_id, "system": n.system, "answer": f'Fine. {{"scores": {{{scores}}}}}'}
        for n in narratives[:3]
    ]
    rows[1]["answer"] = "I would say 4 of 5."
    rows[2]["finish_reason"] = "length"
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    done = score(cases, narratives[:4], RUBRIC, open_judge(f"replay:{file}", RUBRIC), tmp_path / "run", root=root)
    assert done.states == {"scored": 6, "truncated": 6, "unparsable": 6, "skipped": 6}
    file.write_text(file.read_text() + "\n" + json.dumps(rows[0]))
    with pytest.raises(InputError, match="line 4: a second answer"):
        open_judge(f"replay:{file}", RUBRIC)
    file.write_text("{}")
    with pytest.raises(InputError, match="line 1"):
        open_judge(f"replay:{file}", RUBRIC)


def test_unknown_judges_name_the_known_ones():
    with pytest.raises(InputError, match="known: embedded"):
        open_judge("gpt-9", RUBRIC)


def test_key_keeps_what_tells_narratives_apart():
    assert narrative_key("a|b", "c", "arm", 0) != narrative_key("a", "b|c", "arm", 0)
