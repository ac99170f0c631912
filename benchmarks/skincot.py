"""SkinCoT (SkinCaRe): 3,041 DermNet pictures with a reasoning text each, in English and Chinese, as a folder tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..evaluators.labels import load_label_map
from ..evaluators.terms import load_terms
from ..judge.benchmark import assign_splits
from ..judge.errors import InputError
from ..judge.records import Case, Image
from ..judge.tablefile import Problem, check_columns, read_table
from .bundle import SPLITS, SUFFIXES, Bundle, find_file
from .dermbench import names_condition
from .reading import Labels, one_of, plain_text, reference_narratives
from .rows import Gold, kept
from .skincap import LICENCE

SYSTEM = "certified-reference"
_FOLDERS = {"en": "EN", "zh": "ZH"}


def read(
    root: str | Path,
    *,
    language: str = "en",
    dermbench: str | Path | None = None,
    references: bool = True,
    fractions: Mapping[str, float] = SPLITS,
    seed: int = 0,
) -> Bundle:
    """Read the tree below `root`: images/CATEGORY/X.jpg beside EN/CATEGORY/X.jpg.txt and ZH/CATEGORY/X.jpg.txt.

    language: "en" or "zh", which text is the reference. dermbench: the folder of DermBench, whose manifest then tells
    which cases stand in both (tag in_dermbench). Gold is the file's name without its number, mapped by the label map
    and the term list, never text mined from the reference. Splits are by series (the name without its number), since
    pictures of one series look alike. InputError if the tree is not there.
    """
    one_of(language, _FOLDERS, "language")
    texts = _folder(Path(root), _FOLDERS[language])
    base = texts.parent
    terms, label_map = load_terms(), load_label_map()
    gold, labels = Gold(terms), Labels(terms)
    shared = _manifest(Path(dermbench)) if dermbench else set()
    problems: list[Problem] = []
    cases: list[Case] = []  # lesion_id holds the series until splits are drawn
    for path in sorted(texts.rglob("*.txt")):
        name = path.relative_to(texts).as_posix().removesuffix(".txt")
        place = f"{_FOLDERS[language]}/{name}.txt"
        category, _, file = name.rpartition("/")
        try:
            if not category:
                raise ValueError("lies in no category's folder")
            picture = base / "images" / name
            if not picture.is_file():
                raise ValueError(f"no image images/{name} belongs to this text")
            raw = _raw_label(file)
            mapped = label_map.lookup(raw, category)
            names, unmapped = ((mapped.canonical,), []) if mapped else labels.split([raw])
            text = plain_text(path.read_bytes(), place)
        except ValueError as error:
            problems.append(Problem(place, 0, name, str(error)))
            continue
        tags = {"category": category, "raw_label": raw, "series": _series(file), "unmapped_labels": unmapped,
                "label_confidence": mapped.confidence if mapped else "name" if names else "none",
                "reference_names_label": names_condition(text, names[0], terms) if names and language == "en" else None,
                "in_dermbench": name.casefold() in shared if dermbench else None}  # fmt: skip
        cases.append(Case(
            id=name, images=(Image(f"images/{name}", modality="clinical"),), lesion_id=f"{category}/{_series(file)}",
            reference=text, diagnosis=names, tags=kept(tags), source="SkinCoT", licence=LICENCE,
            **gold.urgency(names)))  # fmt: skip
    if not cases:
        raise InputError(f"no case of SkinCoT could be read below {texts}" + (f": {problems[0]}" if problems else ""))
    silent = sum(path.suffix.lower() in SUFFIXES and not (texts / f"{path.relative_to(base / 'images')}.txt").is_file()
                 for path in (base / "images").rglob("*"))  # fmt: skip
    both = sum(bool(case.tags.get("in_dermbench")) for case in cases)
    overlap = (f"{both} of {len(cases)} cases are also in DermBench (tag in_dermbench)." if dermbench else
               "The same pictures may be in DermBench; say dermbench=FOLDER to mark them.")  # fmt: skip
    return Bundle(
        "skincot", "1", LICENCE, "https://huggingface.co/datasets/yuhos16/SkinCaRe", "Shen Y et al., arXiv:2405.18004",
        _by_series(cases, fractions, seed), base, problems=problems,
        narratives=reference_narratives(cases, SYSTEM, language) if references else [],
        notes=[
            f"{overlap} Never train a judge on one and test it on the other.",
            "Licence statements conflict; do not pass the pictures on.",
            label_map.note,
            *([f"{silent} pictures have no text and were left out."] if silent else []),
            *labels.notes(((0, case) for case in cases), texts.name),
        ])  # fmt: skip


def _by_series(cases: list[Case], fractions: Mapping[str, float], seed: int) -> list[Case]:
    return [replace(case, lesion_id="") for case in assign_splits(cases, fractions, "lesion_id", seed)]


def _folder(root: Path, name: str) -> Path:
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the folder that holds images, EN and ZH")
    for folder in sorted((path for path in (root, *root.rglob(name)) if path.name == name), key=lambda p: len(p.parts)):
        if (folder.parent / "images").is_dir():
            return folder
    held = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
    raise InputError(f"no folder {name} beside a folder images below {root}. It holds {held}")


def _manifest(folder: Path) -> set[str]:
    table = read_table(find_file(folder, ("dermbench_test.jsonl",)))
    check_columns(table, table.columns, ("dermnet_image_path",))
    return {str(row["dermnet_image_path"]).casefold() for _, row in table.dicts()}


def _series(file: str) -> str:
    stem = Path(file).stem
    return re.sub(r"[-_ ]*\d+$", "", stem) or stem


def _raw_label(file: str) -> str:
    """The label as DermBench writes it: the file's name without its number, hyphens as blanks."""
    return " ".join(_series(file).replace("-", " ").replace("_", " ").split())
