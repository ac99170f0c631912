"""Whether a judge is asked about the very cases that it learnt from; agreeing with experts there proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..judge.benchmark import Benchmark
    from ..judge.records import Narrative


def learnt_cases(judge: Any, benchmark: Benchmark, narratives: Sequence[Narrative]) -> tuple[int, int]:
    """How many of the cases of `narratives` the judge learnt from, and how many there are.

    As the cards of the judge and of those it went on from say: by the hash of the folder's cases.jsonl and the split. A
    copy of the same cases in another folder is what `train --not-in` looks for.
    """
    asked = {narrative.case_id for narrative in narratives}
    learnt: set[str] = set()
    card = getattr(judge, "card", None)
    while card:
        known, split = (card.get("data") or {}).get("cases_sha256"), (card.get("trained_on") or {}).get("split", "")
        if known and known == benchmark.cases_sha256:
            learnt |= {case.id for case in benchmark.cases if not split or case.split == split}
        card = card.get("start")
    return len(asked & learnt), len(asked)


def no_licence(judge: str, cases: int, of: int) -> str:
    """Why there is no licence, in words."""
    return (
        f"no licence for {judge}: {cases} of the {of} cases it was asked about are those that it learnt from, so that "
        "agreement with their experts says nothing about other patients; score a split that it never saw"
    )


def learnt_in_runs(ratings: Sequence[Path], judge: str) -> tuple[int, int]:
    """The same, as the run folders say that these ratings lie in; (0, 0) if none does."""
    from ..judge.manifest import MANIFEST, read_manifest

    for path in ratings:
        if (path.parent / MANIFEST).exists():
            config = read_manifest(path.parent / MANIFEST)["asked"]["config"]
            if config.get("judge") == judge and "learnt_cases" in config:
                cases, of = config["learnt_cases"]
                return int(cases), int(of)
    return 0, 0
