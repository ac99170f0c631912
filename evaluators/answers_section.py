"""Answers to closed questions as tables: what a system reaches on each question and group, beside the majority."""

from __future__ import annotations

from collections import Counter

from ..judge.escape import escape_markdown
from .answers import EVERY, AnswersResult, QuestionScores
from .markdown import NOTHING, Footnotes, bullet, cell, names, paragraph, table

MOST_LISTED = 10  # strange answers written out per system
_ABOUT = """
Credit: share right (single, open) or shared options over the larger of both sets (multi, and sub-questions that are
scored together). Majority: the commonest gold answer given to every case. Mentioned: credit where the gold says more
than "not mentioned". Not answered counts as wrong. Brackets hold 95 % intervals (patients redrawn)."""


def answers_section(found: AnswersResult) -> list[str]:
    """Markdown lines, foreign text escaped: groups and questions of each system, then answers off the options."""
    lines = ["## Closed questions", "", *paragraph(" ".join(_ABOUT.split()))]
    for system in dict.fromkeys(one.system for one in found.questions):
        questions = [one for one in found.questions if one.system == system]
        groups = [one for one in found.groups if one.system == system]
        short = names([one.question for one in (*questions, *groups)])
        foot = Footnotes()
        rows = [_row(one, short[one.question], foot) for one in (*questions, *groups)]
        lines += [f"### {escape_markdown(system or 'answers')}", ""]
        head = [
            "Question",
            "Kind",
            "Credit",
            "Majority",
            "Above it",
            "F1, macro",
            "Exact",
            "Mentioned",
            "n",
            "No answer",
        ]
        lines += [*table(head, rows), *foot.lines()]
        strange = [one for one in found.strange if one.system == system]
        for one in strange[:MOST_LISTED]:
            place = f"{escape_markdown(one.case_id)}, {escape_markdown(one.question_id)}"
            lines += bullet(f"{place}: '{escape_markdown(one.value)}' is scored as wrong: {one.why}"
                            if "no gold" not in one.why else f"{place}: not scored: {one.why}")  # fmt: skip
        if (more := len(strange) - MOST_LISTED) > 0:
            counts = ", ".join(f"{why} ({n})" for why, n in Counter(one.why for one in strange).items())
            lines += bullet(f"and {more} more; in all: {counts}")
        lines += [""] if strange else []
    return [*lines, *(line for note in found.notes for line in bullet(escape_markdown(note)))]


def _row(one: QuestionScores, name: str, foot: Footnotes) -> list[str]:
    n = one.counts["n"]
    macro, exact = one.results.get("macro_f1"), one.results.get("exact") or one.results.get("matched")
    share = next(iter(one.baseline.values()))
    return [
        f"**{name}**" if one.question == EVERY else name, one.kind, cell(one.credit, foot, n),
        cell(share, foot, n, interval=False), cell(one.above, foot, n),
        cell(macro, foot, n, interval=False) if macro else NOTHING,
        cell(exact, foot, n, interval=False) if exact else NOTHING,
        cell(one.when_mentioned, foot, n, interval=False), str(n), str(one.counts["unanswered"]),
    ]  # fmt: skip
