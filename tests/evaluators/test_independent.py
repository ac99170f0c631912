"""Every statistic of `agree` against a second, naive implementation: loops over rows, written from the textbooks.

Nothing here shares a line with the library: ratings are read from rows anew, pairs are counted one by one, variance
components come from explicit matrices. The tables are as awkward as real ones.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.alternative import alternative_test
from dermjudge.evaluators.compare import compare_judges
from dermjudge.evaluators.statistics import compare

SLACK = 1e-9  # means of three sit exactly on a limit
FEWEST_SHARED = 10  # leave-one-out: an expert with fewer shared items is left out
MOST_LEVELS = 25  # a scale of more values is no ordinal scale

# The tables


def rows_of(
    seed=0,
    cases=40,
    systems=("s1", "s2", "s3"),
    arms=("image_only",),
    samples=(0,),
    dimensions=("Accuracy",),
    levels=(0, 1, 2, 3, 4, 5),
    raters=("ann", "bob", "cy"),
    missing=0.2,
    step=1.0,
    judge_step=1.0,
    expert_repeats=1,
    judge_repeats=1,
    spread=1.2,
    centre=None,
    distributions=False,
    only=lambda case, system, rater: True,
):
    """Long rows in random order. `judge_step` 0: a continuous judge. `only`: which (case, system, rater) exist."""
    draw = random.Random(seed)
    low, high = levels[0], levels[-1]
    centre = (low + high) / 2 if centre is None else centre
    bias = {r: draw.gauss(0, 0.4) for r in raters}

    def on(grid, value):
        value = min(max(value, low), high)
        return low + round((value - low) / grid) * grid if grid else value

    rows = []
    for case, system, arm, sample, dimension in itertools.product(range(cases), systems, arms, samples, dimensions):
        truth = draw.gauss(centre + 0.3 * systems.index(system), spread)
        item = {"case_id": f"c{case}", "system": system, "arm": arm, "sample": sample, "dimension": dimension}
        for rater in raters:
            for repeat in range(expert_repeats):
                score = on(step, truth + bias[rater] + draw.gauss(0, 0.6))
                if only(case, system, rater):
                    rows.append(
                        item
                        | {"rater": rater, "rater_kind": "expert", "repeat": repeat}
                        | {"score": None if draw.random() < missing else score, "distribution": None}
                    )
        for judge, shift in (("judge", 0.4), ("other", -0.2)):
            for repeat in range(judge_repeats):
                score = on(judge_step, 0.7 * truth + 0.3 * centre + shift + draw.gauss(0, 0.7))
                chances = [draw.random() for _ in levels]
                whole = sum(chances)
                given = None if draw.random() < missing / 4 else score
                rows.append(
                    item
                    | {"rater": judge, "rater_kind": "judge", "repeat": repeat, "score": given}
                    | {"distribution": [c / whole for c in chances] if distributions and given is not None else None}
                )
    draw.shuffle(rows)
    return rows


def off_scale(rows):
    """Some scores that no rater could give."""
    for place, row in enumerate(rows):
        if row["score"] is not None and place % 17 == 0:
            row["score"] = (-1.0, 6.0, 9.5)[place % 3]
    return rows


def dominated(rows, level=4):
    """Nine of ten scores at one level."""
    for place, row in enumerate(rows):
        if row["score"] is not None and place % 10:
            row["score"] = level
    return rows


def constant_judge(rows):
    for row in rows:
        if row["rater"] == "judge" and row["score"] is not None:
            row["score"] = 3
    return rows


def half_the_items(case, system, rater):
    """Systems with different cases."""
    return (case % 2 == 0 or system != "s1") and (case % 3 != 0 or system != "s2")


def loner(case, system, rater):
    """`cy` rates what nobody else does."""
    return (case >= 30) == (rater == "cy")


TABLES = {
    "missing and ties": rows_of(seed=1),
    "complete": rows_of(seed=2, missing=0.0),
    "systems with different items": rows_of(seed=3, only=half_the_items),
    "a rater without overlap": rows_of(seed=4, only=loner),
    "a rater with little overlap": rows_of(seed=5, only=lambda c, s, r: r != "cy" or (c < 2 and s != "s3")),
    "half-point judge": rows_of(seed=6, judge_step=0.5),
    "half-point experts": rows_of(seed=7, step=0.5, judge_step=0.5),
    "continuous judge": rows_of(seed=8, judge_step=0, distributions=True),
    "continuous experts": rows_of(seed=9, step=0, judge_step=0),
    "one level dominates": dominated(rows_of(seed=10)),
    "off the scale": off_scale(rows_of(seed=11)),
    "arms, samples and repeats": rows_of(
        seed=12, cases=25, arms=("image_only", "image_context"), samples=(0, 1), expert_repeats=2, judge_repeats=3
    ),
    "two raters, two systems, two dimensions": rows_of(
        seed=13, systems=("s1", "s2"), raters=("ann", "bob"), dimensions=("Accuracy", "Safety")
    ),
    "six raters, most missing": rows_of(seed=14, raters=("a", "b", "c", "d", "e", "f"), missing=0.6),
    "scale 1 to 4": rows_of(seed=15, levels=(1, 2, 3, 4)),
    "yes or no": rows_of(seed=16, levels=(0, 1), spread=0.4),
    "a constant judge": constant_judge(rows_of(seed=17)),
    "everything at once": off_scale(
        dominated(
            rows_of(
                seed=18,
                cases=25,
                arms=("image_only", "image_context"),
                dimensions=("Accuracy", "Safety"),
                samples=(0, 1),
                expert_repeats=2,
                judge_repeats=2,
                step=0.5,
                judge_step=0.5,
                missing=0.3,
                distributions=True,
                only=half_the_items,
            ),
            level=3.5,
        )
    ),
}
LEVELS = {"scale 1 to 4": (1, 2, 3, 4), "yes or no": (0, 1)}


def levels_of(name):
    return LEVELS.get(name, (0, 1, 2, 3, 4, 5))


def frame_of(rows):
    frame = pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"score": pl.Float64})
    return frame.drop("distribution") if frame["distribution"].null_count() == frame.height else frame


# Reading


def read(rows, levels, dimension, judge, keep=False):
    """item -> {expert: score}, item -> judge's score, item -> judge's distribution; experts by first usable repeat.

    Scores off the scale are not used unless `keep`.
    """
    experts, judged, chances = defaultdict(dict), defaultdict(list), defaultdict(list)
    for row in sorted(rows, key=lambda r: r["repeat"]):
        if row["dimension"] != dimension or row["score"] is None:
            continue
        if not keep and not levels[0] <= row["score"] <= levels[-1]:
            continue
        item = (row["case_id"], row["system"], row["arm"], row["sample"])
        if row["rater_kind"] == "expert":
            experts[item].setdefault(row["rater"], row["score"])
        elif row["rater"] == judge:
            judged[item].append(row["score"])
            if row["distribution"] is not None:
                chances[item].append(row["distribution"])
    return (
        dict(experts),
        {item: sum(s) / len(s) for item, s in judged.items()},
        {item: [sum(c) / len(c) for c in zip(*d, strict=True)] for item, d in chances.items()},
    )


# The statistics


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def absolute(x, t):
    d = [a - b for a, b in zip(x, t, strict=True)]
    return {
        "bias": mean(d),
        "mae": mean(abs(v) for v in d),
        "rmse": math.sqrt(mean(v * v for v in d)),
        "exact": mean(abs(v) <= SLACK for v in d),
        "within_0.5": mean(abs(v) <= 0.5 + SLACK for v in d),
        "within_1": mean(abs(v) <= 1 + SLACK for v in d),
    }


def over(a, b):
    """A ratio of variances; none without variance, or where estimated components leave a negative one."""
    return a / b if b > 1e-9 else None


def varies(x):
    return max(x) - min(x) > 1e-9


def pearson(x, t):
    if len(x) < 2 or not varies(x) or not varies(t):
        return None
    mx, mt = mean(x), mean(t)
    cross = math.fsum((a - mx) * (b - mt) for a, b in zip(x, t, strict=True))
    return cross / math.sqrt(math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - mt) ** 2 for b in t))


def rounded(x):
    """So that means that differ by float noise tie."""
    return [round(v, 9) for v in x]


def mid_ranks(x):
    return [sum(b < a for b in x) + (sum(b == a for b in x) + 1) / 2 for a in x]


def spearman(x, t):
    return pearson(mid_ranks(rounded(x)), mid_ranks(rounded(t)))


def tau_b(x, t):
    x, t = rounded(x), rounded(t)
    agree_less_not = ties_x = ties_t = pairs = 0
    for i in range(len(x)):
        for k in range(i):
            pairs += 1
            ties_x += x[i] == x[k]
            ties_t += t[i] == t[k]
            agree_less_not += ((x[i] > x[k]) - (x[i] < x[k])) * ((t[i] > t[k]) - (t[i] < t[k]))
    base = math.sqrt((pairs - ties_x) * (pairs - ties_t))
    return agree_less_not / base if base else None


def lin(x, t):
    """Lin 1989, moments divided by n."""
    mx, mt = mean(x), mean(t)
    vx, vt = mean((a - mx) ** 2 for a in x), mean((b - mt) ** 2 for b in t)
    cross = mean((a - mx) * (b - mt) for a, b in zip(x, t, strict=True))
    base = vx + vt + (mx - mt) ** 2
    return 2 * cross / base if base > 1e-12 else None


def bland_altman(x, t):
    d = [a - b for a, b in zip(x, t, strict=True)]
    middle = [(a + b) / 2 for a, b in zip(x, t, strict=True)]
    bias, m = mean(d), mean(middle)
    sd = math.sqrt(math.fsum((v - bias) ** 2 for v in d) / (len(d) - 1))
    base = math.fsum((v - m) ** 2 for v in middle)
    slope = math.fsum((v - m) * (e - bias) for v, e in zip(middle, d, strict=True)) / base if base > 1e-12 else None
    return {"loa_low": bias - 1.96 * sd, "loa_high": bias + 1.96 * sd, "slope": slope}


def icc_complete(table):
    """McGraw and Wong 1996 from the mean squares of a complete table (rows: items)."""
    n, k = len(table), len(table[0])
    grand = mean(v for row in table for v in row)
    row_mean, column_mean = [mean(row) for row in table], [mean(column) for column in zip(*table, strict=True)]
    ss_rows = k * math.fsum((m - grand) ** 2 for m in row_mean)
    ss_columns = n * math.fsum((m - grand) ** 2 for m in column_mean)
    ss_within = math.fsum((v - m) ** 2 for row, m in zip(table, row_mean, strict=True) for v in row)
    msr, msw, msc = ss_rows / (n - 1), ss_within / (n * (k - 1)), ss_columns / (k - 1)
    mse = (ss_within - ss_columns) / ((n - 1) * (k - 1))
    return {
        "icc_1": over(msr - msw, msr + (k - 1) * msw),
        "icc_k": over(msr - msw, msr),
        "icc_c1": over(msr - mse, msr + (k - 1) * mse),
        "icc_ck": over(msr - mse, msr),
        "icc_a1": over(msr - mse, msr + (k - 1) * mse + k * (msc - mse) / n),
        "icc_ak": over(msr - mse, msr + (msc - mse) / n),
    }


def icc_missing(ratings):
    """The six forms with missing ratings: Henderson's method 1 (Searle et al. 1992, ch. 5) with explicit matrices.

    Expected values of the four quadratic forms as traces of Q V; one-way components likewise.
    """
    cells = [(item, rater, score) for item, given in enumerate(ratings) for rater, score in sorted(given.items())]
    y = np.array([score for *_, score in cells])
    names = sorted({rater for _, rater, _ in cells})
    items = np.array([[float(i == item) for i in range(len(ratings))] for item, _, _ in cells])
    raters = np.array([[float(name == rater) for name in names] for _, rater, _ in cells])

    def onto_means(z):
        return z @ np.diag(1 / z.sum(axis=0)) @ z.T

    n = len(y)
    forms = {
        "mean": np.full((n, n), 1 / n),
        "item": onto_means(items),
        "rater": onto_means(raters),
        "all": np.eye(n),
    }
    parts = [items @ items.T, raters @ raters.T, np.eye(n)]
    quadratics = (
        forms["item"] - forms["mean"],
        forms["rater"] - forms["mean"],
        forms["all"] - forms["item"] - forms["rater"] + forms["mean"],
    )
    item, rater, error = np.linalg.solve(
        [[np.trace(q @ v) for v in parts] for q in quadratics], [y @ q @ y for q in quadratics]
    )
    one_way = (forms["item"] - forms["mean"], forms["all"] - forms["item"])
    between, within = np.linalg.solve(
        [[np.trace(q @ v) for v in (parts[0], parts[2])] for q in one_way], [y @ q @ y for q in one_way]
    )
    k = len(ratings) / math.fsum(1 / len(given) for given in ratings)
    return {
        "icc_1": over(between, between + within),
        "icc_k": over(between, between + within / k),
        "icc_c1": over(item, item + error),
        "icc_ck": over(item, item + error / k),
        "icc_a1": over(item, item + rater + error),
        "icc_ak": over(item, item + (rater + error) / k),
        "raters_per_item": k,
    }


def median_low(t):
    return sorted(t)[(len(t) - 1) // 2]


def best_constant(t):
    """The one number for all that is best by each criterion; to be shown, the lower median.

    MAE: every target tried. RMSE: the mean. Within w: every number tried that is w above a target, since a better one
    could be moved up until the lowest target that it reaches is w below.
    """

    def most_within(w):
        return max(mean(abs(v - low - w) <= w + SLACK for v in t) for low in set(t))

    return {
        "mae": min(mean(abs(v - c) for v in t) for c in set(t)),
        "rmse": math.sqrt(mean((v - mean(t)) ** 2 for v in t)),
        "within_0.5": most_within(0.5),
        "within_1": most_within(1),
        "constant": median_low(t),
    }


def values_of_scale(levels, scores, judged=()):
    """All values the experts could have given: the coarsest step of 1, 1/2, 1/4, 1/5, 1/10 that holds their scores.

    Scores off the scale, which are here only if they were asked for, widen it: an expert's to the next whole level,
    the judge's as far as they are rounded to.
    """
    for parts in (1, 2, 4, 5, 10):
        if all(abs(s * parts - round(s * parts)) < 1e-6 for s in scores):
            low = min([levels[0], *(math.floor(s) for s in scores)]) * parts
            high = max([levels[-1], *(math.ceil(s) for s in scores)]) * parts
            if high - low >= MOST_LEVELS:
                return None
            low = min([low, *(math.floor(s * parts + 0.5 + SLACK) for s in judged)])
            high = max([high, *(math.floor(s * parts + 0.5 + SLACK) for s in judged)])
            return [i / parts for i in range(low, high + 1)]
    return None


def nearest(value, scale):
    """Half upwards."""
    return max(v for v in scale if abs(v - value) <= min(abs(w - value) for w in scale) + SLACK)


def weighted_kappa(x, t, scale):
    """Cohen 1968 with squared distances, on all levels of the scale."""
    n = len(x)
    px, pt = Counter(x), Counter(t)
    observed = math.fsum((a - b) ** 2 for a, b in zip(x, t, strict=True)) / n
    expected = math.fsum((a - b) ** 2 * px[a] * pt[b] for a in scale for b in scale) / n**2
    return 1 - observed / expected if expected else None


def alpha(units, scale, metric):
    """Krippendorff 2019, ch. 12, pair by pair; units with two ratings or more."""
    units = [unit for unit in units if len(unit) > 1]
    if not units:
        return None
    count = Counter(v for unit in units for v in unit)
    n = sum(count.values())

    def delta(a, b):
        if metric == "nominal":
            return float(a != b)
        if metric == "interval":
            return (a - b) ** 2
        between = [v for v in scale if min(a, b) <= v <= max(a, b)]
        return (sum(count[v] for v in between) - (count[a] + count[b]) / 2) ** 2

    observed = (
        math.fsum(delta(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2)) / n
    )
    expected = math.fsum(delta(a, b) * count[a] * (count[b] - (a == b)) for a in count for b in count) / (n * (n - 1))
    return 1 - observed / expected if expected else None


def gwet(units, scale):
    """AC2 with quadratic weights on the full scale (Gwet 2014, ch. 5)."""
    span = scale[-1] - scale[0]

    def weight(a, b):
        return 1 - (a - b) ** 2 / span**2

    pairable = [unit for unit in units if len(unit) > 1]
    observed = mean(mean(weight(a, b) for a, b in itertools.permutations(unit, 2)) for unit in pairable)
    share = {v: mean(unit.count(v) / len(unit) for unit in units) for v in scale}
    total = math.fsum(weight(a, b) for a in scale for b in scale)
    q = len(scale)
    chance = total / (q * (q - 1)) * math.fsum(p * (1 - p) for p in share.values())
    return (observed - chance) / (1 - chance)


def ordered_alike(x, t, pairs):
    """Share of pairs that the experts rank and the judge ranks alike; a tie of the judge counts one half."""
    won = ranked = 0.0
    for i, k in pairs:
        if abs(t[i] - t[k]) <= SLACK:
            continue
        ranked += 1
        same = (x[i] - x[k]) * (t[i] - t[k])
        won += 0.5 if abs(x[i] - x[k]) <= SLACK else float(same > 0)
    return won / ranked if ranked else None


def probability_score(chances, given, levels):
    """Ranked probability score of one item against each expert, averaged; scale units."""
    scores = []
    for score in given:
        total = 0.0
        for place, (low, high) in enumerate(itertools.pairwise(levels)):
            below = sum(chances[: place + 1])
            # Between two levels an expert's own distribution is a step at his score.
            total += (below - (score <= low)) ** 2 * (high - low)
        scores.append(total)
    return mean(scores)


def minus(a, b):
    return None if a is None or b is None else a - b


def average(values):
    values = list(values)
    return None if None in values or not values else mean(values)


def quantile(values, share):
    """Linear between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (place - math.floor(place)) * (high - low)


