"""Closed questions: scores by hand and against sklearn and the published scorer; "not mentioned" is an answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from dermjudge.evaluators.answer_units import MOST, TABLES, load_questions, plain
from dermjudge.evaluators.answers import EVERY, score_answers
from dermjudge.evaluators.answers_section import answers_section
from dermjudge.judge.answers import Answer, Question
from dermjudge.judge.errors import InputError

ONE = Question("q", "single", "g", "Colour?", ("red", "brown", "blue"))
MANY = [Question(f"x{i}", "open") for i in range(MOST)]
MULTI = Question("m", "multi", "m", "Surface?", ("scale", "crust", "ulcer"))


def answers(values, system: str = "", question: str = "q") -> list[Answer]:
    """Of cases c0, c1 ...; a text, a tuple of texts, or None for no answer."""
    rows = [() if v is None else (v,) if isinstance(v, str) else v for v in values]
    return [Answer(f"c{i}", question, row, system) for i, row in enumerate(rows)]


def test_single_by_hand() -> None:
    gold, said = ["red", "red", "brown", "brown", "blue"], ["red", "brown", "brown", "green", None]
    found = score_answers(answers(gold), answers(said, "s"), [ONE], resamples=20)
    one = found.of("q")
    assert one.results["accuracy"].value == 0.4
    # red: 1 shared of 2 + 1; brown: 1 of 2 + 2; blue: 0 of 1 + 0
    assert one.results["macro_f1"].value == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    assert (one.counts["n"], one.counts["answered"], one.counts["unanswered"], one.counts["strange"]) == (5, 4, 1, 1)
    assert (one.answered_only.value, one.answered_only.n) == (0.5, 4)
    assert (one.majority, one.baseline["accuracy"].value, one.above.value) == ("red", 0.4, 0.0)
    assert one.baseline["macro_f1"].value == pytest.approx((4 / 7 + 0 + 0) / 3)
    assert [(s.case_id, s.value, s.why) for s in found.strange] == [("c3", "green", "none of the options")]
    assert one.results["macro_f1"].low is None and "20 are needed" in (one.results["macro_f1"].reason or "")


def test_multi_by_hand() -> None:
    gold = [("scale", "crust"), ("ulcer",), ("scale",), ("crust", "ulcer")]
    said = [("scale",), ("ulcer",), ("crust", "blister"), None]
    one = score_answers(answers(gold, "", "m"), answers(said, "s", "m"), [MULTI], resamples=20).of("m")
    value = {name: found.value for name, found in one.results.items()}
    assert value["partial"] == pytest.approx((1 / 2 + 1 + 0 + 0) / 4)
    assert value["jaccard"] == pytest.approx((1 / 2 + 1 + 0 + 0) / 4)
    assert value["exact"] == 0.25
    assert value["micro_f1"] == pytest.approx(2 * 2 / (6 + 4))  # the blister counts as a false tick
    assert value["macro_f1"] == pytest.approx((2 / 3 + 0 / 3 + 2 / 3) / 3)


def test_partial_and_jaccard_differ_where_each_side_has_its_own() -> None:
    one = score_answers(answers([("scale", "crust")], "", "m"), answers([("scale", "ulcer")], "s", "m"), [MULTI],
                        resamples=20).of("m")  # fmt: skip
    assert (one.results["partial"].value, one.results["jaccard"].value) == (0.5, pytest.approx(1 / 3))


def test_f1_is_sklearns() -> None:
    draw = np.random.default_rng(0)
    gold, said = draw.choice(ONE.options, 80), draw.choice(ONE.options[:2], 80)
    one = score_answers(answers(gold), answers(said, "s"), [ONE], resamples=20).of("q")
    assert one.results["macro_f1"].value == pytest.approx(f1_score(gold, said, average="macro"))
    assert one.results["macro_f1"].low < one.results["macro_f1"].value < one.results["macro_f1"].high

    true, told = draw.random((60, 3)) < 0.5, draw.random((60, 3)) < 0.5
    true[:, 0] |= ~true.any(axis=1)
    told[:, 1] |= ~told.any(axis=1)

    def ticked(table):
        return [tuple(np.array(MULTI.options)[row]) for row in table]

    one = score_answers(answers(ticked(true), "", "m"), answers(ticked(told), "s", "m"), [MULTI], resamples=20).of("m")
    for name in ("micro", "macro"):
        assert one.results[f"{name}_f1"].value == pytest.approx(f1_score(true, told, average=name))
    assert one.results["jaccard"].value == pytest.approx(jaccard_score(true, told, average="samples"))


def test_not_mentioned_is_an_answer() -> None:
    gold = ["Not mentioned", "not mentioned", "red", "red"]
    said = ["not  Mentioned.", "red", "Not mentioned", "red"]
    found = score_answers(answers(gold), answers(said, "s"), [ONE], resamples=20)
    one = found.of("q")
    assert (one.results["accuracy"].value, one.counts["unanswered"], found.strange) == (0.5, 0, ())
    assert (one.counts["gold_not_mentioned"], one.counts["said_not_mentioned"]) == (2, 2)
    assert (one.when_mentioned.value, one.when_mentioned.n) == (0.5, 2)
    # no answer is another thing, and no match for a gold "not mentioned"
    silent = score_answers(answers(gold), answers([None, None, "red", "red"], "s"), [ONE], resamples=20).of("q")
    assert (silent.results["accuracy"].value, silent.counts["unanswered"], silent.when_mentioned.value) == (0.5, 2, 1.0)


def official(gold: dict, said: dict) -> float:
    """`get_accuracy_score` of MEDIQA-MAGIC 2025, in our words: mean of |shared| / max of both sizes."""
    return float(np.mean([len(gold[k] & said[k]) / max(len(gold[k]), len(said[k])) for k in gold]))


def test_sub_questions_are_scored_together_as_the_published_scorer_does() -> None:
    table, draw = load_questions("dermavqa_das"), np.random.default_rng(3)
    gold, said, true, told = [], [], {}, {}
    for i in range(25):
        for q in table.questions:
            g, s = draw.choice(q.options), draw.choice(q.options[-3:])
            gold.append(Answer(f"e{i}", q.id, (str(g),)))
            said.append(Answer(f"E{i} ", q.id, (str(s),), "s"))  # ids differ in nothing that counts
            true.setdefault((i, q.group), set()).add(str(g))
            told.setdefault((i, q.group), set()).add(str(s))
    found = score_answers(gold, said, table.questions, resamples=64)
    assert found.of(EVERY).credit.value == pytest.approx(official(true, told))
    own = {k: v for k, v in true.items() if k[1] == "CQID020"}
    assert found.of("CQID020").credit.value == pytest.approx(official(own, told))
    assert (found.of("CQID020").kind, found.of("CQID010-001").kind, len(found.questions)) == ("slots", "single", 9)
    text = "\n".join(answers_section(found))
    assert "CQID036-001" in text and "**all questions**" in text and max(map(len, text.splitlines())) <= 120
    json.dumps(found.to_dict(), allow_nan=False)


def test_open_answers_by_words_and_by_diagnosis() -> None:
    question = Question("dx", "open", "dx")
    gold = ["Basal cell carcinoma", "psoriasis", "melanoma", "quux disease"]
    said = ["BCC", "Psoriasis.", "not melanoma", "quux disease"]
    asked = (answers(gold, "", "dx"), answers(said, "s", "dx"), [question])
    one = score_answers(*asked, resamples=20).of("dx")
    assert one.results["exact"].value == 0.5 and "matched" not in one.results
    one = score_answers(*asked, diagnoses=["dx"], resamples=20).of("dx")
    # the list does not hold the last gold, so nothing is said of it
    assert (one.results["matched"].value, one.results["matched"].n) == (pytest.approx(2 / 3), 3)
    with pytest.raises(InputError, match="'q' is no open question; open are dx"):
        score_answers(*asked[:2], [question, ONE], diagnoses=["q"])


def test_groups_average_their_questions_and_intervals_are_by_patient() -> None:
    other = Question("r", "single", "g", "Raised?", ("yes", "no"))
    gold = [*answers(["red"] * 40), *answers(["yes"] * 20, "", "r")]
    said = [*answers(["red", "blue"] * 20, "s"), *answers(["yes"] * 20, "s", "r")]
    found = score_answers(gold, said, [ONE, other], resamples=200)
    group = found.of("g")
    assert (group.credit.value, group.counts["n"], group.baseline["credit"].value) == (pytest.approx(40 / 60), 60, 1.0)
    assert group.above.value == pytest.approx(-1 / 3) and found.of(EVERY).credit.value == group.credit.value
    patients = {f"c{i}": f"p{i % 2 + 2 * (i // 4)}" for i in range(40)}  # both cases of a patient right, or both wrong
    paired = score_answers(gold, said, [ONE, other], patients, resamples=200).of("q").results["accuracy"]
    alone = found.of("q").results["accuracy"]
    assert paired.high - paired.low > 1.2 * (alone.high - alone.low)


def test_strange_answers_are_listed_and_not_guessed() -> None:
    said = [
        Answer("c0", "q", ("red", "blue"), "s"),
        Answer("c1", "q", ("reddish",), "s"),
        Answer("zz", "q", ("red",), "s"),
    ]
    found = score_answers(answers(["red", "red"]), said, [ONE], resamples=20)
    assert found.of("q").results["accuracy"].value == 0.0
    assert [(s.case_id, s.value) for s in found.strange] == [("zz", "red"), ("c0", "red; blue"), ("c1", "reddish")]
    text = "\n".join(answers_section(found))
    assert "scored as wrong: none of the options" in text and "not scored: this case has no gold answer" in text


def test_systems_are_apart_and_foreign_text_is_escaped() -> None:
    found = score_answers(
        answers(["red"]), [*answers(["red"], "<i>a|b</i>"), *answers(["blue"], "b")], [ONE], resamples=20
    )
    assert (found.of("q", "<i>a|b</i>").credit.value, found.of("q", "b").credit.value) == (1.0, 0.0)
    assert "<i>" not in "\n".join(answers_section(found))
    with pytest.raises(InputError, match="2 results for 'q'"):
        found.of("q")


def test_options_that_are_not_known_are_those_of_the_gold_and_it_says_so() -> None:
    found = score_answers(
        answers(["red", "blue"]), answers(["red", "red"], "s"), [Question("q", "single")], resamples=20
    )
    assert found.of("q").credit.value == 0.5 and any("options of q are not known" in note for note in found.notes)


@pytest.mark.parametrize(
    ("gold", "said", "questions", "why"),
    [
        (answers(["mauve"]), answers(["red"], "s"), [ONE], "'mauve' is none of the options"),
        (answers(["red"]), answers(["red"], "s", "w"), [ONE], "no question 'w'"),
        (answers(["red"]), answers(["red", "red"], "s") + answers(["red"], "s"), [ONE], "answered twice"),
        ([], answers(["red"], "s"), [ONE], "no gold answer"),
        (answers(["red"]), [], [ONE], "no system answer"),
        (answers(["a"]), answers(["a"], "s"), [Question("q", "single", "", "", ("a", "A."))], "two options differ"),
        (answers(["a"]), answers(["a"], "s"), [ONE, *MANY],
         "scored one by one"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused(gold, said, questions, why) -> None:
    with pytest.raises(InputError, match=why):
        score_answers(gold, said, questions)


def test_shipped_tables_hold_what_is_published_and_no_more() -> None:
    tables = {name: load_questions(name) for name in TABLES}
    assert (tables["dermabench"].size, tables["dermabench"].questions) == (22, ())
    das = tables["dermavqa_das"]
    stems = {q.group: sum(p.group == q.group for p in das.questions) for q in das.questions}
    assert das.size == 63 and stems == {
        "CQID010": 1, "CQID011": 6, "CQID012": 6, "CQID015": 1, "CQID020": 9, "CQID025": 1, "CQID034": 1, "CQID035": 1,
        "CQID036": 1,
    }  # fmt: skip
    assert all(q.options[-1] == "Not mentioned" and q.id.startswith(q.group) for q in das.questions)
    with pytest.raises(InputError, match="dermabench, dermavqa_das"):
        load_questions("other")


def test_plain_keeps_answers_apart_that_differ() -> None:
    assert plain("< 6 mm") != plain("> 6 mm") and plain("+") != plain("-") and plain("Yes.") == plain(" yes")
