"""`evaluate --adjudicate`: a model is asked about unmatched items, each question once, and the answers are kept."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..evaluators.adjudication import unmatched_items
from ..evaluators.adjudication_question import OFFERED, TEMPLATE, TEMPLATE_ID, question_text, read_verdict
from ..evaluators.diagnosis import DiagnosisResult
from ..judge.errors import BusyError, InputError
from ..judge.records import Narrative
from . import output
from .remote import PRIVATE, Remote, is_remote

if TYPE_CHECKING:
    from ..judge.calls.budget import Spent
    from ..judge.calls.chat import Request
    from ..judge.calls.pump import Outcome
    from ..judge.journal import Entry, Journal

SETTINGS = {"temperature": 0.0, "max_tokens": 4096}  # as of a judge behind an API: a model may think first
ANSWER_TOKENS = 60  # of a JSON object with one word; for --dry-run
ABOUT = ("about", "adjudication")  # kind and key of the first line, by which the file is known


class Question(NamedTuple):
    """One item and gold that the list could not bring together; `text`: as it is sent; `key`: of the answer."""

    key: str
    text: str
    item: str
    gold: str
    times: int


class Asked(NamedTuple):
    """Answers by key (relation), and what became of all questions; `stopped`: why asking ended early, "" if not."""

    judge: str
    answers: dict[str, str]
    counts: dict[str, int]
    spent: dict[str, Any] | None
    stopped: str = ""

    @property
    def complete(self) -> bool:
        return not self.counts["open"]


def questions_of(result: DiagnosisResult, remote: bool, private_words: str) -> list[Question]:
    """What is to be asked, the most frequent first; words that may name a patient are dealt with by the rule."""
    from ..judge.private_words import redact, scan

    if private_words not in PRIVATE:
        raise InputError(f"--private-words is one of {', '.join(PRIVATE)}, not '{private_words}'")
    rows = list(unmatched_items(result).iter_rows(named=True))
    if remote and private_words == "refuse" and (hits := sum(bool(scan(row["item"])) for row in rows)):
        raise InputError(
            f"{hits} of {len(rows)} unmatched items hold what may name a patient; --private-words redact puts tags in "
            "its place, send leaves it as it is"
        )
    tag = remote and private_words == "redact"
    said = [redact(row["item"], row["key"])[0] if tag else row["item"] for row in rows]
    return [
        Question(row["key"], question_text(text, row["gold"]), row["item"], row["gold"], row["times"])
        for row, text in zip(rows, said, strict=True)
    ]


def adjudicate(result: DiagnosisResult, judge: str | None, file: Path, remote: Remote, private_words: str) -> Asked:
    """Ask what the file does not answer yet (nothing, without a judge), and return every answer to these questions."""
    if judge is not None and not is_remote(judge):
        raise InputError(f"--adjudicate takes endpoint:URL#MODEL or litellm:PROVIDER/MODEL, not '{judge}'")
    if judge is None and not file.exists():
        raise InputError(f"no answers at {file}; name the model to ask with --adjudicate")
    specs = [judge] if judge else []
    questions = questions_of(result, bool(remote.remote_hosts(specs)), private_words)
    stopped, failed = "", 0
    with _opened(file) as journal:
        name = judge or _only_judge(journal, file)
        kept = _kept(journal, name)
        if judge is not None and (missing := [q for q in questions if q.key not in kept]):
            remote.open()
            consent = remote.permission(specs, [], _as_narratives(questions), Path("."))
            if consent:
                journal.append([(name, consent)], "consent")
            stopped, failed = _ask(journal, name, missing, remote)
            kept = _kept(journal, name)
        spent = _spent_before(journal, name)
    own = {q.key: kept[q.key] for q in questions if q.key in kept}
    answers = {key: data["relation"] for key, data in own.items() if data["relation"]}
    counts = {
        "questions": len(questions), "answered": len(answers), "unreadable": len(own) - len(answers),
        "open": len(questions) - len(own), "failed_now": failed,
    }  # fmt: skip
    return Asked(name, answers, counts, {k: getattr(spent, k) for k in ("calls", "tokens", "money")}, stopped)


def foretell(result: DiagnosisResult, judge: str | None, file: Path, remote: Remote, private: str) -> dict[str, Any]:
    """--dry-run: how many questions there are, how many are answered, what the rest would cost, and the consent."""
    from ..judge.calls.prices import text_tokens

    if judge is not None and not is_remote(judge):
        raise InputError(f"--adjudicate takes endpoint:URL#MODEL or litellm:PROVIDER/MODEL, not '{judge}'")
    specs = [judge] if judge else []
    questions = questions_of(result, bool(remote.remote_hosts(specs)), private)
    there = _answered(file, judge)
    todo = [q for q in questions if q.key not in there]
    rows: dict[str, Any] = {
        "questions": len(questions), "of unmatched items": sum(q.times for q in questions), "judge": judge or "none",
        "answers": str(file), "answered already": len(questions) - len(todo), "calls": len(todo) if judge else 0,
    }  # fmt: skip
    if judge:
        tokens, answers = sum(text_tokens(q.text) for q in todo), ANSWER_TOKENS * len(todo)
        price = remote.price(judge)
        cost = price(tokens, answers) if price else None
        rows |= {"tokens sent, about": tokens, "tokens answered, about": answers}
        rows["cost, about"] = None if cost is None else round(cost, 4)
    if template := remote.consent_template(specs, [], _as_narratives(questions), Path(".")):
        rows["consent_template"] = template
    return rows


def _as_narratives(questions: list[Question]) -> list[Narrative]:
    """The questions as texts that a consent can name by their hash."""
    return [Narrative(q.key, "question", q.text) for q in questions]


def _ask(journal: Journal, judge: str, questions: list[Question], remote: Remote) -> tuple[str, int]:
    """Ask and journal; why it ended early ("" if it did not), and how many questions failed."""
    from ..judge.calls.chat import CallsStopped
    from ..judge.calls.pump import pump
    from ..judge.run import sigterm_interrupts

    by_key = {q.key: q for q in questions}
    budget = remote.budget(judge, _spent_before(journal, judge))
    jobs = ((q.key, lambda q=q: _request(q)) for q in questions)
    stopped, failed, done = "", 0, 0
    calls = pump(_route(judge, remote), jobs, pace=remote.pace(), budget=budget)
    with output.progress(f"asking {judge}") as tick, sigterm_interrupts(), closing(calls) as lists:
        try:
            for outcomes in lists:
                spent = {"spent": budget.spent._asdict()}  # so far, in the same write as what it was spent on
                told = [((judge, str(o.key)), _record(by_key[str(o.key)], o) | spent) for o in outcomes]
                lost = [row for row in told if row[1]["state"] == "api_error"]
                journal.append([row for row in told if row[1]["state"] != "api_error"])
                journal.append(lost, "failed")
                failed, done = failed + len(lost), done + len(told)
                tick(done, len(questions))
        except CallsStopped as why:
            stopped = str(why)
    journal.append([(judge, {"spent": budget.spent._asdict()})], "spent")  # with what a stop gave up in flight
    return stopped, failed


def _request(question: Question) -> Request:
    from ..judge.calls.chat import Request

    return Request(question.key, (question.text,), settings=SETTINGS)


def _record(question: Question, outcome: Outcome) -> dict[str, Any]:
    """What is kept of one question: with its words, since an answer is worth nothing without them."""
    row: dict[str, Any] = {
        "item": question.item, "gold": question.gold, "template": TEMPLATE_ID, "relation": None, "reason": "",
        "attempts": list(outcome.attempts), "paid": outcome.paid,
    }  # fmt: skip
    if (reply := outcome.reply) is None:
        state = "filtered" if outcome.kind == "filtered" else "api_error"
        status = f" (status {outcome.status})" if outcome.status else ""
        return row | {"state": state, "reason": f"{outcome.kind}{status}"}
    row |= {
        "answer": reply.text, "model": reply.model, "fingerprint": reply.fingerprint, "cost": reply.cost,
        "input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens,
    }  # fmt: skip
    if reply.refusal:
        return row | {"state": "refused", "reason": "the model refused"}
    verdict = read_verdict(reply.text)
    state = "answered" if verdict.relation else "unreadable"
    return row | {"state": state, "relation": verdict.relation, "reason": verdict.reason}


def _route(judge: str, remote: Remote) -> Any:
    kind, _, rest = judge.partition(":")
    if kind == "endpoint":
        from ..judge.calls.endpoint import EndpointRoute

        url, _, model = rest.rpartition("#")
        return EndpointRoute(url, model, **remote.route(judge))
    from ..judge.calls.hosted import HostedRoute

    return HostedRoute(rest, **remote.route(judge))


@contextmanager
def _opened(path: Path) -> Iterator[Journal]:
    """The file of answers, held by this process alone; created if it is not there."""
    from ..judge.journal import open_journal

    _refuse_strange(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{path} is in use by another process; wait for it or name another file") from error
        journal, torn = open_journal(path)
        try:
            if torn:
                output.say(f"{path}: {torn.lines} lines at its end were cut short; they are kept in {torn.file}")
            if not journal.lines:
                journal.append([(ABOUT[1], {"format": 1, "template": TEMPLATE, "relations": OFFERED})], ABOUT[0])
            yield journal
        finally:
            journal.close()
    finally:
        os.close(lock)


def _refuse_strange(path: Path) -> None:
    """InputError for a file that holds anything else, before it is opened for writing."""
    from ..judge.journal import decode

    if not path.exists():
        return
    with path.open("rb") as file:
        line = file.readline()
    entry = decode(line) if line else None
    torn = not line.endswith(b"\n") and line.startswith(b'{"crc":"')
    if line and not torn and (entry is None or (entry.kind, entry.key) != ABOUT):
        raise InputError(f"{path} is no file of adjudications; name a new one with --adjudication")


def _kept(journal: Journal, judge: str) -> dict[str, Mapping[str, Any]]:
    return _of_judge(journal.entries(), judge)


def _of_judge(entries: Iterator[Entry], judge: str) -> dict[str, Mapping[str, Any]]:
    """The final results of one judge by question."""
    return {str(e.key[1]): e.data for e in entries if isinstance(e.key, tuple) and e.key[0] == judge}


def _answered(path: Path, judge: str | None) -> set[str]:
    """Questions that the file answers, without opening it for writing."""
    from ..judge.journal import decode

    _refuse_strange(path)
    if not path.exists() or judge is None:
        return set()
    with path.open("rb") as file:
        entries = (entry for line in file if (entry := decode(line)) is not None and entry.kind == "result")
        return set(_of_judge(entries, judge))


def _only_judge(journal: Journal, path: Path) -> str:
    there = journal.keys()
    judges = sorted({str(key[0]) for key in there if isinstance(key, tuple)})
    if len(judges) != 1:
        raise InputError(f"{path} holds answers of {', '.join(judges) or 'nobody'}: name one with --adjudicate")
    return judges[0]


def _spent_before(journal: Journal, judge: str) -> Spent:
    from ..judge.calls.budget import Spent

    own = (
        Spent(**entry.data["spent"])
        for kind in ("result", "failed", "spent") for entry in journal.entries(kind)
        if judge in (entry.key, entry.key[0])
    )  # fmt: skip
    return max(own, key=lambda spent: spent.calls, default=Spent())