def judge_statistics(rows, levels, dimension, judge, keep=False):
    """Everything that `agree` says of one judge on one dimension."""
    experts, judged, chances = read(rows, levels, dimension, judge, keep)
    items = sorted(item for item in experts if item in judged)
    x = [judged[i] for i in items]
    t = [mean(experts[i].values()) for i in items]
    two = icc_complete([list(pair) for pair in zip(x, t, strict=True)])
    item = absolute(x, t) | bland_altman(x, t)
    item |= {"pearson": pearson(x, t), "ccc": lin(x, t), "spearman": spearman(x, t), "kendall_tau_b": tau_b(x, t)}
    item |= two
    d = [a - b for a, b in zip(x, t, strict=True)]
    item |= {"difference_p2.5": quantile(d, 0.025), "difference_p97.5": quantile(d, 0.975)}
    constant = best_constant(t)
    item["skill"] = 1 - item["mae"] / constant["mae"] if constant["mae"] else None

    names = sorted({r for i in items for r in experts[i]})
    scale = values_of_scale(levels, [v for i in items for v in experts[i].values()], x)
    item |= dict.fromkeys(("qwk", "alpha_without_judge", "alpha_change", "ac2_with_judge"))
    item |= dict.fromkeys(("alpha_with_judge", "alpha_nominal_with_judge", "alpha_interval_with_judge"))
    if scale is not None:
        near = {i: nearest(judged[i], scale) for i in items}
        shared = {r: [i for i in items if r in experts[i]] for r in names}
        enough = min(FEWEST_SHARED, max(len(seen) for seen in shared.values()))
        item["qwk"] = average(
            weighted_kappa([near[i] for i in seen], [experts[i][r] for i in seen], scale)
            for r, seen in shared.items()
            if len(seen) >= enough
        )
        together = [[*experts[i].values(), near[i]] for i in items]
        item["alpha_with_judge"] = alpha(together, scale, "ordinal")
        item["alpha_nominal_with_judge"] = alpha(together, scale, "nominal")
        item["alpha_interval_with_judge"] = alpha(together, scale, "interval")
        item["ac2_with_judge"] = gwet(together, scale)
        item["alpha_without_judge"] = alpha([list(experts[i].values()) for i in items], scale, "ordinal")
        item["alpha_change"] = minus(item["alpha_with_judge"], item["alpha_without_judge"])
    if any(row["distribution"] is not None for row in rows):
        item["rps"] = average(probability_score(chances[i], experts[i].values(), levels) for i in items if i in chances)
    by_case = [(i, k) for i in range(len(items)) for k in range(i) if items[i][0] == items[k][0]]
    item["pairwise_accuracy"] = ordered_alike(x, t, by_case)
    ranked = [(i, k) for i, k in by_case if abs(t[i] - t[k]) > SLACK]
    item["pairwise_judge_ties"] = average(float(abs(x[i] - x[k]) <= SLACK) for i, k in ranked)

    systems = sorted({i[1] for i in items})
    sx = [mean(judged[i] for i in items if i[1] == s) for s in systems]
    st = [mean(mean(experts[i].values()) for i in items if i[1] == s) for s in systems]
    system = {
        "mae": absolute(sx, st)["mae"],
        "accuracy": ordered_alike(sx, st, list(itertools.combinations(range(len(systems)), 2))),
    }
    few = len(systems) < 3
    system |= {k: None if few else f(sx, st) for k, f in CORRELATIONS.items()}

    judge_of, expert_of, constant_of = [], [], []
    for r in names:
        shared = [i for i in items if r in experts[i] and len(experts[i]) > 1]
        if len(shared) < FEWEST_SHARED:
            continue
        others = [mean(v for q, v in experts[i].items() if q != r) for i in shared]
        judge_of.append(pair_statistics([judged[i] for i in shared], others))
        expert_of.append(pair_statistics([experts[i][r] for i in shared], others))
        constant_of.append(best_constant(others))
    out = {f"item.{k}": v for k, v in item.items()}
    out |= {f"constant.{k}": v for k, v in constant.items()}
    out |= {f"judge_minus_constant.{k}": item[k] - constant[k] for k in ("mae", "rmse", "within_0.5", "within_1")}
    out |= {f"system.{k}": v for k, v in system.items()}
    for k in ("mae", "rmse", "within_0.5", "within_1", "pearson", "spearman", "kendall_tau_b", "ccc"):
        ours, theirs = average(p[k] for p in judge_of), average(p[k] for p in expert_of)
        out |= {f"loo_judge.{k}": ours, f"loo_expert.{k}": theirs, f"judge_minus_expert.{k}": minus(ours, theirs)}
    for k in ("mae", "rmse", "within_0.5", "within_1"):
        out[f"loo_constant.{k}"] = average(p[k] for p in constant_of)
    both = list(zip(judge_of, expert_of, strict=True))
    out["loo_rank.judge_beats_expert"] = average(better(e["mae"], j["mae"]) for j, e in both)
    out["loo_rank.judge_orders_better"] = average(better(j["spearman"], e["spearman"]) for j, e in both)
    return out


