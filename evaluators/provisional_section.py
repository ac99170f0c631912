"""The provisional card as a section of a report."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .markdown import NOTHING, Footnotes, cell, names, number, paragraph, percent, table
from .probes import LEAST
from .provisional import ANSWERS, SILENT, TOO_FEW, DoseResponse, ProvisionalCard

TITLE = "## PROVISIONAL: no expert was asked; this is not a licence"
_ABOUT = """
Copies of clean texts hold one planted fault each, at rising severity. Each copy is compared with its own clean text. A
dimension that a fault aims at answers to it if its score falls with severity: the interval of the slope lies below 0,
a test agrees that allows for the number of pairs (Holm), and the mean change is at least {least}. Without clean: the
slope among the copies alone, near 0 if a judge sees that something is wrong and not how much. Monotone: texts whose
score never rises with severity and ends lower. Tau-b: order of scores within texts, -1 if every step falls."""
_SPECIFIC = """
Dimensions that a fault should leave alone. Moves: those whose mean change is at least {least} by the same test; the
largest mean change of all of them stands beside. Dimensions that may well suffer along with a fault are left out."""
_HARMLESS = """
False alarms: copies that say the same in other words. Their scores should stay. Moved: changed by more than 0.5."""
_LIMITS = """
What this cannot say: faults planted by rule are not those that models make, no clinician has reviewed them, and what a
fault should cost nobody has rated. It can fail a judge; it cannot license one."""


def provisional_section(card: ProvisionalCard) -> list[str]:
    """The card in Markdown, at most 120 columns wide; the first line says that it is provisional."""
    foot = Footnotes()
    aimed, others = card.with_role("lower"), card.with_role("same")
    harmless = [name for name in _faults(card) if all(r.role == "same" for r in card.results if r.fault == name)]
    label = names(list(dict.fromkeys(r.fault for r in card.results)))
    lines = [TITLE, "", *paragraph(_summary(card, aimed)), *paragraph(_ABOUT.strip().format(least=LEAST))]
    severities = sorted({s for r in aimed for s in r.scores})
    rows = [
        [
            label[r.fault], escape_markdown(r.dimension), str(r.texts),
            *(_mean(r, severity) for severity in severities), cell(r.slope, foot, r.slope.n),
            cell(r.grading, foot, r.grading.n, interval=False),
            _share(r, foot), cell(r.tau, foot, r.tau.n, interval=False), r.verdict,
        ]
        for r in aimed
    ]  # fmt: skip
    header = ["Fault", "Aims at", "Texts", *("Clean" if not s else f"Sev. {s}" for s in severities), "Slope per step",
              "Without clean", "Monotone", "Tau-b", "Verdict"]  # fmt: skip
    lines += table(header, rows, left=2) if rows else paragraph("No fault that aims at a dimension was rated.")
    spared = [(name, [r for r in others if r.fault == name]) for name in _faults(card) if name not in harmless]
    spread = [_spread(label[name], found) for name, found in spared if found]
    if spread:
        header = ["Fault", "Unaimed", "Moves", "Largest change", "In"]
        lines += [*paragraph(_SPECIFIC.strip().format(least=LEAST)), *table(header, spread)]
    for name in harmless:
        rows = [
            [escape_markdown(r.dimension), str(r.pairs), cell(r.change, foot, r.pairs),
             cell(r.absolute_change, foot, r.pairs, interval=False), _percent(r), r.verdict]
            for r in others if r.fault == name
        ]  # fmt: skip
        header = [f"{label[name]}", "Copies", "Mean change", "Absolute", "Moved", "Verdict"]
        lines += [*paragraph(_HARMLESS.strip()), *table(header, rows)]
    lines += paragraph(_LIMITS.strip())
    for note in card.notes:
        lines += paragraph(escape_markdown(note))
    return [*lines, *foot.lines()]


def _summary(card: ProvisionalCard, aimed: list[DoseResponse]) -> str:
    counts = {word: sum(r.verdict == word for r in aimed) for word in (ANSWERS, SILENT, TOO_FEW)}
    said = "; ".join(f"{word}: {n}" for word, n in counts.items() if n) or "none"
    planned, scored = sum(r.planned for r in card.results), sum(r.pairs for r in card.results)
    judge = f"Judge: {escape_markdown(card.judge)} (rubric {escape_markdown(card.rubric)})."
    coverage = f"{scored} of {planned} scores of copies have a clean one beside them."
    return f"{judge} Of {len(aimed)} pairs of a fault and a dimension that it aims at, {said}. {coverage}"


def _faults(card: ProvisionalCard) -> list[str]:
    return list(dict.fromkeys(r.fault for r in card.results))


def _mean(found: DoseResponse, severity: int) -> str:
    mean = found.scores.get(severity)
    return NOTHING if mean is None or mean.value is None else number(mean.value)


def _share(found: DoseResponse, foot: Footnotes) -> str:
    value = found.monotone.value
    return NOTHING + foot.mark(found.monotone.reason) if value is None else percent(value)


def _percent(found: DoseResponse) -> str:
    return NOTHING if found.moved.value is None else percent(found.moved.value)


def _spread(fault: str, found: list[DoseResponse]) -> list[str]:
    """How many of the dimensions that should stay move, and the one that moves most."""
    known = [(r.change.value, r.dimension) for r in found if r.change.value is not None]
    moves = sum(r.verdict == ANSWERS for r in found)
    undecided = sum(r.verdict == TOO_FEW for r in found)
    value, where = max(known, key=lambda pair: abs(pair[0]), default=(None, NOTHING))
    said = NOTHING if undecided == len(found) else str(moves)
    return [fault, str(len(found)), said, NOTHING if value is None else number(value), escape_markdown(where)]
