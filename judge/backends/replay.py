"""Recorded answers read again: no model, no cost. Re-parses an old run, or scores answers written elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import sha256_file
from ..parse import parse
from ..prompt import Form
from ..records import Score, identity
from ..rubric import Rubric
from .base import Answer, Question


class ReplayJudge:
    """Answers from a .jsonl file: a line {"case_id", "system", "arm"?, "sample"?, "answer", "finish_reason"?} each.

    A narrative without a recorded answer ends as `skipped`. InputError for a file that is not of this form.
    """

    form: Form = "full"
    batch_size = 64
    max_images: int | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, rubric: Rubric):
        self.name, self.rubric = f"replay:{Path(path).name}", rubric
        self.answers = _read(Path(path))
        self.signature: Mapping[str, Any] = {
            "judge": self.name,
            "rubric": f"{rubric.id}:{rubric.hash}",
            "read": "written",
            "answers": sha256_file(path)[:16],
        }

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        return [self._one(question.key) for question in questions]

    def _one(self, key: str) -> Answer:
        if (recorded := self.answers.get(identity(key))) is None:
            return Answer(dict.fromkeys(self.rubric.names, Score(None, "skipped", "no recorded answer")))
        text, finish = recorded
        read = parse(text, self.rubric, finish)
        return Answer(read.scores, read.critique, text)


def _read(path: Path) -> dict[str, tuple[str, str]]:
    answers: dict[str, tuple[str, str]] = {}
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read recorded answers {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            key = narrative_key(row["case_id"], row["system"], row.get("arm", "image_only"), int(row.get("sample", 0)))
            value = (str(row["answer"]), str(row.get("finish_reason", "")))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: an answer has case_id, system and answer, and optional arm, sample, "
                f"finish_reason; here: {type(error).__name__} {error}"
            ) from error
        if identity(key) in answers:
            raise InputError(f"{path}, line {number}: a second answer for {key}")
        answers[identity(key)] = value
    if not answers:
        raise InputError(f"{path} holds no answers")
    return answers


def narrative_key(case_id: str, system: str, arm: str, sample: int) -> str:
    """The key of a narrative as one string, as journals and recorded answers use it."""
    return json.dumps([case_id, system, arm, sample], ensure_ascii=False)
