"""Every statistic of `agree` as tables of at most 120 columns: what a methodologist reads after the first page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..judge.escape import escape_markdown
from .agreement import AgreementResult, DimensionAgreement
from .alternative import AlternativeTest
from .bootstrap import Estimate
from .markdown import NOTHING, Footnotes, cell, number, paragraph, table
from .rater_models import AdditiveModel

_ITEM = (
    ("Distance from the mean of the experts, scale units and shares", {
        "RMSE": "item.rmse", "Within 0.5": "item.within_0.5", "Within 1": "item.within_1", "Skill": "item.skill"}),
    ("Association", {
        "Spearman": "item.spearman", "Kendall tau-b": "item.kendall_tau_b", "Lin's CCC": "item.ccc",
        "QWK, each expert": "item.qwk"}),
    ("One judge as one rater", {
        "ICC(1)": "item.icc_1", "ICC(A,1)": "item.icc_a1", "ICC(C,1)": "item.icc_c1", "ICC(A,k)": "item.icc_ak"}),
    ("Differences, judge minus experts (Bland-Altman)", {
        "Lower limit": "item.loa_low", "Upper limit": "item.loa_high", "2.5 %": "item.difference_p2.5",
        "97.5 %": "item.difference_p97.5", "Slope": "item.slope"}),
    ("Chance-corrected, the judge among the experts", {
        "Alpha, ordinal": "item.alpha_with_judge", "Change by the judge": "item.alpha_change",
        "Gwet's AC2": "item.ac2_with_judge", "Alpha, interval": "item.alpha_interval_with_judge"}),
    ("Order: narratives of a case in pairs, ranked probability score", {
        "Pairs ordered alike": "item.pairwise_accuracy", "Judge's ties": "item.pairwise_judge_ties",
        "RPS": "item.rps"}),
    ("Systems: their means", {
        "MAE of means": "system.mae", "Spearman": "system.spearman", "tau-b": "system.kendall_tau_b",
        "Pairs ordered alike": "system.accuracy"}),
    ("Beside an expert, leave-one-out", {
        "Beats an expert on": "loo_rank.judge_beats_expert", "Orders better than": "loo_rank.judge_orders_better",
        "r minus an expert's": "judge_minus_expert.pearson",
        "Spearman minus an expert's": "judge_minus_expert.spearman"}),
)  # fmt: skip
_PANEL = {
    "Exact": "pairs.exact", "Within 1": "pairs.within_1", "Alpha, nominal": "alpha_nominal",
    "Alpha, ordinal": "alpha_ordinal", "Alpha, interval": "alpha_interval", "AC2": "ac2",
    "ICC(A,1)": "icc_a1", "ICC(A,k)": "icc_ak", "Highest r possible": "attenuation_bound",
}  # fmt: skip
_ABOUT_PANEL = """
Experts among themselves. ICC(A,k) is the reliability of their mean, the target; the highest r possible is the square
root of ICC(C,k): no judge can be expected above it."""
_ABOUT_ALTERNATIVE = """
Alternative annotator test (Calderon et al. 2025): the share of experts than whom the judge is at least as near to the
others, allowing it to be worse in a share epsilon of cases. It passes at 0.5. A judge that stays near the mean passes
too, so read it beside r. The curve is the winning rate over epsilon."""
_WIDTH = 4  # columns with an interval that fit beside a dimension's name


def agreement_tables(result: AgreementResult) -> list[str]:
    """The experts among themselves, then every statistic of every judge."""
    lines = ["## All statistics", "", *paragraph(_ABOUT_PANEL.strip())]
    foot = Footnotes()
    names = list(_PANEL)
    for start in range(0, len(names), _WIDTH):
        chosen = names[start : start + _WIDTH]
        rows = [
            [escape_markdown(p.dimension), *(cell(p.results[_PANEL[c]], foot, p.results[_PANEL[c]].n) for c in chosen)]
            for p in result.panel
        ]
        lines += table(["Dimension", *chosen], rows)
    lines += foot.lines()
    for judge in dict.fromkeys(found.judge for found in result.judges):
        own = [found for found in result.judges if found.judge == judge and found.group is None]
        lines += [f"### {escape_markdown(judge)}", ""]
        for heading, kept in _ITEM:
            lines += [f"{heading}:", "", *_statistics(own, kept)]
    return lines


def _statistics(own: Sequence[DimensionAgreement], kept: Mapping[str, str]) -> list[str]:
    """One table; a column that nothing is known of is named below it instead."""
    foot, shown = Footnotes(), {}
    reasons: dict[str, list[str]] = {}
    for heading, name in kept.items():
        found = [f.results.get(name) for f in own]
        if all(one is None or one.value is None for one in found):
            reason = next((one.reason for one in found if one and one.reason), "the judge gives no distribution")
            reasons.setdefault(reason, []).append(heading)
        else:
            shown[heading] = name
    lines = []
    if shown:
        rows = []
        for f in own:
            nothing = Estimate(None, 0, reason="not computed for this dimension")
            values = [f.results.get(name, nothing) for name in shown.values()]
            rows.append([escape_markdown(f.dimension), *(cell(value, foot, value.n) for value in values)])
        lines += [*table(["Dimension", *shown], rows), *foot.lines()]
    for reason, headings in reasons.items():
        lines += paragraph(f"{', '.join(headings)}: {NOTHING}, {escape_markdown(reason)}.")
    return lines


def alternative_section(judge: str, tests: Sequence[AlternativeTest]) -> list[str]:
    """The test per dimension with its curve, and the ceiling without which it is never shown."""
    lines = [f"## Could {escape_markdown(judge)} stand in for an expert?", "", *paragraph(_ABOUT_ALTERNATIVE.strip())]
    if all(t.winning_rate is None for t in tests):
        return [*lines, *paragraph(f"Not run: {escape_markdown(tests[0].reason or '')}.")]
    foot, epsilons = Footnotes(), [e for e, _ in next(t for t in tests if t.curve).curve]
    rows, curves = [], []
    for t in tests:
        ceiling: Mapping[str, Estimate] = t.ceiling or {}
        beside = [
            cell(ceiling[k], foot, ceiling[k].n, False) if k in ceiling else NOTHING
            for k in ("loo_judge.mae", "loo_expert.mae", "loo_judge.pearson", "loo_expert.pearson")
        ]
        passed = {True: "yes", False: "no", None: NOTHING}[t.passed] + (foot.mark(t.reason) if t.reason else "")
        shares = [NOTHING if v is None else number(v) for v in (t.winning_rate, t.advantage_probability)]
        rows.append([escape_markdown(t.dimension), *shares, passed, *beside])
        curves.append([escape_markdown(t.dimension), *(number(w) for _, w in t.curve)])
    head = ["Dimension", "Winning rate", "Advantage", "Passes", "MAE judge", "MAE expert", "r judge", "r expert"]
    lines += [*table(head, rows), *foot.lines()]
    lines += table(["Winning rate at epsilon", *(f"{e:g}" for e in epsilons)], [c for c in curves if len(c) > 1])
    return [*lines, *paragraph(f"epsilon {tests[0].epsilon:g}; {escape_markdown(tests[0].family)}.")]


def leniency_table(models: Sequence[AdditiveModel]) -> list[str]:
    """Bias of each expert per dimension: positive is lenient, beside the others who rated the same narratives."""
    foot, raters = Footnotes(), sorted({rater for model in models for rater in model.bias})
    nothing = Estimate(None, 0, reason="rated nothing here")
    rows = []
    for rater in raters:
        found = [model.bias.get(rater, nothing) for model in models]
        rows.append([escape_markdown(rater), *(cell(one, foot, one.n) for one in found)])
    about = "Leniency of each expert (additive rater model; biases of a dimension sum to 0, positive is lenient):"
    head = ["Expert", *(escape_markdown(model.dimension) for model in models)]
    return [*paragraph(about), *table(head, rows), *foot.lines()]


def rater_level_section(result: AgreementResult) -> list[str]:
    """Intervals for these experts beside those for experts like these."""
    found = [f for f in result.judges if f.group is None and f.experts_like_these is not None]
    if not found:
        return []
    foot, rows = Footnotes(), []
    for f in found:
        wider = f.experts_like_these.results  # type: ignore[union-attr]
        for label, name in (("bias", "item.bias"), ("MAE", "item.mae"), ("r", "item.pearson")):
            if name in wider:
                rows.append([
                    escape_markdown(f.dimension), escape_markdown(f.judge), label,
                    cell(f[name], foot, f[name].n), cell(wider[name], foot, f[name].n),
                ])  # fmt: skip
    about = (
        "The first interval speaks of new cases rated by these very experts, the second of new cases rated by other "
        "experts like them (cases and experts redrawn)."
    )
    head = ["Dimension", "Judge", "", "These experts", "Experts like these"]
    return ["## Other experts", "", *paragraph(about), *table(head, rows, left=3), *foot.lines()]
