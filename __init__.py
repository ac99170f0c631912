"""dermjudge: scores diagnostic narratives about skin images and says whether the score may be believed."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "agree",
    "load_benchmark",
    "load_rubric",
    "load_terms",
    "open_judge",
    "read_narratives",
    "read_ratings",
    "score",
    "score_diagnosis",
    "score_triage",
    "train",
]

if TYPE_CHECKING:
    from .evaluators.agreement import agree
    from .evaluators.diagnosis import score_diagnosis
    from .evaluators.terms import load_terms
    from .evaluators.triage import score_triage
    from .judge.backends import open_judge
    from .judge.benchmark import load_benchmark
    from .judge.rubric import load_rubric
    from .judge.score import score
    from .judge.tables import read_narratives, read_ratings
    from .training.train import train

_HOME = {
    "agree": "evaluators.agreement",
    "load_benchmark": "judge.benchmark",
    "load_rubric": "judge.rubric",
    "load_terms": "evaluators.terms",
    "open_judge": "judge.backends",
    "read_narratives": "judge.tables",
    "read_ratings": "judge.tables",
    "score": "judge.score",
    "score_diagnosis": "evaluators.diagnosis",
    "score_triage": "evaluators.triage",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    """The public functions, imported when first used: `import dermjudge` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'dermjudge' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
