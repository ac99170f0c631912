"""The sections of a report, each from one result to lines of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..judge.escape import escape_markdown
from .agreement import AgreementResult, DimensionAgreement
from .diagnosis import DiagnosisResult, SystemDiagnosis
from .leaderboard import Group, Leaderboard
from .markdown import NOTHING, Footnotes, cell, names, number, paragraph, percent, table
from .probes import DECIDES, ProbeResult, ProbeSummary
from .triage import SystemTriage, TriageResult

_System = TypeVar("_System", SystemDiagnosis, SystemTriage)
MOST_ROWS = 30  # a longer list of bounds is given for the overall score only

_PROBES = {
    "swap": "the picture of another diagnosis",
    "blank": "a grey picture",
    "wrong-patient": "the picture of another patient, same diagnosis where there is one",
}
_ABOUT_PROBES = """
The same text is scored again beside another picture. Change: score beside that picture minus score beside its own.
A score answers to the picture if, under swap, its mean change is at least 0.1, the interval leaves out 0 and a test
that allows for the number of dimensions agrees (Holm). Dimensions that are about the text alone need not answer."""
_ABOUT_DIAGNOSIS = """
Strict: the gold diagnosis, a synonym or a kind of it. Lenient: the wider class too. Graded: partial worth for near
classes. Crossing: the first item lies on the other side of malignant or infectious. Abstentions count as misses."""
_ABOUT_TRIAGE = """
Positive: {cut} or above. Under-triage: a call below the urgency of the case, severe by two levels or more. A narrative
without a call is counted as missing and in no rate."""
_ABOUT_AGREEMENT = """
Target: {target} ({stage} ratings). Bias: judge minus experts. MAE: mean absolute error, lower is better. Constant: the
best single number for all; a judge that does not beat it has learnt nothing here."""
_ABOUT_CEILING = """
{judge} and each expert against the mean of the other experts, on the same ratings: what an expert reaches is what can
be asked of a judge."""
_RATES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "prevalence": "Prevalence",
    "under": "Under-triage",
    "severe_under": "Severe under-triage",
    "over": "Over-triage",
    "emergency_recall": "Emergency recall",
}
_IMPLIED = ("sensitivity", "specificity", "under", "severe_under")


def group_names(groups: Sequence[Group]) -> dict[Group, str]:
    """Escaped, short names of (system, arm); the arm only where there are several."""
    systems = names(list(dict.fromkeys(system for system, _ in groups)))
    arms = names(list(dict.fromkeys(arm for _, arm in groups)))
    return {(s, a): systems[s] + (f" ({arms[a]})" if len(arms) > 1 else "") for s, a in groups}


def board_section(heading: str, board: Leaderboard, lead: str = "") -> list[str]:
    """Ranking with gaps, mean per dimension and system, and what is missing."""
    label, foot, count = group_names(board.ranking), Footnotes(), len(board.dimensions)
    low, high = board.levels[0], board.levels[-1]
    scale = f"Scale {low} to {high}, higher is better. Overall: mean of the {count} dimensions where all are scored."
    rows = []
    for place, group in enumerate(board.ranking, 1):
        overall, gap = board.of(group), board.gap(group)
        mean, scored = overall.mean, f"{overall.mean.n}/{overall.planned}"
        ahead = cell(gap.difference, foot, mean.n) if gap else ""
        sure = {True: "yes", False: "no", None: NOTHING}[gap.excludes_zero] if gap else ""
        found = [cell(mean, foot, mean.n), scored, percent(overall.coverage), ahead, sure]
        rows.append([str(place), label[group], *found])
    judge = escape_markdown(board.rater)
    lines = [f"## {heading}", "", *paragraph(" ".join(filter(None, [f"Judge: {judge}.", lead, scale])))]
    lines += table(["#", "System", "Overall", "Scored", "Coverage", "Ahead of the next by", "Excludes 0"], rows, left=2)
    if len(rows) > 1:
        several = f"; {len(rows) - 1} pairs, not adjusted for their number" if len(rows) > 2 else ""
        lines += paragraph(f"Neighbours whose difference does not exclude 0 may stand the other way round{several}.")
    n = {group: board.of(group).mean.n for group in board.ranking}
    rows = []
    for dimension in board.dimensions:
        means = (cell(board.of(group, dimension).mean, foot, n[group]) for group in board.ranking)
        rows.append([escape_markdown(dimension), *means])
    lines += table(["Dimension", *label.values()], [*rows, ["n", *map(str, n.values())]])
    return [*lines, *foot.lines(), *_missing(board, label)]


def _missing(board: Leaderboard, label: Mapping[Group, str]) -> list[str]:
    """States per system, and the bounds of every mean of which more than 1 % is missing."""
    total, scored = board.counts["planned"], board.counts["scored"]
    if total == scored:
        return paragraph(f"All {total} planned scores are there.")
    states = list(board.counts["states"])
    rows = []
    for group in board.ranking:
        states_here = board.of(group).states
        counts = (str(states_here.get(state, 0)) for state in states)
        rows.append([label[group], str(sum(states_here.values())), *counts])
    lines = paragraph(f"Missing: {total - scored} of {total} planned scores. What became of all of them, per system:")
    lines += table(["System", "Planned", *states], rows)
    bounded = [s for group in board.ranking for s in board.standings if (s.system, s.arm) == group and s.bounds]
    if len(bounded) > MOST_ROWS:
        bounded = [s for s in bounded if s.dimension is None]
    if not bounded:
        return [*lines, *paragraph("No mean has more than 1 % missing.")]
    low, high = board.levels[0], board.levels[-1]
    rows = []
    for s in bounded:
        name = [label[s.system, s.arm], escape_markdown(s.dimension or "Overall")]
        rows.append([*name, f"{s.mean.n}/{s.planned}", percent(s.coverage), *(number(end) for end in s.bounds or ())])
    lines += paragraph(
        "Where more than 1 % is missing, the mean if every missing score were the lowest or the highest:"
    )
    return [*lines, *table(["System", "Dimension", "Scored", "Coverage", f"All {low}", f"All {high}"], rows, left=2)]


def probe_section(summary: ProbeSummary) -> list[str]:
    """A sentence per judge, then a table per judge and probe."""
    lines = ["## Does the score answer to the picture?", ""]
    for line in summary.lines.values():
        lines += paragraph(f"**{escape_markdown(line)}**")
    lines += paragraph(_ABOUT_PROBES.strip())
    for judge, probe in dict.fromkeys((r.judge, r.probe) for r in summary.results):
        foot, own = Footnotes(), [r for r in summary.results if (r.judge, r.probe) == (judge, probe)]
        what = _PROBES.get(probe, "another picture")
        lines += [f"### {escape_markdown(probe)}: {what} ({escape_markdown(judge)})", ""]
        lines += table(["Dimension", "n", "Mean change", "Mean absolute", "Moved > 0.5", "Lowered", "Answers"],
                       [_probe_row(found, foot) for found in own])  # fmt: skip
        if any("truth_mae" in found.results for found in own):
            lines += paragraph(
                "Against the known truth: correlation of predicted with true change, error of the scores."
            )
            lines += table(["Dimension", "n", "Correlation", "MAE, that picture", "MAE, own picture"],
                           [_truth_row(found, foot) for found in own])  # fmt: skip
        lines += foot.lines()
        lost = {r.dimension: r.planned - r.pairs for r in own if r.planned > r.pairs}
        if lost:
            lines += paragraph(
                f"Pairs that lack a score: {', '.join(f'{escape_markdown(d)} {n}' for d, n in lost.items())}."
            )
    return lines


def _probe_row(found: ProbeResult, foot: Footnotes) -> list[str]:
    n, results = found.pairs, found.results
    answers = {True: "yes", False: "no evidence", None: NOTHING}[found.answers]
    if found.answers is None and found.probe == DECIDES:
        answers += foot.mark(found.verdict)
    shares = [cell(results[name], foot, n, False) for name in ("mean_absolute_change", "moved", "lowered")]
    return [escape_markdown(found.dimension), str(n), cell(results["mean_change"], foot, n), *shares, answers]


def _truth_row(found: ProbeResult, foot: Footnotes) -> list[str]:
    n = found.results["truth_mae"].n
    kept = ("truth_correlation", "truth_mae", "own_mae")
    return [escape_markdown(found.dimension), str(n), *(cell(found.results[name], foot, n) for name in kept)]


def diagnosis_section(result: DiagnosisResult, order: Sequence[Group] = ()) -> list[str]:
    """Top-k per system: measures down, systems across in the given order."""
    foot, systems = Footnotes(), _ordered(result.systems, order)
    label = group_names([(s.system, s.arm) for s in systems])
    rows = [["Narratives (patients)", *(f"{s.n} ({s.clusters})" for s in systems)]]
    rows += [[f"Top-{k} strict", *(cell(s.strict[k], foot, s.n) for s in systems)] for k in result.k]
    first = result.k[0]
    rows.append([f"Top-{first} lenient", *(cell(s.lenient[first], foot, s.n) for s in systems)])
    rows.append([f"Top-{first} graded", *(cell(s.graded[first], foot, s.n) for s in systems)])
    rows.append(["MRR", *(cell(s.mrr, foot, s.n) for s in systems)])
    rows.append(["Dangerous crossing", *(cell(s.crossing, foot, s.n) for s in systems)])
    rows.append(["Items not in list", *(cell(s.unmatched, foot, interval=False) for s in systems)])
    rows.append(["Abstained", *(str(s.abstained) for s in systems)])
    rows.append(["No diagnosis found", *(str(s.nothing_found) for s in systems)])
    rows.append(["Cases unanswered", *(str(s.without_narrative) for s in systems)])
    about = paragraph(_ABOUT_DIAGNOSIS.strip())
    return ["## Top-k diagnosis", "", *about, *table(["Share", *label.values()], rows), *foot.lines()]


def triage_section(result: TriageResult, order: Sequence[Group] = ()) -> list[str]:
    """Stated calls in full, calls implied by the first diagnosis in short: measures down, systems across."""
    systems = _ordered(result.systems, order)
    label = group_names([(s.system, s.arm) for s in systems])
    lines = ["## Triage", "", *paragraph(_ABOUT_TRIAGE.format(cut=result.cut).strip())]
    stated, implied = [s.stated for s in systems], [s.implied for s in systems]
    for heading, scores, kept in (
        ("The call as stated", stated, tuple(_RATES)),
        ("The call implied by the first diagnosis", implied, _IMPLIED),
    ):
        foot = Footnotes()
        rows = [[_RATES[name], *(cell(s.rates[name], foot) for s in scores)] for name in kept]
        rows.append(["Quadratic kappa", *(cell(s.kappa, foot) for s in scores)])
        rows.append(["Calls missing", *(f"{s.missing}/{s.n + s.missing}" for s in scores)])
        lines += [f"### {heading}", "", *table(["Share /n", *label.values()], rows), *foot.lines()]
    return lines


def _ordered(systems: Sequence[_System], order: Sequence[Group]) -> list[_System]:
    """In the order of the leaderboard; a system that was not judged comes last."""
    place = {group: number for number, group in enumerate(order)}
    return sorted(systems, key=lambda s: place.get((s.system, s.arm), len(place)))


def agreement_section(result: AgreementResult, first: Sequence[str] = ()) -> list[str]:
    """Per judge: against the mean of the experts beside a constant, and on leave-one-out targets beside an expert."""
    about = _ABOUT_AGREEMENT.format(target=result.settings["target"], stage=result.settings["expert_stage"])
    lines = ["## Judge beside experts", "", *paragraph(about.strip())]
    judges = list(dict.fromkeys(found.judge for found in result.judges))
    for judge in sorted(judges, key=lambda name: first.index(name) if name in first else len(first)):
        own = [found for found in result.judges if found.judge == judge and found.group is None]
        lines += _judge_tables(judge, own)
    return lines


def _judge_tables(judge: str, own: Sequence[DimensionAgreement]) -> list[str]:
    foot = Footnotes()

    def value(found: DimensionAgreement, name: str, interval: bool = True) -> str:
        return cell(found[name], foot, found[name].n, interval)

    rows = []
    for f in own:
        errors = [value(f, "item.mae"), value(f, "constant.mae", False), value(f, "judge_minus_constant.mae")]
        name = [escape_markdown(f.dimension), str(f.counts["items"])]
        rows.append([*name, value(f, "item.bias"), *errors, value(f, "item.pearson", False)])
    lines = [f"### {escape_markdown(judge)} against the mean of the experts", ""]
    lines += table(["Dimension", "n", "Bias", "MAE", "Constant", "MAE minus constant's", "Pearson r"], rows)
    lines += foot.lines()
    reasons = {f["loo_judge.mae"].reason for f in own if f["loo_judge.mae"].value is None}
    if len(reasons) == 1 and all(f["loo_judge.mae"].value is None for f in own):
        return [*lines, *paragraph(f"No expert leave-one-out: {escape_markdown(reasons.pop() or '')}.")]
    foot = Footnotes()
    kept = {
        "MAE judge": "loo_judge.mae",
        "MAE expert": "loo_expert.mae",
        "MAE constant": "loo_constant.mae",
        "Judge minus expert": "judge_minus_expert.mae",
        "r judge": "loo_judge.pearson",
        "r expert": "loo_expert.pearson",
    }
    rows = []
    for f in own:
        found = [value(f, name, name.startswith("judge_minus")) for name in kept.values()]
        rows.append([escape_markdown(f.dimension), str(f["loo_judge.mae"].n), *found])
    lines += paragraph(_ABOUT_CEILING.strip().replace("{judge}", escape_markdown(judge)))
    return [*lines, *table(["Dimension", "n", *kept], rows), *foot.lines()]
