"""One report for a person: who leads, did the judge look, what else was measured, and whether to believe it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..judge.escape import escape_markdown
from .agreement import AgreementResult
from .compare_systems import SystemComparison
from .comparison_sections import system_comparison_section
from .diagnosis import DiagnosisResult
from .leaderboard import Leaderboard
from .markdown import NOTHING, bullet, names, paragraph, percent
from .ppi import PPILeaderboard
from .ppi_section import ppi_section
from .probes import ProbeSummary
from .report_sections import agreement_section, board_section, diagnosis_section, probe_section, triage_section
from .triage import TriageResult

INTENDED_USE = (
    "For comparing systems that write about skin images. Not a medical device; no score here is for a decision about "
    "a single patient."
)
SYNTHETIC = "rendered lesions, generated texts, simulated experts. Nothing here was measured on patients."
SIMULATED = "scores made by rule stand in for experts. Nothing here says how far an expert would agree."
DEMONSTRATION = "a small judge that shows how the toolkit works. It is no clinical instrument."
LONGEST = 48  # characters of one field of the signature; the JSON has the whole
_HOW = (
    "/n is what a value rests on where that is not the n of its row or column; – is undefined, with the reason below. "
    "Nothing missing is filled in."
)
_TEXT_ONLY = "This judge reads the text and sees no picture: what it can rank, the picture was not needed for."
_CALIBRATED = (
    "Calibrated scores draw towards the mean, so differences between systems shrink: for who leads, read the raw "
    "scores or the prediction-powered estimates."
)
_NO_LICENCE = (
    "no expert ratings and no licence of this judge were given",
    "Until experts have rated some of these narratives nobody knows whether the scores may be believed.",
)
_NO_PROBE = ("no probe was run", "Whether this judge looks at the picture is unknown.")
_NO_GOLD = "the narratives were not held against the diagnoses and urgencies of their cases"
_NO_EXPERTS = ("no expert ratings were given", "Without them these scores are for reporting only.")


def write_report(
    *,
    title: str,
    data: str,
    signature: Mapping[str, Any],
    board: Leaderboard,
    text_only: Leaderboard | None = None,
    probes: ProbeSummary | None = None,
    diagnosis: DiagnosisResult | None = None,
    triage: TriageResult | None = None,
    agreement: AgreementResult | None = None,
    ppi: PPILeaderboard | None = None,
    calibrated: Leaderboard | None = None,
    review: int | None = None,
    licence: Sequence[str] = (),
    licence_data: Mapping[str, Any] | None = None,
    systems: SystemComparison | None = None,
    synthetic: bool = False,
    simulated: bool = False,
    demonstration: bool = False,
    planned: int | None = None,
    notes: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """The report as Markdown (made for 120 columns) and as plain JSON values with everything in it.

    `data`: what was judged, in words. `signature`: everything that moves the scores. `board`, `text_only`: the
    leaderboard by the judge and by a judge without pictures; `calibrated`: by the judge on the experts' scale, with the
    number of cases set aside for `review`; `ppi`: what the experts would say; `licence`: its page, first of all.
    `synthetic`: nothing is real; `simulated`: the experts' ratings are not.
    `planned`: narratives that were to be judged, where more than the ratings hold. A section not given is named as not
    run. All foreign text is escaped.
    """
    labels = _labels(board, synthetic, simulated, demonstration, planned)
    own_notes = _notes(diagnosis, triage, agreement, notes)
    lines = [f"# {escape_markdown(title)}", ""]
    for label, meaning in labels:
        lines += [f"> {line}".rstrip() for line in paragraph(f"**{label}**: {meaning}")]
    if labels:
        lines[-1] = ""  # the line after the last banner is not quoted
    lines += _facts(data, signature, board)
    lines += licence if licence else _not_run("Licence", *_NO_LICENCE)
    lines += board_section("Leaderboard by the judge", board)
    if text_only:
        lines += board_section("The same by the text-only judge", text_only, _TEXT_ONLY)
    if calibrated:
        lines += board_section("The same on the experts' scale (calibrated)", calibrated, _CALIBRATED)
        if review is not None:
            lines += paragraph(f"An expert should look at {review} cases: review.jsonl in the run folder says why.")
    if ppi:
        lines += ppi_section(ppi)
    if systems:
        lines += system_comparison_section(systems)
    lines += probe_section(probes) if probes else _not_run("Does the score answer to the picture?", *_NO_PROBE)
    lines += diagnosis_section(diagnosis, board.ranking) if diagnosis else _not_run("Top-k diagnosis", _NO_GOLD)
    lines += triage_section(triage, board.ranking) if triage else _not_run("Triage", _NO_GOLD)
    first = [board.rater, *([text_only.rater] if text_only else [])]
    lines += agreement_section(agreement, first) if agreement else _not_run("Judge beside experts", *_NO_EXPERTS)
    lines += ["## Notes", "", *(line for note in own_notes for line in bullet(escape_markdown(note)))]
    short = names([system for system, _ in board.ranking])
    if cut := [system for system in short if short[system] != escape_markdown(system)]:
        lines += ["", "Names in full:", "", *(line for name in cut for line in bullet(escape_markdown(name)))]
    found = {
        "format": 1,
        "title": title,
        "labels": [label for label, _ in labels],
        "data": data,
        "judge": board.rater,
        "signature": dict(signature),
        "counts": dict(board.counts),
        "licence": licence_data,
        "systems_compared": systems.to_dict() if systems else None,
        "leaderboard": board.to_dict(),
        "text_only": text_only.to_dict() if text_only else None,
        "calibrated": calibrated.to_dict() | {"review_cases": review} if calibrated else None,
        "prediction_powered": ppi.to_dict() if ppi else None,
        "probes": probes.to_dict() if probes else None,
        "diagnosis": diagnosis.to_dict() if diagnosis else None,
        "triage": triage.to_dict() if triage else None,
        "agreement": agreement.to_dict() if agreement else None,
        "notes": own_notes,
        "intended_use": INTENDED_USE,
    }
    return "\n".join(lines).rstrip("\n") + "\n", found


def _not_run(heading: str, why: str, so: str = "") -> list[str]:
    return [f"## {heading}", "", *paragraph(f"Not run: {why}. {so}".rstrip())]


def _labels(
    board: Leaderboard, synthetic: bool, simulated: bool, demonstration: bool, planned: int | None
) -> list[tuple[str, str]]:
    found = [("SYNTHETIC", SYNTHETIC)] if synthetic else [("SIMULATED RATINGS", SIMULATED)] if simulated else []
    found += [("DEMONSTRATION", DEMONSTRATION)] if demonstration else []
    absent = max(0, (planned or 0) - board.counts["narratives"]) * len(board.dimensions)
    if still_open := absent + board.counts["states"].get("api_error", 0):
        total = board.counts["planned"] + absent
        meaning = f"{still_open} scores are still to be asked for; give the same command again to go on."
        found.append((f"INCOMPLETE {total - still_open}/{total}", meaning))
    return found


def _facts(data: str, signature: Mapping[str, Any], board: Leaderboard) -> list[str]:
    counts, settings = board.counts, board.settings
    unit = settings["resampled_unit"]
    of = f" of {counts['clusters']} {unit}s" if unit != "case" else ""
    missing = ", ".join(f"{n} {state}" for state, n in counts["states"].items() if state != "scored")
    fields = (f"{name} {_short(value)}" for name, value in signature.items())
    facts = {
        "Judged": f"{counts['narratives']} narratives of {counts['systems']} systems, on {counts['cases']} cases{of}",
        "Judge": escape_markdown(board.rater)
        + (f", mean of {settings['repeats']} repeats" if settings["repeats"] > 1 else ""),
        "Data": escape_markdown(data),
        "Scores": f"{counts['scored']} of {counts['planned']} planned ({percent(counts['scored'] / counts['planned'])})"
        + (f"; missing: {missing}" if missing else ""),
        "Flags": "; ".join(f"{escape_markdown(f)}: {n} of {counts['narratives']}" for f, n in board.flags.items()),
        "Signature": " · ".join(map(escape_markdown, fields)) or NOTHING,
    }
    lines = [line for name, fact in facts.items() if fact for line in bullet(f"**{name}**: {fact}")]
    redrawn = f"{unit}s are the clusters redrawn {settings['resamples']} times, seed {settings['seed']}"
    how = f"Brackets hold 95 % intervals ({redrawn}; Wilson for rates of diagnosis and triage). {_HOW}"
    lines += ["", *paragraph(how)]
    return [*lines, *(line for note in board.notes for line in paragraph(f"**{note}.**"))]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _notes(
    diagnosis: DiagnosisResult | None,
    triage: TriageResult | None,
    agreement: AgreementResult | None,
    extra: Sequence[str],
) -> list[str]:
    """What a reader has to know before quoting a number; each once."""
    found = [INTENDED_USE]
    for result in (diagnosis, triage, agreement):
        found += result.notes if result else ()
    for name, scored in (("top-k", diagnosis), ("triage", triage)):
        if scored and (n := len(scored.unusable_gold)):
            first = scored.unusable_gold[0]
            where = f"first '{first.label}' of case {first.case_id}: {first.reason}"
            found.append(f"Left out of {name}: {n} gold label{'s' * (n > 1)}, {where}.")
    return list(dict.fromkeys([*found, *extra]))
