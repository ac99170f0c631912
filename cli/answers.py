"""The body of `answers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..judge.errors import InputError
from . import output


def evaluate_answers(
    bench: Path,
    given: Path,
    questions: Path | None,
    diagnoses: Sequence[str],
    system: str,
    resamples: int,
    seed: int,
    columns: Mapping[str, str],
    as_json: bool,
) -> None:
    """Score and print; exit code 4 if a question was not answered or an answer could not be scored as given."""
    from ..evaluators.answer_units import TABLES, load_questions
    from ..evaluators.answers import score_answers
    from ..evaluators.answers_section import answers_section
    from ..evaluators.narratives import cluster
    from ..judge.answers import ANSWERS, QUESTIONS, read_answers, read_questions
    from ..judge.benchmark import load_benchmark
    from ..judge.records import identity

    benchmark = load_benchmark(bench)
    if not (bench / ANSWERS).is_file():
        raise InputError(
            f"{bench} has no {ANSWERS}, so there are no gold answers; import a data set with closed questions"
        )
    known = {identity(case.id) for case in benchmark.cases}
    gold = [answer for answer in read_answers(bench / ANSWERS) if identity(answer.case_id) in known]
    path = questions or bench / QUESTIONS
    if path.is_file():
        asked = read_questions(path)
    elif questions is not None or benchmark.name not in TABLES or not load_questions(benchmark.name).questions:
        raise InputError(f"no questions at {path}; name a file with question_id, kind (single, multi, open), options")
    else:
        asked = list(load_questions(benchmark.name).questions)
        output.say(f"{path} is not there; the shipped table of {benchmark.name} stands in, which knows "
                   f"{len(asked)} of {load_questions(benchmark.name).size} questions")  # fmt: skip
    answers = read_answers(given, columns or None, system or given.stem)
    clusters = {case.id: cluster(case) for case in benchmark.cases}
    result = score_answers(gold, answers, asked, clusters, diagnoses=diagnoses, resamples=resamples, seed=seed)
    output.emit(result.to_dict(), as_json, lambda: "\n".join(answers_section(result)))
    lost = sum(one.counts["unanswered"] for one in result.questions)
    if lost or result.strange:
        output.say(f"{lost} questions without an answer, {len(result.strange)} answers that cannot be scored as given")
        raise SystemExit(output.INCOMPLETE)
