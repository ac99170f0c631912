"""A licence as one page of Markdown: the verdicts first, what they are bound to, the numbers, why, and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..judge.escape import escape_markdown
from .bootstrap import Estimate
from .licence_record import AFTER, LICENSED, SIMULATED, VERDICTS, DimensionLicence, Licence
from .markdown import NOTHING, Footnotes, bullet, cell, names, number, paragraph, percent, table, width
from .probes import DECIDES

_SIMULATED = "experts or judge are simulated. These verdicts show how a licence works; they license nothing."
_BLANK = "not stated"
_LONGEST = 21  # columns for the name of a dimension
_MEAN_COLUMNS = {
    "Bias": "item.bias",
    "MAE": "item.mae",
    "Minus constant's": "judge_minus_constant.mae",
    "Minus text-only": "judge_minus_text_only.mae",
    "Calibrated": "calibration.after.mae",
    "Within 1": "item.within_1",
    "ICC(A,1)": "item.icc_a1",
}
_LEFT_OUT_COLUMNS = {
    "MAE judge": "loo_judge.mae",
    "MAE expert": "loo_expert.mae",
    "r expert": "loo_expert.pearson",
    "r minus expert's": "judge_minus_expert.pearson",
}
_ABOUT = """
Brackets hold {level} % intervals; each criterion is decided by the end that speaks against the judge. One narrative is
one item, all systems together; {units} were redrawn {resamples} times, seed {seed}. /n is what a value rests on where
that is not the n of its row; – is not there, with the reason below. {unit} in the first table: rated by two experts;
where a dimension is licensed after calibration it shows the calibrated scores."""
_MEAN = """
Against the mean of the experts, n narratives. Minus constant's, minus text-only: MAE of the judge minus that of the
best single number for all, and of the judge without pictures. Calibrated: MAE on cases that the map did not see."""
_LEFT_OUT = """
Judge and each expert against the mean of the other experts, on the same n ratings: what an expert reaches is what can
be asked of a judge."""
_OTHERS = """
Alternative annotator test: share of the experts that the judge may replace at epsilon {epsilons} (BY over experts and
dimensions; it favours a judge that stays near the mean, so read it beside r). Systems: r of their means, /n systems.
Other picture: mean change of the score beside another picture (swap), /n narratives; * where the rules ask for it."""
_NOT = (
    "That the judge is right. It errs no more than one of these experts does beside the others; what all of them miss, "
    "it may miss.",
    "Anything about another judge (model, prompt, settings: another signature), rubric, or kind of case, system or "
    "expert than those it was made on. Cases were redrawn, experts and systems held fixed.",
    "That systems are ranked well: narratives of all systems were taken together. Compare systems on their own means.",
    "Anything about a single narrative or patient. No score here is for a clinical decision.",
)
_NOT_SHOWN = ("continuous scores:", "QWK")  # notes about statistics that this page does not hold
_NO_PICTURE = "That the score looks at the picture where the rules do not ask for it (column Other picture)."


def licence_section(licence: Licence) -> list[str]:
    """Lines of Markdown for 120 columns: verdicts, evidence, why, and what the licence does not say."""
    lines = [f"## Licence of {escape_markdown(licence.judge)}", ""]
    if licence.simulated:
        lines += [f"> **{SIMULATED}**: {_SIMULATED}", ""]
    lines += paragraph(f"**{escape_markdown(_summary(licence))}**")
    lines += [line for name, fact in _facts(licence).items() for line in bullet(f"**{name}**: {fact}")]
    settings, unit = licence.settings, _unit(licence.settings["resampled_unit"])
    about = _ABOUT.format(
        level=f"{100 - 100 * licence.rules.alpha:g}", unit=unit, units=unit.lower(),
        resamples=settings["resamples"], seed=settings["seed"],
    )  # fmt: skip
    lines += ["", *paragraph(about.strip()), *_tables(licence), "### Why", ""]
    for found in licence.dimensions:
        name = escape_markdown(found.dimension)
        lines += bullet(f"**{name}: {found.label}.** {escape_markdown(_sentence(found.reason))}")
    lines += ["", "### What this licence does not say", ""]
    asked = all(found.picture["needed"] for found in licence.dimensions)
    for text in (*_NOT, *(() if asked else (_NO_PICTURE,))):
        lines += bullet(text)
    for text in (licence.family, *licence.notes, *_dimension_notes(licence)):
        lines += bullet(escape_markdown(_sentence(text)))
    return [*lines, ""]


def _summary(licence: Licence) -> str:
    """How many dimensions got which verdict, and which."""
    parts = []
    for verdict in VERDICTS:
        own = [found.dimension for found in licence.dimensions if found.verdict == verdict]
        if own or verdict == LICENSED:
            which = f" ({', '.join(own)})" if own else ""
            parts.append(f"{len(own)} of {len(licence.dimensions)} {verdict}{which}")
    return f"{SIMULATED + ': ' if licence.simulated else ''}{'; '.join(parts)}."


def _dimension_notes(licence: Licence) -> list[str]:
    """Each note once, with the dimensions it is about."""
    about: dict[str, list[str]] = {}
    for found in licence.dimensions:
        for note in found.notes:
            if not note.startswith(_NOT_SHOWN):
                about.setdefault(note, []).append(found.dimension)
    return [f"{', '.join(dimensions)}: {note}" for note, dimensions in about.items()]


def _facts(licence: Licence) -> dict[str, str]:
    counts, rules = licence.counts, licence.rules
    of = f" of {counts['clusters']} patients" if counts["clusters"] != counts["cases"] else ""
    margin, bias = rules.in_levels(licence.levels)
    signature = f"signature {licence.signature_hash}" if licence.signature_hash else "no signature"
    rubric = escape_markdown(licence.rubric) or "no rubric named"
    if licence.rubric_hash:
        rubric += f" (words {licence.rubric_hash})"
    experts = f"{counts['experts']} experts" if counts["experts"] else "experts without identity"
    where, when = (escape_markdown(text) or _BLANK for text in (licence.population, licence.date))
    rated = f"{counts['expert_ratings']} {licence.stage} ratings by {experts}"
    asked = (
        f"MAE at most {margin:g} above an expert's",
        f"bias within {bias:g}",
        "MAE below the constant's",
        f"r at least {rules.correlation:g} and at most {rules.correlation_margin:g} below an expert's",
        f"{percent(rules.coverage)} scored",
        f"{rules.cases} cases rated by {rules.experts} experts",
        f"falls beside another picture: {escape_markdown(', '.join(rules.picture)) or 'not asked'}",
    )
    return {
        "Bound to": f"judge {escape_markdown(licence.judge)}, {signature}; rubric {rubric}",
        "Population": f"{where}; date {when}",
        "Ratings": f"{rated}; {counts['narratives']} narratives of {counts['systems']} systems, on {counts['cases']} "
        f"cases{of}; data {licence.data_hash[:16]}",
        "Rules": f"{escape_markdown(rules.name)} ({rules.hash}): {', '.join(asked)}",
    }


def _tables(licence: Licence) -> list[str]:
    unit, foot = _unit(licence.settings["resampled_unit"]), Footnotes()
    label = _labels([found.dimension for found in licence.dimensions])
    first, mean, left_out, others = [], [], [], []
    for found in licence.dimensions:
        name, get = label[found.dimension], _Getter(found, foot)
        verdict = f"**{found.label}**" if found.verdict in (LICENSED, AFTER) else found.label
        ratings, items = found.results["loo_judge.mae"].n, found.results["item.mae"].n
        own = "calibrated." if found.verdict == AFTER else ""
        deciding = [get(f"{own}{key}", ratings) for key in ("judge_minus_expert.mae", "loo_judge.pearson")]
        first.append([name, verdict, str(found.counts["shared_clusters"]), *deciding])
        coverage = found.counts["coverage"]
        scored = NOTHING if coverage is None else percent(coverage)
        mean.append([name, str(items), scored, *(get(key, items) for key in _MEAN_COLUMNS.values())])
        left_out.append([name, str(ratings), *(get(key, ratings) for key in _LEFT_OUT_COLUMNS.values())])
        star = "\\*" if found.picture["needed"] else ""
        others.append([name, _test(found, foot), get("system.pearson"), get(f"{DECIDES}.mean_change") + star])
    curves = [found.alternative["curve"] for found in licence.dimensions if found.alternative["curve"]]
    epsilons = " / ".join(f"{point['epsilon']:g}" for point in curves[0]) if curves else NOTHING
    return [
        *table(["Dimension", "Verdict", unit, "MAE minus expert's", "r judge"], first, left=2),
        *paragraph(_MEAN.strip()),
        *table(["Dimension", "n", "Scored", *_MEAN_COLUMNS], mean),
        *paragraph(_LEFT_OUT.strip()),
        *table(["Dimension", "n", *_LEFT_OUT_COLUMNS], left_out),
        *paragraph(_OTHERS.strip().format(epsilons=epsilons)),
        *table(["Dimension", "Alternative annotator", "Systems", "Other picture"], others),
        *foot.lines(),
    ]


def _labels(dimensions: Sequence[str]) -> dict[str, str]:
    """Escaped names of dimensions, cut where the first table would not fit."""
    short = names(dimensions)
    return {name: full if width(full := escape_markdown(name)) <= _LONGEST else short[name] for name in dimensions}


class _Getter:
    """Cells of one dimension; what was not run has its reason too."""

    def __init__(self, found: DimensionLicence, foot: Footnotes):
        self.found, self.foot = found, foot

    def __call__(self, key: str, n: int | None = None) -> str:
        return cell(self.found.results.get(key) or Estimate(None, 0, reason=self._why(key)), self.foot, n)

    def _why(self, key: str) -> str:
        if key.startswith("judge_minus_text_only"):
            return str(self.found.text_only.get("reason") or "the text-only judge scored nothing here")
        if key.startswith("calibration"):
            return str(self.found.calibration["reason"] or "the calibration could not be measured on unseen cases")
        return str(self.found.picture["verdict"])


def _test(found: DimensionLicence, foot: Footnotes) -> str:
    curve: Sequence[Mapping[str, float]] = found.alternative["curve"]
    if not curve:
        return NOTHING + foot.mark(found.alternative["reason"])
    rates = " / ".join(number(point["winning_rate"]) for point in curve)
    return f"{rates} /{len(found.alternative['raters'])}"


def _unit(name: str) -> str:
    return {"patient_id": "Patients", "case_id": "Cases"}.get(name, "Clusters")


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."