def better(a, b):
    if a is None or b is None:
        return None
    return 0.5 if abs(a - b) <= 1e-12 else float(a > b)


CORRELATIONS = {"pearson": pearson, "spearman": spearman, "kendall_tau_b": tau_b}


def pair_statistics(x, t):
    return absolute(x, t) | {k: f(x, t) for k, f in CORRELATIONS.items()} | {"ccc": lin(x, t)}


def panel_statistics(rows, levels, dimension, keep=False):
    """Everything that `agree` says of the experts among themselves."""
    experts, _, _ = read(rows, levels, dimension, None, keep)
    given = [experts[i] for i in sorted(experts)]
    units = [list(g.values()) for g in given]
    names = sorted({r for g in given for r in g})
    pairs = [(a, b) for unit in units for a, b in itertools.combinations(unit, 2)]
    out = {
        "pairs.exact": mean(abs(a - b) <= SLACK for a, b in pairs),
        "pairs.within_0.5": mean(abs(a - b) <= 0.5 + SLACK for a, b in pairs),
        "pairs.within_1": mean(abs(a - b) <= 1 + SLACK for a, b in pairs),
    }
    scale = values_of_scale(levels, [v for unit in units for v in unit])
    for metric in ("nominal", "ordinal", "interval"):
        # The interval metric needs no levels, only numbers.
        out[f"alpha_{metric}"] = None if scale is None and metric != "interval" else alpha(units, scale, metric)
    out["ac2"] = None if scale is None else gwet(units, scale)
    out |= icc_missing(given)
    out["attenuation_bound"] = math.sqrt(ck) if (ck := out["icc_ck"]) is not None and ck >= 0 else None
    whole = [[g[r] for r in names] for g in given if len(g) == len(names)]
    forms = ("icc_1", "icc_k", "icc_c1", "icc_ck", "icc_a1", "icc_ak")
    return out | {
        f"complete.{k}": v for k, v in (icc_complete(whole) if len(whole) > 1 else dict.fromkeys(forms)).items()
    }


