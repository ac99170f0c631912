"""The training ladder as tables: what every rung reaches, and whether it is better than the one below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..judge.escape import escape_markdown
from .ladder import Ladder
from .markdown import NOTHING, Footnotes, cell, number, paragraph, percent, table

_ABOUT = """
Errors are against the mean of the experts and averaged over the seeds; brackets hold 95 % intervals (patients redrawn),
± the largest distance of a seed from their mean. RPS: ranked probability score of the distributions against each
expert, lower is better; entropy in nats. Spearman: of the systems within a case, mean over cases. A rung that wins MAE
by losing RPS has only grown surer. Scored (last table): the share of scores with half of the probability or more on the
scale, which a run would call a score; the comparison is on all narratives, by the expected value over the levels."""


def ladder_section(
    found: Ladder, seconds: Mapping[str, Sequence[float]], scored: Mapping[str, float] | None = None
) -> list[str]:
    """Per dimension a table of rungs; then every comparison with a rung below; then CPU time, and the share of scores
    with enough probability on the scale to be called so."""
    lines = ["## Training ladder", "", *paragraph(_ABOUT.strip())]
    foot = Footnotes()
    for dimension in found.dimensions:
        rows = []
        for rung in found.rungs:
            here = found.of(rung, dimension)
            mean = here.results["mae"].value or 0.0
            spread = max((abs(v - mean) for v in here.seeds["mae"] if v is not None), default=0.0)
            found_rps = here.results.get("rps")
            rps = cell(found_rps, foot, here.results["mae"].n) if found_rps and found_rps.value is not None else NOTHING
            entropy = here.results.get("entropy")
            rows.append([
                rung, cell(here.results["mae"], foot, here.results["mae"].n) + f" ±{number(spread)}",
                cell(here.results["loo_mae"], foot, here.results["loo_mae"].n, interval=False), rps,
                NOTHING if entropy is None or entropy.value is None else number(entropy.value),
                cell(here.results["spearman"], foot, here.results["spearman"].n, interval=False),
            ])  # fmt: skip
        n = found.of(found.rungs[0], dimension).results["mae"].n
        constant, expert = found.constant[dimension], found.expert[dimension]
        rows.append(["constant", cell(constant, foot, constant.n), NOTHING, NOTHING, NOTHING, NOTHING])
        rows.append(["one expert", NOTHING, cell(expert, foot, expert.n), NOTHING, NOTHING, NOTHING])
        lines += [f"### {escape_markdown(dimension)} (n {n})", ""]
        lines += table(["Rung", "MAE", "MAE, leave-one-out", "RPS", "Entropy", "Spearman"], rows)
    lines += foot.lines()
    rows = []
    for result in found.results:
        for other, gap in result.against.items():
            p = result.p[other]
            worse = result.against_rps.get(other)
            shown = NOTHING if p is None else f"{p:.3f}"
            surer = NOTHING if worse is None else cell(worse, foot, gap.n)
            name, verdict = f"{result.rung} − {other}", result.verdict(other)
            rows.append([name, result.dimension, cell(gap, foot, gap.n), shown, surer, verdict])
    family = found.settings["family"]
    lines += ["### Each rung against those below", ""]
    lines += paragraph(f"Difference in MAE on the same narratives; p by a cluster t-test, Holm over all {family}.")
    lines += table(["Rungs", "Dimension", "Difference", "p, adjusted", "Difference in RPS", "Verdict"], rows, left=2)
    taken = found.recommended()
    lines += paragraph(
        f"**Recommended: {taken or 'none'}** (better than all below it in a dimension or more, worse in none; surer: a "
        "better error bought with a worse RPS, which does not count)."
    )
    rows = [
        [rung, str(len(cpu)), f"{sum(cpu) / len(cpu):.0f}", percent(scored[rung]) if scored else NOTHING]
        for rung, cpu in seconds.items()
    ]
    return [*lines, "### Cost", "", *table(["Rung", "Seeds", "CPU seconds each", "Scored"], rows)]
