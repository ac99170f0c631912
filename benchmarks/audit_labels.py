"""Labels that cannot both be right: of one picture under two labels, of one lesion, of a label and its own reference.

The reference is read by the extractor that reads narratives. It is a second opinion on the label, never the truth.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

from ..evaluators.cues import denies
from ..evaluators.differential import parse_differential
from ..evaluators.labels import usable_gold
from ..evaluators.narratives import cluster
from ..evaluators.proportions import rate
from ..evaluators.terms import Terms
from ..judge.benchmark import Benchmark
from ..judge.escape import visible
from ..judge.records import Case, identity
from .audit_duplicates import Duplicates, near_rows
from .finding import Finding, Severity, Shown, case_place, place, some
from .naming import CONCLUSION, Mention, find_mentions, relatives

Stance = Literal["agrees", "lists", "rejects", "passes over", "silent"]
STANCES: dict[Stance, tuple[Severity, str]] = {
    "agrees": ("note", "conclude with their label, or a wider or narrower name of it"),
    "lists": ("warning", "conclude with another diagnosis and give their label further down"),
    "rejects": ("warning", "rule their label out somewhere and conclude with something else"),
    "passes over": ("warning", "mention their label and conclude with something else"),
    "silent": ("warning", "never name their label"),
}
_PAIRS = 200  # of cases compared within one group of equal pictures


class Reading(NamedTuple):
    """How a reference stands to the label of its case.

    `concludes`: the conditions of the list that it puts first, empty where none could be read; `crosses`: all of them
    lie on the other side of malignant or not, or infectious or not, of every label.
    """

    stance: Stance
    concludes: tuple[str, ...]
    crosses: bool


def read_reference(case: Case, terms: Terms) -> Reading | None:
    """How the reference stands to the label: by its differential if one can be read, else by its last 500 characters.

    None if the case has no reference or no label of the term list. A wider or narrower condition counts as the label.
    "rejects" is a lower bound of "rejects" and "passes over" together: much is ruled out in words that no list holds.

    >>> from ..evaluators.terms import load_terms
    >>> case = Case("c", reference="Not melanoma. The most likely diagnosis is a blue nevus.", diagnosis=("melanoma",))
    >>> read_reference(case, load_terms())
    Reading(stance='rejects', concludes=('blue nevus',), crosses=True)
    """
    gold = usable_gold(case, terms)[0]
    text = case.reference.strip()
    if not text or not gold:
        return None
    kin = set(gold).union(*(relatives(terms, name) for name in gold))
    # Tags go and the text stays: where a reference is all reasoning, a reader sees it too.
    items = parse_differential(text.replace("<think>", "\n").replace("</think>", "\n"), terms).items
    named: dict[str, set[str]] = defaultdict(set)
    for item in items:
        where = "denied" if item.rank is None else "first" if item.rank == 1 else "listed"
        named[where].update(hit.canonical for hit in item.match.hits)
    first = tuple(sorted(named["first"]))
    end = {mention.canonical for mention in find_mentions(text[-CONCLUSION:], terms)}
    stance: Stance
    if kin & named["first"] or (not first and kin & end - named["denied"]):
        stance = "agrees"
    elif kin & named["listed"]:
        stance = "lists"
    else:
        own = [mention for mention in find_mentions(text, terms) if mention.canonical in kin]
        denied = kin & named["denied"] or any(_denied(text, mention) for mention in own)
        stance = "rejects" if denied else "passes over" if own else "silent"
    crosses = bool(first) and all(terms.crosses(name, own) for name in first for own in gold)
    return Reading(stance, first, crosses)


_AGAINST = re.compile(
    r"(?i)(?<!not )\b(?:rul(?:es|ed|ing) out|exclud(?:es|ed|ing)|(?:argu|speak|point)\w* (?:against|away from)"
    r"|unlike|rather than|instead of|inconsistent with|not(?! (?:only|rul|exclud))|never|absence of"
    r"|no (?:evidence|signs?) (?:of|for))\W+(?:[\w-]+\W+){0,2}$"
)
_SENTENCE = re.compile(r"[.;\n]")


def _denied(text: str, mention: Mention) -> bool:
    """Whether the words just before or behind a name rule it out, within the sentence."""
    before = _SENTENCE.split(text[max(0, mention.start - 80) : mention.start])[-1]
    after = _SENTENCE.split(text[mention.end : mention.end + 80])[0]
    turned = re.match(r"(?i)\W*(?:not?|without|rather|unlike|but|instead)\b", after)  # that denies what comes next
    return bool(_AGAINST.search(before)) or (not turned and denies(after))


def reference_findings(
    benches: Sequence[Benchmark], terms: Terms
) -> tuple[list[Finding], dict[str, Any], dict[tuple[int, str], Reading]]:
    """Findings, shares by stance (JSON), and the reading of each (benchmark, case id) that has one.

    Cases whose label was mapped with low confidence (tag `label_confidence`) are left out and counted.
    """
    readings: dict[tuple[int, str], Reading] = {}
    held: dict[str, list[tuple[int, Case]]] = defaultdict(list)
    clusters: list[str] = []
    left_out: Counter[str] = Counter()
    for number, bench in enumerate(benches):
        for case in bench.cases:
            if not case.reference.strip():
                left_out["no reference"] += 1
            elif case.tags.get("label_confidence") == "low":
                left_out["label mapped with low confidence"] += 1
            elif (reading := read_reference(case, terms)) is None:
                left_out["no usable label"] += 1
            else:
                readings[number, case.id] = reading
                clusters.append(f"{number} {cluster(case)}")
                held[reading.stance].append((number, case))
                if reading.crosses and reading.stance != "agrees":
                    held["crosses"].append((number, case))
    n = len(readings)
    if not n:
        return [], {"n": 0, "left_out": dict(left_out), "terms": terms.note}, {}

    def found(kind: str, severity: Severity, what: str, cases: Iterable[tuple[int, Case]], count: int) -> Finding:
        examples = some(_reference_example(number, case, readings[number, case.id], benches) for number, case in cases)
        return Finding(kind, severity, what, count, "references", n, "references", examples)

    across = "conclude across a line that matters (malignant or not, infectious or not) from their label"
    findings = [found("reference-crosses", "warning", across, held["crosses"], len(held["crosses"]))]
    findings += [
        found(f"reference-{stance.replace(' ', '-')}", severity, what, held[stance], len(held[stance]))
        for stance, (severity, what) in STANCES.items()
        if stance != "agrees"
    ]
    groups = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    patients = [groups[name] for name in clusters]
    stances = [reading.stance for reading in readings.values()]
    shares = {
        stance: {"count": stances.count(stance), **rate([s == stance for s in stances], patients).to_dict()}
        for stance in STANCES
    }
    table = {
        "n": n,
        "stances": shares,
        "crosses": len(held["crosses"]),
        "left_out": dict(left_out),
        "terms": terms.note,
    }
    return [finding for finding in findings if finding.count], table, readings


def _reference_example(number: int, case: Case, reading: Reading, benches: Sequence[Benchmark]) -> dict[str, Any]:
    concluded = {"reference concludes": list(reading.concludes) or None}
    return case_place(number, case, benches) | {"label": [visible(name) for name in case.diagnosis]} | concluded


def conflict_findings(
    found: Duplicates, shown: Sequence[Shown], benches: Sequence[Benchmark], terms: Terms
) -> list[Finding]:
    """Labels that differ between copies of a picture, between near duplicates, and between pictures of one lesion.

    Two sets of labels agree if any two of them are the same condition, or one is a subtype of the other; a pair that
    lies on two sides of malignant or not, infectious or not, counts apart. A label that is not in the term list is
    compared as it is written.
    """
    told: list[Finding] = []
    picture_sets = [list(group) for group in found.exact]
    told += _conflicts("copies", "copies of one picture", picture_sets, shown, benches, terms, "groups")
    near = [[first, second] for first, second, *_ in near_rows(found.near)]
    near = [list(dict.fromkeys((*found.members(a), *found.members(b)))) for a, b in near]
    told += _conflicts("near-duplicates", "near duplicates", near, shown, benches, terms, "pairs")
    lesions: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for row, picture in enumerate(shown):
        if lesion := identity(picture.case.lesion_id):
            lesions[picture.bench, identity(picture.case.patient_id), lesion].append(row)
    groups = [rows for rows in lesions.values() if len({shown[row].case.id for row in rows}) > 1]
    return told + _conflicts("lesions", "cases of one lesion", groups, shown, benches, terms, "lesions")


def _conflicts(
    kind: str,
    what: str,
    groups: Sequence[Sequence[int]],
    shown: Sequence[Shown],
    benches: Sequence[Benchmark],
    terms: Terms,
    unit: str,
) -> list[Finding]:
    """Up to two findings: conflicts across a line that matters, and the others."""
    hits: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    compared = 0
    for rows in groups:
        cases = {(shown[row].bench, shown[row].case.id): row for row in rows if shown[row].case.diagnosis}
        if len(cases) < 2:
            continue
        compared += 1
        if worst := _worst_conflict(list(cases.values()), shown, terms):
            crosses, one, other = worst
            labelled = [place(shown[row], benches) | {"label": [visible(name) for name in shown[row].case.diagnosis]}
                        for row in (one, other)]  # fmt: skip
            hits[crosses].append({"pictures": labelled})
    texts = {True: "across malignant or not, or infectious or not", False: "otherwise"}
    return [
        Finding(f"label-{'crosses' if crosses else 'conflict'}-{kind}", "warning", f"{what} under labels that differ "
                f"{texts[crosses]}", len(examples), unit, compared, unit, some(examples))
        for crosses, examples in hits.items() if examples
    ]  # fmt: skip


def _worst_conflict(rows: Sequence[int], shown: Sequence[Shown], terms: Terms) -> tuple[bool, int, int] | None:
    labels: Mapping[tuple[str, ...], int] = {shown[row].case.diagnosis: row for row in reversed(rows)}
    worst = None
    for (one, row), (other, second) in list(combinations(labels.items(), 2))[:_PAIRS]:
        verdict = labels_conflict(one, other, terms)
        if verdict is not None and (worst is None or verdict > worst[0]):
            worst = (verdict, *sorted((row, second)))
    return worst  # type: ignore[return-value]


def labels_conflict(one: Sequence[str], other: Sequence[str], terms: Terms) -> bool | None:
    """None if two sets of labels agree; else whether every pair of them crosses a line that matters.

    >>> from ..evaluators.terms import load_terms
    >>> terms = load_terms()
    >>> labels_conflict(["nodular melanoma"], ["melanoma"], terms), labels_conflict(["melanoma"], ["blue nevus"], terms)
    (None, True)
    >>> labels_conflict(["psoriasis"], ["eczema"], terms)
    False
    """
    pairs = [(terms.find(a), terms.find(b), a, b) for a in one for b in other]
    crossing = []
    for a, b, written, beside in pairs:
        if a is None or b is None:
            if identity(written) == identity(beside):
                return None
            crossing.append(False)
        elif a.name == b.name or a.name in b.ancestors or b.name in a.ancestors:
            return None
        else:
            crossing.append(terms.crosses(a.name, b.name))
    return all(crossing)
