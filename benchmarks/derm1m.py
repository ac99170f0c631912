"""Derm1M (Yan 2025): a million captions on 403,563 pictures from the web, labels in a tree of four levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..evaluators.terms import load_terms
from ..judge.errors import InputError
from ..judge.records import Case, Image, Narrative, identity
from ..judge.tablefile import Problem, Table, check_columns, parse_json, read_csv_table, read_text
from .bundle import Bundle, find_file, present, sentence
from .reading import Labels, Tree, one_of
from .rows import Gold, Row, kept

LICENCE = "CC BY-NC 4.0"
SYSTEM = "web-caption"
_FILES = {"validation": "Derm1M_v2_validation.csv", "train": "Derm1M_v2_pretrain.csv"}
_COLUMNS = ("filename", "caption", "truncated_caption", "source", "source_type", "disease_label",
            "hierarchical_disease_label", "skin_concept", "body_location", "symptoms", "age", "gender")  # fmt: skip
# The set's own words for "not told": "No symptom information", "no definitive diagnosis", "No visual concepts" ...
_NOTHING = re.compile(r"no\b.*\b(information|diagnosis|concepts?)", re.IGNORECASE)
_YEARS = re.compile(r"(\d{1,3})(?:\.0)?(?:[ -]*(?:years?|yrs?|y/?o)(?:[ -]*old)?)?", re.IGNORECASE)
_SEX = {"male": "male", "m": "male", "man": "male", "female": "female", "f": "female", "woman": "female"}


def read(
    root: str | Path, *, images: str | Path | None = None, part: str = "validation", references: bool = True
) -> Bundle:
    """Read Derm1M_v2_validation.csv (part "validation"), Derm1M_v2_pretrain.csv ("train") or both ("all").

    images: the folder that `filename` starts from (default: `root`). A case is a picture: its first caption is the
    reference, and with `references` all its captions come as narratives of a system "web-caption". Gold is
    disease_label where the term list holds it. Tags: path (the published tree, root first), concepts, source, age where
    it is a number of years, sex, site. The set's words for "not told" are missing values. InputError if the table, or
    ontology.json where it is there but no tree, cannot be read.
    """
    one_of(part, (*_FILES, "all"), "part")
    root = Path(root)
    gold, tree = Gold(load_terms()), Tree(Path(images or root))
    reader = _Reader(tree, Labels(gold.terms), gold, _parents(root))
    for split, name in _FILES.items():
        if part in (split, "all"):
            table = read_csv_table(find_file(root, (name,)))
            check_columns(table, _COLUMNS, _COLUMNS[:2] + _COLUMNS[5:7])
            reader.read(table, split)
    cases = list(reader.cases.values())
    notes = [
        "Public data sets are among the sources: look for overlap before you test on them what was trained on this.",
        f"{reader.no_label} of {len(cases)} cases have no definitive diagnosis, as published.",
        *([f"{len(reader.strange)} labels do not stand under their published parent in ontology.json: "
           f"{'; '.join(sorted(reader.strange)[:5])}."] if reader.strange else []),
        *(note for file, made in reader.made.items() for note in reader.labels.notes(made, file)),
    ]  # fmt: skip
    return Bundle(
        "derm1m", "2", LICENCE, "https://github.com/SiyuanYan1/Derm1M", "Yan S et al., arXiv:2503.14911", cases,
        tree.root, narratives=reader.narratives if references else [], problems=reader.problems, notes=notes,
    )  # fmt: skip


class _Reader:
    """Rows of both tables as cases, one a picture."""

    def __init__(self, tree: Tree, labels: Labels, gold: Gold, parents: dict[str, set[str]]):
        self.tree, self.labels, self.gold, self.parents = tree, labels, gold, parents
        self.cases: dict[str, Case] = {}
        self.narratives: list[Narrative] = []
        self.problems: list[Problem] = []
        self.made: dict[str, list[tuple[int, Case]]] = {}
        self.strange: set[str] = set()
        self.no_label = 0
        self._captions: dict[str, int] = {}

    def read(self, table: Table, split: str) -> None:
        made = self.made.setdefault(table.file, [])
        for line, row in table.dicts():
            try:
                case = self._case(row, split)
                known = self.cases.setdefault(identity(case.id), case)
                if known is case:
                    made.append((line, case))
                    self.no_label += not case.tags.get("raw_label")
                elif known.split != split:
                    raise ValueError(f"the picture is in the splits {known.split} and {split}")
                elif known.tags.get("raw_label") != case.tags.get("raw_label"):
                    told = [found.tags.get("raw_label", "nothing") for found in (known, case)]
                    raise ValueError(f"the picture is called {told[1]} here and {told[0]} on an earlier line")
                self._captions[known.id] = number = self._captions.get(known.id, 0) + 1
                self.narratives.append(Narrative(known.id, SYSTEM, case.reference, sample=number - 1, language="en"))
            except ValueError as error:
                self.problems.append(Problem(table.file, line, str(row["filename"]), str(error)))

    def _case(self, row: Row, split: str) -> Case:
        name, caption = row["filename"].strip(), row["caption"].strip()
        if not name or not caption:
            raise ValueError(f"{'caption' if name else 'filename'} is empty")
        label = _told(row["disease_label"])
        path = [part.strip() for part in _told(row["hierarchical_disease_label"]).split(",") if part.strip()]
        self._check_path(path)
        names, unmapped = self.labels.split([label])
        age = _YEARS.fullmatch(_told(row.get("age")))
        site, sex = _told(row.get("body_location")).lower(), _SEX.get(_told(row.get("gender")).casefold(), "")
        tags: dict[str, Any] = {
            "raw_label": label, "path": path, "unmapped_labels": unmapped, "age": int(age[1]) if age else None,
            "sex": sex, "site": site, "origin": present(row.get("source")),
            "origin_type": present(row.get("source_type")),
            "concepts": [part.strip() for part in _told(row.get("skin_concept")).split(",") if part.strip()],
        }  # fmt: skip
        return Case(
            id=name, images=(Image(self.tree.find(name), body_site=site),), split=split, reference=caption,
            context=sentence({"Age": str(tags["age"] or ""), "Sex": sex, "Site": site,
                              "Symptoms": _told(row.get("symptoms"))}),
            diagnosis=names, tags=kept(tags), source="Derm1M", licence=LICENCE, **self.gold.urgency(names))  # fmt: skip

    def _check_path(self, path: Sequence[str]) -> None:
        for parent, child in pairwise(path):
            if self.parents and parent.casefold() not in self.parents.get(child.casefold(), set()):
                self.strange.add(f"{child} under {parent}")


def _told(value: Any) -> str:
    text = present(value)
    return "" if _NOTHING.fullmatch(text) else text


def _parents(root: Path) -> dict[str, set[str]]:
    """Child -> its parents, in small letters, of ontology.json (parent -> list of children); empty without it."""
    path = next(iter(sorted(root.rglob("ontology.json"))), None)
    if path is None:
        return {}
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(children, list) for children in content.values()):
        raise InputError(f"{path}: an object of parent and list of children is needed")
    parents: dict[str, set[str]] = {}
    for parent, children in content.items():
        for child in children:
            parents.setdefault(str(child).casefold(), set()).add(parent.casefold())
    return parents