# The comparison


def differing(found, naive):
    wrong = {}
    for name, value in naive.items():
        ours = found[name].value
        limit = 1e-6 if "icc" in name else 1e-9
        if name == "attenuation_bound" and abs(naive["icc_ck"] or 0.0) < limit:
            continue  # the root of a float's noise
        if (ours is None) != (value is None) or (value is not None and abs(ours - value) > limit * max(1, abs(value))):
            wrong[name] = (ours, value)
        if ours is None:
            assert found[name].reason
    return wrong


KEPT = [(name, False) for name in TABLES] + [("off the scale", True), ("everything at once", True)]


@pytest.mark.parametrize(("name", "keep"), KEPT)
def test_every_statistic(name, keep):
    check_every_statistic(TABLES[name], levels_of(name), keep)


def check_every_statistic(rows, levels, keep=False):
    result = agree(frame_of(rows), levels, resamples=1, keep_out_of_range=keep)
    for dimension in sorted({row["dimension"] for row in rows}):
        for judge in ("judge", "other"):
            found = result.of(judge, dimension).results
            naive = judge_statistics(rows, levels, dimension, judge, keep)
            assert differing(found, naive) == {}
            assert set(found) - set(naive) == set(), "a statistic without a second implementation here"
    for found in result.panel:
        naive = panel_statistics(rows, levels, found.dimension, keep)
        assert differing(found.results, naive) == {}
        assert set(found.results) - set(naive) == set(), "a statistic without a second implementation here"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_every_statistic_of_tables_drawn_at_random(seed):
    draw = random.Random(1000 + seed)
    levels = draw.choice([(0, 1, 2, 3, 4, 5), (1, 2, 3, 4), (0, 1), (1, 2, 3, 4, 5, 6, 7)])
    raters = ["ann", "bob", "cy", "dee", "eve"][: draw.randint(2, 5)]
    rare = {r: draw.choice([1.0, 1.0, 0.5, 0.15]) for r in raters}
    rows = rows_of(
        seed=seed,
        cases=draw.randint(8, 30),
        systems=("s1", "s2", "s3", "s4")[: draw.randint(1, 4)],
        arms=("image_only", "image_context")[: draw.randint(1, 2)],
        samples=draw.choice([(0,), (0, 1)]),
        dimensions=("Accuracy", "Safety")[: draw.randint(1, 2)],
        levels=levels,
        raters=raters,
        missing=draw.choice([0.0, 0.1, 0.4, 0.7]),
        step=draw.choice([1.0, 1.0, 0.5, 0.25, 0.0]),
        judge_step=draw.choice([1.0, 0.5, 0.2, 0.0]),
        expert_repeats=draw.randint(1, 2),
        judge_repeats=draw.randint(1, 3),
        spread=draw.choice([0.1, 0.5, 1.2, 3.0]),
        centre=draw.choice([None, levels[-1], levels[0]]),
        distributions=draw.random() < 0.4,
        only=lambda case, system, rater: random.Random(f"{seed} {case} {system} {rater}").random() < rare[rater],
    )
    for change in (off_scale, lambda r: dominated(r, levels[-1]), constant_judge):
        rows = change(rows) if draw.random() < 0.25 else rows
    for dimension in {row["dimension"] for row in rows}:
        experts, judged, _ = read(rows, levels, dimension, "judge")
        if sum(item in judged for item in experts) < 12 or not any(len(g) > 1 for g in experts.values()):
            pytest.skip("too empty for the naive formulas")
    check_every_statistic(rows, levels, keep=draw.random() < 0.5)


