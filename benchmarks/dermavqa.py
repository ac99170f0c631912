"""DermaVQA (Yim 2024): consultations with 1 to 16 pictures and several physicians' replies; parts iiyi and reddit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.records import Case, Image, Narrative, identity
from ..judge.tablefile import Problem, check_columns, parse_json, read_csv_table, read_text
from .bundle import Bundle, Pictures, find_file, number, present, sentence
from .reading import one_of, read_json_list, whole_id
from .rows import kept

LICENCE = "CC BY 4.0"
REDDIT_LICENCE = "CC BY 4.0 (replies; posts and pictures belong to who wrote them)"
CITATION = "Yim W et al., DermaVQA, MICCAI (2024)"
LANGUAGES = ("en", "zh", "es")
# The first file of each split that is there; corrected ones stand before those they correct.
IIYI_FILES = {
    "train": ("train.json",),
    "validation": ("valid_ht_v2.json", "valid_ht.json", "valid.json"),
    "test": ("test_ht_spanishtestsetcorrected.json", "test_ht.json", "test.json"),
}
_REDDIT_FILES = {
    "train": ("train_answersonly.json", "train.json"),
    "validation": ("valid_answersonly.json", "valid.json"),
    "test": ("test_answersonly.json", "test.json"),
}
_SEX = {"m": "male", "male": "male", "男": "male", "f": "female", "female": "female", "女": "female"}


def read(
    root: str | Path, *, images: str | Path | None = None, language: str = "en", references: bool = True
) -> Bundle:
    """Read the iiyi part below `root`: train.json, valid_ht.json, test_ht.json and, where they are, the side files.

    images: the folder of pictures (default: `root`). language: "en", "zh" or "es", of question and replies.
    references: whether each reply also comes as a narrative of a system "physician", its scores in the provenance.
    There is no gold diagnosis and none is mined from replies. `reference` is the reply that contains the commonest
    answer and is most complete; where none is scored (train), the first. Age, sex and site are those of
    df_mediqa-m3g-final.csv. InputError if no file of the set or no picture is there.
    """
    root = Path(root)
    pictures = Pictures(Path(images or root))
    reader = Encounters(pictures, one_of(language, LANGUAGES, "language"), "DermaVQA iiyi", LICENCE, "physician")
    reader.patients, reader.authors = _patients(root, reader.problems), _authors(root)
    reader.read(root, IIYI_FILES)
    return Bundle(
        "dermavqa_iiyi", "1", LICENCE, "https://osf.io/72rp3", CITATION, reader.cases, pictures.root,
        narratives=reader.narratives if references else [], problems=reader.problems, notes=reader.notes())  # fmt: skip


def read_reddit(
    root: str | Path, *, images: str | Path | None = None, language: str = "en", references: bool = True
) -> Bundle:
    """Read the reddit part below `root`: *_answersonly.json, or the same files after its script pulled the posts.

    images: the folder of pictures that were pulled; without it, or where a picture is gone, a case is text only. A
    case of which neither post nor picture is left is listed. Otherwise as `read`, with a system "annotator".
    """
    pictures = Pictures(Path(images)) if images else None
    reader = Encounters(
        pictures, one_of(language, LANGUAGES, "language"), "DermaVQA reddit", REDDIT_LICENCE, "annotator"
    )
    reader.read(Path(root), _REDDIT_FILES)
    return Bundle(
        "dermavqa_reddit", "1", REDDIT_LICENCE, "https://osf.io/72rp3", CITATION, reader.cases,
        pictures.root if pictures else None, narratives=reader.narratives if references else [],
        problems=reader.problems, notes=["Posts vanish with time: say how many of the 585 were left.", *reader.notes()],
    )  # fmt: skip


@dataclass
class Encounters:
    """Encounters of all splits as cases, their replies as narratives; what cannot be used goes to `problems`."""

    pictures: Pictures | None
    language: str
    source: str
    licence: str
    system: str
    patients: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    authors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    narratives: list[Narrative] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    empty: int = 0
    _seen: dict[str, str] = field(default_factory=dict)

    def read(self, root: Path, files: Mapping[str, Sequence[str]]) -> None:
        """Read the files of each split that are there; InputError if none is."""
        if not root.is_dir():
            raise InputError(f"{root} is no folder; give the folder that holds {files['train'][0]}")
        found = {split: path for split, names in files.items() if (path := _first(root, names))}
        if not found:
            find_file(root, [name for names in files.values() for name in names])
        for split, path in found.items():
            for line, row in read_json_list(path, "encounter_id"):
                try:
                    self._add(path.name, line, row, split)
                except ValueError as error:
                    self.problems.append(Problem(path.name, line, str(row.get("encounter_id")), str(error)))

    def _add(self, file: str, line: int, row: Mapping[str, Any], split: str) -> None:
        name = whole_id(row.get("encounter_id"), "encounter_id")
        if (first := self._seen.setdefault(identity(name), f"line {line} of {file}")) != f"line {line} of {file}":
            raise ValueError(f"'{name}' stands already on {first}")
        replies = self._replies(name, row.get("responses"))
        shown = self._images(file, line, name, row.get("image_ids"))
        tags = dict(self.patients.get(identity(name), {}))
        title, content = (_text(row, f"query_{part}_{self.language}") for part in ("title", "content"))
        if not shown and not title and not content:
            raise ValueError("has neither a picture nor a question; was the post not fetched, or is it gone?")
        facts = sentence({"Age": str(tags.get("age", "")), "Sex": tags.get("sex", "")})
        site = tags.get("site", "")
        self.cases.append(Case(
            id=name, images=tuple(Image(path, "clinical", site) for path in shown), split=split,
            context="\n".join(filter(None, (title, content, facts))), reference=_best(replies),
            tags=kept({**tags, "author_id": str(row.get("author_id") or ""), "replies": len(replies)}),
            source=self.source, licence=self.licence))  # fmt: skip
        self.narratives += replies

    def _images(self, file: str, line: int, name: str, ids: Any) -> list[str]:
        """The pictures that are there; each that is not is a problem of its own, the case stays."""
        if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            raise ValueError("image_ids is no list of names")
        found: list[str] = []
        for item in ids if self.pictures else ():
            try:
                found.append(self.pictures.find(item))  # type: ignore[union-attr]
            except ValueError as error:
                self.problems.append(Problem(file, line, name, str(error)))
        return list(dict.fromkeys(found))

    def _replies(self, name: str, responses: Any) -> list[Narrative]:
        if not isinstance(responses, list) or not all(isinstance(item, dict) for item in responses):
            raise ValueError("responses is no list of objects")
        replies: list[Narrative] = []
        for item in responses:
            text = _text(item, f"content_{self.language}")
            if not text:
                self.empty += 1
                continue
            author = whole_id(item.get("author_id") or "unknown", "author_id")
            said: dict[str, Any] = {"author_id": author, **self.authors.get(identity(author), {})}
            for score, levels in (("completeness", (0, 0.5, 1)), ("contains_freq_ans", (0, 1))):
                if item.get(score) is not None:
                    if item[score] not in levels:
                        raise ValueError(f"{score} {item[score]!r} is none of {', '.join(map(str, levels))}")
                    said[score] = item[score]
            replies.append(Narrative(name, self.system, text, "image_context", len(replies), language=self.language,
                                     provenance=said))  # fmt: skip
        return replies

    def notes(self) -> list[str]:
        bare = sum(not case.images for case in self.cases)
        return [
            "No case has a gold diagnosis: replies differ, and none is mined for one.",
            "The reference is the most complete reply with the commonest answer; of unscored replies, the first.",
            *([f"{bare} of {len(self.cases)} cases have no picture: text only."] if bare else []),
            *([f"{self.empty} replies are empty in '{self.language}' and were left out."] if self.empty else []),
        ]  # fmt: skip


def _first(root: Path, names: Sequence[str]) -> Path | None:
    for name in names:
        if found := sorted(root.rglob(name), key=lambda path: (len(path.parts), path.as_posix())):
            return found[0]
    return None


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value.strip() if isinstance(value, str) else ""


def _best(replies: Sequence[Narrative]) -> str:
    """The reply with the commonest answer that is most complete, the first of those; "" if there is none."""
    if not replies:
        return ""
    return max(replies, key=lambda reply: (reply.provenance.get("contains_freq_ans", -1),
                                           reply.provenance.get("completeness", -1))).text  # fmt: skip


def _authors(root: Path) -> dict[str, dict[str, Any]]:
    path = _first(root, ("df_userinfo.csv",))
    if path is None:
        return {}
    table = read_csv_table(path)
    check_columns(table, table.columns, ("author_id",))
    return {identity(str(row["author_id"])): kept({name: present(row.get(name)) for name in (
        "validation_level", "rank_level")}) for _, row in table.dicts()}  # fmt: skip


def _patients(root: Path, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """age, sex and site by ENC id; the table numbers encounters otherwise, and a further file joins the two."""
    path, join = _first(root, ("df_mediqa-m3g-final.csv",)), _first(root, ("instanceid2encounterid.json",))
    if path is None or join is None:
        return {}
    names = _joined(join)
    table = read_csv_table(path)
    check_columns(table, table.columns, ("encounter_id",))
    found: dict[str, dict[str, set[Any]]] = {}
    for line, row in table.dicts():
        try:
            original = whole_id(row["encounter_id"], "encounter_id")
            name = names.get(original, original if original.startswith("ENC") else "")
            if not name:
                raise ValueError(f"{original} is no number of {join.name}")
            said = {"age": number(row.get("age_norm")), "sex": _sex(row.get("sex")),
                    "site": present(row.get("anatomic_locations")).lower()}  # fmt: skip
        except ValueError as error:
            problems.append(Problem(table.file, line, str(row["encounter_id"]), str(error)))
            continue
        for tag, value in kept(said).items():
            found.setdefault(identity(name), {}).setdefault(tag, set()).add(value)
    return {name: {tag: values.pop() for tag, values in tags.items() if len(values) == 1}
            for name, tags in found.items()}  # fmt: skip


def _joined(path: Path) -> dict[str, str]:
    """Original number -> ENC id, whichever way round the file holds the two."""
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: an object of number and ENC id is needed")
    pairs = ((str(one), str(other)) for one, other in content.items())
    return dict((other, one) if re.match("ENC", one) else (one, other) for one, other in pairs)


def _sex(value: Any) -> str:
    text = present(value).casefold()
    if text and text not in _SEX:
        raise ValueError(f"sex '{value}' is none of {', '.join(_SEX)}")
    return _SEX.get(text, "")
