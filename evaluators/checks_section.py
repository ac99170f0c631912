"""The data checks in words: a summary, then only what is remarkable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..judge.escape import escape_markdown
from .markdown import bullet, paragraph, percent

MOST_LISTED = 8  # names or values in one sentence; the rest is counted
MANY_TIES = 0.5  # share of pairs a rater cannot rank, above which it is said


def checks_section(checks: Mapping[str, Any]) -> list[str]:
    """Markdown lines (at most 120 columns, foreign text escaped) about `Panel.checks` or `Votes.checks`.

    First how much there is of everything, then a list of what a reader must know before any number: gaps, strays,
    raters that never vary, ties, use of the scale, adjudication, slots without identity, repeats.
    """
    lines = ["## Data checks", "", *paragraph(_summary(checks))]
    remarks = [remark for find in _FINDERS for remark in find(checks)]
    if not remarks:
        return [*lines, *paragraph("Nothing remarkable.")]
    return [*lines, *(line for remark in remarks for line in bullet(remark)), ""]


def _summary(checks: Mapping[str, Any]) -> str:
    counts = [
        _count(checks["cases"], "case"),
        _count(checks["systems"], "system"),
        _count(checks["items"], "item"),
        f"{_count(checks['expert_ratings'], 'rating')} by {_count(checks['experts'], 'expert')}",
        f"{checks['judge_ratings']} by {_count(checks['judges'], 'judge')}",
    ]
    dimensions = checks["dimensions"]
    twice = [row["items_with_two_ratings"] for row in dimensions]
    again = str(min(twice)) if len(set(twice)) == 1 else f"{min(twice)} to {max(twice)}" if twice else "0"
    return (
        f"{', '.join(counts)} on {_count(len(dimensions), 'dimension')}. Rated by two experts or more: {again} items"
        f"{' per dimension' if len(dimensions) > 1 else ''}. Ratings used: {checks['stage']}."
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - MOST_LISTED
    return ", ".join(parts[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _outside(checks: Mapping[str, Any]) -> list[str]:
    found = checks["out_of_range"]
    if not found["count"]:
        return []
    values = [f"{row['score']:g} ({row['count']}, {row['rater_kind']}s)" for row in found["values"]]
    low, high = found["scale"]
    used = "used as they are, which reproduces others' figures only" if found["used"] else "not used and not clipped"
    return [
        f"**{_count(found['count'], 'score')} outside the scale** {low} to {high} of {checks['rows']} rows: "
        f"{_listed(values)}; {used}."
    ]


def _missing(checks: Mapping[str, Any]) -> list[str]:
    # Slots without identity are filled in order, so that their shares say nothing of any person.
    rows = [row for row in checks["missing"] if row["missing_share"] and (checks["identity"] or row["kind"] == "judge")]
    found = []
    for kind in ("expert", "judge"):
        own = sorted((r for r in rows if r["kind"] == kind), key=lambda r: -r["missing_share"])
        shown = [
            f"{escape_markdown(r['rater'])} {percent(r['missing_share'])} ({r['planned'] - r['n']} of {r['planned']})"
            for r in own
        ]
        if shown:
            of = "items that any expert rated" if kind == "expert" else "items that were asked for"
            found.append(f"Missing per {kind}, of the {of}: {_listed(shown)}.")
    return found


def _constant(checks: Mapping[str, Any]) -> list[str]:
    found = []
    for row in checks["raters"]:
        if row["constant"] and row["n"] > 1:
            found.append(f"{escape_markdown(row['rater'])} on {escape_markdown(row['dimension'])} ({row['n']})")
    return [f"**One value only**, so no correlation or kappa: {_listed(found)}."] if found else []


def _ties(checks: Mapping[str, Any]) -> list[str]:
    if "categories" in checks:
        return []
    rows = [r for r in checks["raters"] if not r["constant"] and (r["tied_share"] or 0) > MANY_TIES]
    rows.sort(key=lambda r: -r["tied_share"])
    found = [
        f"{escape_markdown(r['rater'])} on {escape_markdown(r['dimension'])} {percent(r['tied_share'])}" for r in rows
    ]
    return [f"More than half of all pairs of items tied, so ranks say little: {_listed(found)}."] if found else []


def _dominant(checks: Mapping[str, Any]) -> list[str]:
    found = []
    for row in checks["dimensions"]:
        if row["dominant"]:
            name, value = escape_markdown(row["dimension"]), _value(checks, row["commonest_value"])
            found.append(f"{name}: {value} in {percent(row['commonest_share'])} of {row['n']}")
    if not found:
        return []
    return [
        f"**One value dominates** the experts' ratings ({_listed(found)}): kappa, alpha and ICC fall although "
        "experts agree (kappa paradox); read them beside exact agreement."
    ]


def _value(checks: Mapping[str, Any], value: float) -> str:
    categories = checks.get("categories")
    return escape_markdown(categories[int(value)]) if categories else f"{value:g}"


def _unused(checks: Mapping[str, Any]) -> list[str]:
    found = []
    for row in checks["dimensions"]:
        if row["levels_not_used"]:
            levels = ", ".join(_value(checks, level) for level in row["levels_not_used"])
            found.append(f"{escape_markdown(row['dimension'])} {levels}")
    return [f"Levels that no expert used: {_listed(found)}."] if found else []


def _stage(checks: Mapping[str, Any]) -> list[str]:
    settled = checks["adjudicated"]
    if not settled["ratings"]:
        return []
    count = _count(settled["ratings"], "adjudicated rating")
    if settled["used"]:
        return [f"**Only adjudicated ratings** ({count}): no ceiling and no agreement among experts can be had."]
    return [f"{count} beside independent ones: not used."]


def _identity(checks: Mapping[str, Any]) -> list[str]:
    if checks["identity"]:
        return []
    nameless = checks["without_identity"]
    return [
        f"**{_count(nameless['ratings'], 'rating')} without the expert's name**: all ratings stand in "
        f"{_count(nameless['slots'], 'slot')} without identity; two-way ICC, kappa and the alternative annotator test "
        "are refused."
    ]


def _repeats(checks: Mapping[str, Any]) -> list[str]:
    found = []
    if n := checks["expert_repeats_not_used"]:
        found.append(f"{_count(n, 'repeated rating')} of experts not used: the first one counts.")
    if n := checks["judge_repeats_averaged"]:
        found.append(f"{_count(n, 'repeated score')} of judges averaged with the first.")
    return found


def _states(checks: Mapping[str, Any]) -> list[str]:
    found = []
    for kind, states in checks["states"].items():
        lost = [f"{escape_markdown(state)} {n}" for state, n in states.items() if state not in ("scored", "skipped")]
        if lost:
            found.append(f"Rows of {kind}s without a score, by reason: {', '.join(lost)}.")
    return found


_FINDERS = (
    _outside, _constant, _dominant, _stage, _identity, _missing, _states, _ties, _unused, _repeats
)  # fmt: skip