KEY = ["case_id", "system", "arm", "sample"]


def matrix(frame, dimension, raters):
    """(items, raters) of plain tables without repeats, by polars' own pivot."""
    wide = frame.filter(pl.col("dimension") == dimension).pivot(on="rater", index=KEY, values="score")
    return wide.select(raters).cast(pl.Float64).to_numpy().astype(float)


PLAIN = [
    name
    for name in TABLES
    if name not in ("off the scale", "everything at once", "arms, samples and repeats", "continuous experts")
]


@pytest.mark.parametrize("name", PLAIN)
def test_against_the_libraries(name):
    """The same tables through krippendorff, scipy, scikit-learn and pingouin."""
    krippendorff, pingouin = pytest.importorskip("krippendorff"), pytest.importorskip("pingouin")
    rows, levels = TABLES[name], levels_of(name)
    frame = frame_of(rows)
    result = agree(frame, levels, resamples=1)
    raters = sorted({row["rater"] for row in rows if row["rater_kind"] == "expert"})
    for panel in result.panel:
        x, *y = matrix(frame, panel.dimension, ["judge", *raters]).T
        y = np.column_stack(y)
        rated = np.isfinite(y).any(axis=1)
        scale = np.arange(levels[0], levels[-1] + 0.1, 0.5 if name == "half-point experts" else 1.0)
        for metric in ("nominal", "ordinal", "interval"):
            theirs = krippendorff.alpha(y.T, value_domain=scale, level_of_measurement=metric)
            assert panel.results[f"alpha_{metric}"].value == pytest.approx(theirs, abs=1e-9)
        whole = y[np.isfinite(y).all(axis=1)]
        if len(whole) >= 5:
            assert {k: panel.results[f"complete.{k}"].value for k in PINGOUIN.values()} == pytest.approx(
                six_forms(pingouin, whole), abs=1e-6
            )

        use = rated & np.isfinite(x)
        x, y, mean_of = x[use], y[use], np.round(np.nanmean(y[use], axis=1), 9)
        found = result.of("judge", panel.dimension)
        step = scale[1] - scale[0]
        near = np.floor((x - scale[0]) / step + 0.5).astype(int)
        kappas = [
            cohen_kappa_score(
                near[k],
                np.round((y[k, r] - scale[0]) / step).astype(int),
                weights="quadratic",
                labels=range(len(scale)),
            )
            for r in range(len(raters))
            for k in [np.isfinite(y[:, r])]
            if k.sum() >= FEWEST_SHARED
        ]
        assert found["item.qwk"].value == pytest.approx(np.mean(kappas), abs=1e-9)
        joined = krippendorff.alpha(
            np.column_stack([y, scale[near]]).T, value_domain=scale, level_of_measurement="ordinal"
        )
        assert found["item.alpha_with_judge"].value == pytest.approx(joined, abs=1e-9)
        if name == "a constant judge":
            continue
        assert found["item.spearman"].value == pytest.approx(stats.spearmanr(x, mean_of).statistic, abs=1e-9)
        assert found["item.kendall_tau_b"].value == pytest.approx(stats.kendalltau(x, mean_of).statistic, abs=1e-9)
        two = six_forms(pingouin, np.column_stack([x, mean_of]))
        assert {k: found[f"item.{k}"].value for k in PINGOUIN.values()} == pytest.approx(two, abs=1e-6)


