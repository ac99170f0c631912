"""MM-Skin (Zeng 2025): textbook pictures with questions and answers that a language model made from the captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import Bundle, find_file, present
from .reading import Tree, one_of, read_json_list

_PARTS = ("test", "train", "all")


def read(root: str | Path, *, images: str | Path | None = None, part: str = "test", licence: str = "") -> Bundle:
    """Read MM-Skin_test.csv (part "test"), vqa_MM.json ("train", conversations) or both ("all") below `root`.

    images: the folder that the published paths (dataset/bk5_630.png) start from (default: `root`). licence: the set
    states none, so it must be said before pictures are copied. A case is a picture; there is neither diagnosis nor
    caption. Comes with three tables: answers (case_id, question_id, value), questions (question_id, kind "open") and
    asked (case_id, question_id, text). No question is put to many pictures, so question_id is the place within its
    picture ("1", "2" ...): scores are by place, and of all. InputError if the table is not there.
    """
    one_of(part, _PARTS, "part")
    reader = _Pairs(Tree(Path(images or root)), licence)
    if part != "train":
        table = read_csv_table(find_file(Path(root), ("MM-Skin_test.csv",)))
        check_columns(table, ("image", "question", "answer"), ("image", "question", "answer"))
        for line, row in table.dicts():
            reader.add(table.file, line, row["image"], [(row["question"], row["answer"])], "test")
    if part != "test":
        path = find_file(Path(root), ("vqa_MM.json",))
        for line, item in read_json_list(path, "image"):
            reader.conversation(path.name, line, item)
    return Bundle(
        "mm_skin", "1", licence, "https://github.com/ZwQ803/MM-Skin", "Zeng W et al., arXiv:2505.06152",
        list(reader.cases.values()), reader.tree.root, problems=reader.problems,
        tables={"answers": reader.answers, "questions": reader.questions(), "asked": reader.asked},
        notes=[
            "No licence is stated, and the pictures are from textbooks: research use at your own risk.",
            "Answers were made by a language model from captions; many cannot be told from the picture.",
        ])  # fmt: skip


class _Pairs:
    """Pictures with their questions and answers, gathered over rows and files."""

    def __init__(self, tree: Tree, licence: str):
        self.tree, self.licence = tree, licence
        self.cases: dict[str, Case] = {}
        self.answers: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.problems: list[Problem] = []
        self._asked: dict[tuple[str, str], int] = {}
        self._count: dict[str, int] = {}

    def conversation(self, file: str, line: int, item: dict[str, Any]) -> None:
        """One record in LLaVA's form: turns of human and gpt by pairs."""
        turns = item.get("conversations")
        path = item.get("image")
        try:
            if not isinstance(path, str):
                raise ValueError("image is no path")
            if not isinstance(turns, list) or len(turns) % 2 or not turns:
                raise ValueError("conversations is no list of turns by pairs")
            said = [(str(turn.get("from")), str(turn.get("value"))) for turn in turns if isinstance(turn, dict)]
            if [who for who, _ in said] != ["human", "gpt"] * (len(turns) // 2):
                raise ValueError("turns must be human and gpt by pairs")
        except ValueError as error:
            self.problems.append(Problem(file, line, str(path), str(error)))
            return
        pairs = [
            (ask.replace("<image>", " "), reply) for (_, ask), (_, reply) in zip(said[::2], said[1::2], strict=True)
        ]
        self.add(file, line, path, pairs, "train")

    def add(self, file: str, line: int, path: str, pairs: list[tuple[str, str]], split: str) -> None:
        """Questions and answers on one picture; what cannot be used is listed."""
        name = Path(path.strip()).stem
        try:
            if not name:
                raise ValueError("image is empty")
            found = self.tree.find(path)
            case = self.cases.setdefault(identity(name), Case(
                id=name, images=(Image(found),), split=split, source="MM-Skin", licence=self.licence))  # fmt: skip
            if case.images[0].path != found:
                raise ValueError(f"two pictures are called {name}: {case.images[0].path} and {found}")
            if case.split != split:
                raise ValueError(f"the picture is in the splits {case.split} and {split}")
            for question, answer in pairs:
                self._ask(case.id, " ".join(question.split()), present(answer), line)
        except ValueError as error:
            self.problems.append(Problem(file, line, name, str(error)))

    def _ask(self, case: str, question: str, answer: str, line: int) -> None:
        if not question or not answer:
            raise ValueError("question or answer is empty")
        if (first := self._asked.setdefault((case, question), line)) != line:
            raise ValueError(f"the same question stands already on line {first}")
        self._count[case] = number = self._count.get(case, 0) + 1
        self.asked.append({"case_id": case, "question_id": f"{number}", "text": question})
        self.answers.append({"case_id": case, "question_id": f"{number}", "value": answer})

    def questions(self) -> list[dict[str, Any]]:
        """A question per place: its words differ from picture to picture and stand in `asked`."""
        most = max(self._count.values(), default=0)
        return [{"question_id": f"{place}", "kind": "open", "text": f"question {place} on a picture (asked.jsonl)"}
                for place in range(1, most + 1)]  # fmt: skip
