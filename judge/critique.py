"""A critique as it is written: per dimension what is wrong, by what it shows, and what would mend it; then a summary.

    Accuracy - colour wrong | red for blue | say blue
    Safety - no fault
    Summary - worst in Accuracy

Several findings of one dimension stand side by side in each part, joined by ", ".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from .rubric import Rubric

NO_FAULT = "no fault"
SUMMARY = "Summary"
PARTS = ("finding", "evidence", "improvement")


class Remark(NamedTuple):
    """What is said of one dimension; `finding` is "" where there is no fault.

    `evidence`: what in the picture or the text shows it; `improvement`: what should stand there.
    """

    finding: str
    evidence: str = ""
    improvement: str = ""

    @property
    def faults(self) -> dict[str, int]:
        """How often each fault is named; a trailing number counts.

        >>> Remark("shape wrong, invented finding 2").faults
        {'shape wrong': 1, 'invented finding': 2}
        """
        found: dict[str, int] = {}
        for words in filter(None, (part.strip() for part in self.finding.split(","))):
            name, number = re.fullmatch(r"(.*?)(?:\s+(\d{1,3}))?", words, re.DOTALL).groups()  # type: ignore[union-attr]
            found[name or words] = found.get(name or words, 0) + int(number or 1)
        return found


def read_remark(text: str) -> Remark:
    """The parts of "FINDING | EVIDENCE | IMPROVEMENT"; missing ones are "", and so is the finding of "no fault".

    >>> read_remark("shape wrong | annular for round | say round")
    Remark(finding='shape wrong', evidence='annular for round', improvement='say round')
    >>> read_remark("no fault")
    Remark(finding='', evidence='', improvement='')
    """
    parts = [part.strip() for part in text.split("|", 2)]
    finding, evidence, improvement = [*parts, "", ""][:3]
    return Remark("" if _is_no_fault(finding) else finding, evidence, improvement)


def write_remark(remark: Remark) -> str:
    """The line of a remark, without its dimension; a bar or a line break in its parts becomes a blank.

    >>> write_remark(Remark("")), write_remark(Remark("unsafe mild", "Wait a year", "see a dermatologist"))
    ('no fault', 'unsafe mild | Wait a year | see a dermatologist')
    """
    if not remark.finding:
        return NO_FAULT
    parts = [_flat(part.replace("|", " ")) for part in remark]
    while not parts[-1]:
        parts.pop()
    return " | ".join(parts)


def read_critique(text: str, rubric: Rubric) -> dict[str, str]:
    """Lines "Name - words" of a critique, by dimension; other lines are not attributed to any.

    >>> from dermjudge.judge.rubric import load_rubric
    >>> read_critique("Accuracy - colour wrong\\nhm", load_rubric("derm6"))
    {'Accuracy': 'colour wrong'}
    """
    lines: dict[str, str] = {}
    for line in text.splitlines():
        name, dash, words = line.strip().partition(" - ")
        if dash and name in rubric.names and name not in lines:
            lines[name] = words.strip()
    return lines


def write_critique(critique: Mapping[str, str], rubric: Rubric) -> str:
    """The critique as one text, a line per dimension in the rubric's order; "" if nothing is said.

    A line of prose is kept as it is, in one line. The summary follows where every dimension has a line in three parts
    or without fault (see `check_critique`).
    """
    said = {name: _flat(critique[name]) for name in rubric.names if critique.get(name, "").strip()}
    lines = [f"{name} - {words}" for name, words in said.items()]
    if lines and not check_critique(said, rubric):
        lines.append(f"{SUMMARY} - {summarise(said, rubric)}")
    return "\n".join(lines)


def summarise(critique: Mapping[str, str], rubric: Rubric) -> str:
    """The last line's words: the dimension with most faults, the first of equals.

    >>> from dermjudge.judge.rubric import load_rubric
    >>> summarise({"Safety": "unsafe mild | Wait a year | see a dermatologist"}, load_rubric("derm6"))
    'worst in Safety'
    """
    counts = {name: sum(read_remark(critique.get(name, "")).faults.values()) for name in rubric.names}
    worst = max(counts, key=lambda name: counts[name])
    return f"worst in {worst}" if counts[worst] else "nothing to add"


def check_critique(critique: Mapping[str, str], rubric: Rubric) -> list[str]:
    """What is wrong with the form of a critique, one sentence each; [] if it is well formed.

    Every dimension of the rubric has a line; a fault has finding, evidence and improvement; no fault has nothing
    behind it; lines of other names ("Summary" aside) are named.

    >>> from dermjudge.judge.rubric import load_rubric
    >>> check_critique({**dict.fromkeys(load_rubric("derm6").names, "no fault"), "Safety": "unsafe mild"},
    ...                load_rubric("derm6"))
    ['Safety: no evidence, no improvement']
    """
    wrong = []
    for name in rubric.names:
        words = critique.get(name, "").strip()
        if not words:
            wrong.append(f"{name}: no line")
            continue
        remark = read_remark(words)
        if remark.finding:
            missing = [f"no {part}" for part, value in zip(PARTS, remark, strict=True) if not value]
        elif _is_no_fault(words.partition("|")[0]):
            missing = ["something stands behind 'no fault'"] if any(remark) else []
        else:
            missing = ["no finding"]
        if missing:
            wrong.append(f"{name}: {', '.join(missing)}")
    return wrong + [
        f"{name[:60]}: no dimension of {rubric.id}" for name in critique if name not in (*rubric.names, SUMMARY)
    ]


def _is_no_fault(words: str) -> bool:
    return words.strip().rstrip(".").casefold() == NO_FAULT


def _flat(text: str) -> str:
    return " ".join(text.split())