PINGOUIN = {
    "ICC(1,1)": "icc_1",
    "ICC(1,k)": "icc_k",
    "ICC(C,1)": "icc_c1",
    "ICC(C,k)": "icc_ck",
    "ICC(A,1)": "icc_a1",
    "ICC(A,k)": "icc_ak",
}


def six_forms(pingouin, y):
    items, raters = np.indices(y.shape)
    long = pytest.importorskip("pandas").DataFrame({"i": items.ravel(), "r": raters.ravel(), "y": y.ravel()})
    table = dict(pingouin.intraclass_corr(long, "i", "r", "y").set_index("Type")["ICC"])
    return {ours: table[theirs] for theirs, ours in PINGOUIN.items()}


def test_groups_are_the_statistics_of_their_rows_alone():
    rows = TABLES["arms, samples and repeats"]
    cases = sorted({row["case_id"] for row in rows})
    group = {case: "odd" if place % 2 else "even" for place, case in enumerate(cases[:-3])}  # three belong to none
    result = agree(frame_of(rows), range(6), resamples=1, by=group)
    for name in ("odd", "even"):
        mine = [row for row in rows if group.get(row["case_id"]) == name]
        found = result.of("judge", "Accuracy", name)
        assert differing(found.results, judge_statistics(mine, range(6), "Accuracy", "judge")) == {}
    by_system = agree(frame_of(rows), range(6), resamples=1, by="system").of("judge", "Accuracy", "s2")
    mine = [row for row in rows if row["system"] == "s2"]
    assert differing(by_system.results, judge_statistics(mine, range(6), "Accuracy", "judge")) == {}


