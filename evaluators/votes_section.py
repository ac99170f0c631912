"""Agreement on categorical votes as a section of a report."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .checks_section import checks_section
from .markdown import NOTHING, Footnotes, bullet, cell, number, paragraph, table
from .votes import VotesResult

_ABOUT = """
Same: share of the experts' votes that the judge shares. Majority: share of items on which it votes with most experts
(tied majorities do not count). Kappa: Cohen's, mean over the experts. Constant: always the commonest vote. Judge and
expert, leave-one-out: how often each votes with the majority of the other experts, on the same items."""


def votes_section(found: VotesResult) -> list[str]:
    """Data checks, the experts among themselves, every judge beside them, and whether the order of showing mattered."""
    words = ", ".join(map(escape_markdown, found.categories))
    lines = [*checks_section(found.checks), "", "## Judge beside experts: votes", ""]
    lines += [*paragraph(f"Votes: {words}."), *paragraph(_ABOUT.strip())]
    foot = Footnotes()
    rows = [
        [
            escape_markdown(p.dimension),
            *(cell(p.results[k], foot, p.results[k].n) for k in ("pairs.exact", "alpha_nominal")),
        ]
        for p in found.panel
    ]
    lines += [*table(["Dimension", "Experts' pairs alike", "Alpha, nominal"], rows), *foot.lines()]
    for judge in dict.fromkeys(j.judge for j in found.judges):
        foot, rows, ceiling = Footnotes(), [], []
        for f in (j for j in found.judges if j.judge == judge):
            get = f.results
            kept = ("item.exact", "item.majority", "constant.majority", "item.kappa", "item.alpha_change")
            shown = [cell(get[k], foot, get[k].n) if k in get else NOTHING for k in kept]
            rows.append([escape_markdown(f.dimension), *shown])
            beside = ("loo_judge.match", "loo_expert.match", "judge_minus_expert.match", "loo_constant.match")
            ceiling.append([escape_markdown(f.dimension), *(cell(get[k], foot, get[k].n) for k in beside)])
        lines += [f"### {escape_markdown(judge)}", ""]
        lines += table(["Dimension", "Same", "Majority", "Constant", "Kappa", "Change of alpha"], rows)
        lines += table(["Dimension", "Judge", "Expert", "Judge minus expert", "Constant"], ceiling)
        for t in (t for t in found.alternative if t.judge == judge):
            if t.winning_rate is None:
                lines += paragraph(f"{escape_markdown(t.dimension)}: no test, {escape_markdown(t.reason or '')}.")
                continue
            curve = ", ".join(f"{number(w)} at {e:g}" for e, w in t.curve)
            passed = "passed" if t.passed else "not passed"
            said = f"alternative annotator test {passed} at epsilon {t.epsilon:g}; winning rate {curve}"
            lines += paragraph(f"{escape_markdown(t.dimension)}: {said}.")
        lines += foot.lines()
    foot, rows = Footnotes(), []
    for dimension, own in found.position.items():
        rows += [[escape_markdown(dimension), escape_markdown(r), cell(e, foot, e.n), str(e.n)] for r, e in own.items()]
    if rows:
        lines += paragraph("Share of votes for the option shown first (0.5: the order does not matter):")
        lines += [*table(["Dimension", "Rater", "First", "n"], rows, left=2), *foot.lines()]
    return [*lines, *(line for note in found.notes for line in bullet(escape_markdown(note)))]
