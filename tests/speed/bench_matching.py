"""Speed of matching items to the term list: python tests/speed/bench_matching.py [--items 1000000].

Items as differentials hold them: names and synonyms of the list, with words before and behind, a slip of the pen in one
of ten, one of ten not in the list, some with two names; drawn with a seed, nearly all distinct. The yardstick is the
naive loop that student repositories use: lower case, every alias of the list as a whole word, the longest wins (no
plurals, spellings, order of words, slips or denials). It is timed on a part of the items and multiplied. CPU seconds of
this process on one core.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from itertools import islice

from dermjudge.evaluators.terms import Terms, load_terms

BEFORE = ("", "", "", "", "likely ", "early ", "chronic ", "possible ", "ulcerated ", "small ")
BEHIND = (
    "",
    "",
    "",
    "",
    " of the scalp",
    " on the left arm",
    " (recurrent)",
    " with excoriations",
    " vs eczema",
    ", less likely",
)
UNKNOWN = ("benign lesion", "nonspecific rash", "inflamed papule", "viral process", "floopitis", "reactive change")


def items(terms: Terms, seed: int = 0):
    """An endless stream of items."""
    draw = random.Random(seed)
    aliases = [alias for c in terms.conditions.values() if not c.is_group for alias in (c.name, *c.synonyms)]
    while True:
        if draw.random() < 0.1:
            yield f"{draw.choice(UNKNOWN)} {draw.randrange(100_000)}"
            continue
        text = f"{draw.choice(BEFORE)}{draw.choice(aliases)}{draw.choice(BEHIND)}"
        if draw.random() < 0.1:
            place = draw.randrange(len(text))
            text = text[:place] + text[place + 1 :]
        yield f"{text} {draw.randrange(1000)}" if draw.random() < 0.5 else text.capitalize()


def naive(terms: Terms):
    """The loop over every alias, the longest first."""
    aliases = {
        alias.lower(): c.name for c in terms.conditions.values() if not c.is_group for alias in (c.name, *c.synonyms)
    }
    patterns = [
        (re.compile(rf"\b{re.escape(alias)}\b"), name)
        for alias, name in sorted(aliases.items(), key=lambda pair: -len(pair[0]))
    ]

    def match(text: str) -> str | None:
        lower = text.lower()
        return next((name for pattern, name in patterns if pattern.search(lower)), None)

    return match


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--naive", type=int, default=2_000, help="items of the yardstick")
    args = parser.parse_args()
    start = time.process_time()
    terms = load_terms()
    built = time.process_time() - start
    spent, hits, distinct, done = 0.0, 0, set(), 0
    stream = items(terms)
    while done < args.items:
        part = list(islice(stream, min(50_000, args.items - done)))
        distinct.update(hash(text) for text in part)
        start = time.process_time()
        hits += sum(bool(terms.match(text).hits) for text in part)
        spent += time.process_time() - start
        done += len(part)
    per_item = spent / done
    print(f"term list: {terms.size} conditions, index built in {built:.2f} s CPU")
    print(f"matched {done:,} items ({len(distinct):,} distinct) in {spent:.1f} s CPU, {per_item * 1e6:.1f} us each")
    print(f"{hits:,} name a condition")
    slow = naive(terms)
    sample = list(islice(items(terms, seed=1), args.naive))
    start = time.process_time()
    plain = sum(slow(text) is not None for text in sample)
    each = (time.process_time() - start) / len(sample)
    print(
        f"naive loop: {each * 1e6:.0f} us each ({len(sample):,} items, {plain:,} found), {each * done:,.0f} s for all"
    )
    print(f"ratio: {each / per_item:.1f}x")
    goal = per_item * 1_000_000
    print(f"1,000,000 items: {goal:.1f} s on one core, the bar is 60 s: {'met' if goal < 60 else 'NOT met'}")


if __name__ == "__main__":
    main()