@pytest.mark.parametrize("name", ["missing and ties", "arms, samples and repeats", "everything at once"])
def test_two_judges_on_the_items_that_both_scored(name):
    rows, levels = TABLES[name], levels_of(name)
    for found in compare_judges(frame_of(rows), levels, "judge", "other", resamples=1):
        scored = [read(rows, levels, found.dimension, judge)[1] for judge in ("judge", "other")]
        both = set(scored[0]) & set(scored[1])
        kept = [row for row in rows if (row["case_id"], row["system"], row["arm"], row["sample"]) in both]
        a, b = (judge_statistics(kept, levels, found.dimension, judge) for judge in ("judge", "other"))
        for key, result in found.results.items():
            side, _, statistic = key.partition(".")
            one, two = a[f"item.{statistic}"], b[f"item.{statistic}"]
            naive = {"a": one, "b": two, "difference": minus(one, two), "ratio": one / two if two else None}[side]
            assert result.value == pytest.approx(naive, abs=1e-9), key


# The alternative annotator test (Calderon, Reichart and Dror 2025), annotator by annotator


def benjamini_yekutieli(p):
    """Adjusted p-values (Benjamini and Yekutieli 2001)."""
    m = len(p)
    factor = sum(1 / i for i in range(1, m + 1))
    order = sorted(range(m), key=lambda i: p[i])
    found, least = [0.0] * m, 1.0
    for rank in range(m, 0, -1):
        place = order[rank - 1]
        least = min(least, p[place] * m * factor / rank)
        found[place] = least
    return found


def alternative_by_hand(experts, judged, epsilon):
    """Per annotator: advantage of the judge, one-sided p-value with errors that sum by case."""
    found = {}
    for r in sorted({r for given in experts.values() for r in given}):
        d, wins, cases = [], [], []
        for item, given in sorted(experts.items()):
            others = [score for q, score in given.items() if q != r]
            if r not in given or item not in judged or not others:
                continue
            judge = round(-math.sqrt(mean((judged[item] - o) ** 2 for o in others)), 9)
            human = round(-math.sqrt(mean((given[r] - o) ** 2 for o in others)), 9)
            d.append((human >= judge) - (judge >= human))
            wins.append(judge >= human)
            cases.append(item[0])
        if not d:
            continue
        average_d, groups = mean(d), sorted(set(cases))
        if len(d) < 30:
            of_case = [mean(v for v, c in zip(d, cases, strict=True) if c == g) for g in groups]
            p = stats.wilcoxon([v - epsilon for v in of_case], alternative="less").pvalue
        else:
            sums = [math.fsum(v - average_d for v, c in zip(d, cases, strict=True) if c == g) for g in groups]
            error = math.sqrt(len(groups) / (len(groups) - 1) * math.fsum(s * s for s in sums)) / len(d)
            p = stats.t.cdf((average_d - epsilon) / error, len(groups) - 1) if error else float(average_d >= epsilon)
        found[r] = (mean(wins), p)
    return found


ALTERNATIVE = [
    "missing and ties",
    "complete",
    "half-point judge",
    "continuous judge",
    "one level dominates",
    "off the scale",
    "a rater with little overlap",
    "arms, samples and repeats",
    "six raters, most missing",
    "everything at once",
]


@pytest.mark.parametrize("epsilon", [0.0, 0.15, 0.2])
@pytest.mark.parametrize("name", ALTERNATIVE)
def test_alternative_annotator(name, epsilon):
    rows, levels = TABLES[name], levels_of(name)
    dimensions = sorted({row["dimension"] for row in rows})
    by_hand = {d: alternative_by_hand(*read(rows, levels, d, "other")[:2], epsilon) for d in dimensions}
    family = [(d, r) for d in dimensions for r in by_hand[d]]
    adjusted = dict(zip(family, benjamini_yekutieli([by_hand[d][r][1] for d, r in family]), strict=True))
    for found in alternative_test(frame_of(rows), levels, "other", epsilon, resamples=1):
        d = found.dimension
        assert found.reason is None
        assert {t.rater for t in found.raters} == set(by_hand[d])
        for test in found.raters:
            advantage, p = by_hand[d][test.rater]
            assert test.advantage == pytest.approx(advantage, abs=1e-9)
            assert test.p_value == pytest.approx(p, abs=1e-6)
            assert test.p_adjusted == pytest.approx(adjusted[d, test.rater], abs=1e-6)
        rate = mean(adjusted[d, r] <= 0.05 for r in by_hand[d])
        assert found.winning_rate == pytest.approx(rate)
        assert found.passed == (rate >= 0.5)
        assert found.advantage_probability == pytest.approx(mean(a for a, _ in by_hand[d].values()))


def test_the_noise_of_floats_orders_nothing():
    """Means over three repeats that are equal on paper: with many distinct scores ranks must tie them all the same."""
    assert compare([0.1 + 0.2, 0.3, 0.9], [1, 2, 3])["kendall_tau_b"] == pytest.approx(2 / math.sqrt(6))
    rows = rows_of(seed=20, cases=80, judge_step=0.2, judge_repeats=3, missing=0.0, spread=2.0)
    assert len({round(v, 9) for v in read(rows, range(6), "Accuracy", "judge")[1].values()}) > 64
    found = agree(frame_of(rows), range(6), resamples=1).of("judge", "Accuracy")
    assert differing(found.results, judge_statistics(rows, range(6), "Accuracy", "judge")) == {}
