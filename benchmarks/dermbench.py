"""DermBench (Shen 2025): 4,000 DermNet cases with a certified reference text each, in the published layout.

The pictures are not part of the release and their licence limits what may be done with them: without `images` all
cases are text only.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from ..evaluators.labels import load_label_map
from ..evaluators.terms import Terms, load_terms
from ..evaluators.wording import words
from ..judge.errors import InputError
from ..judge.records import Case, Image, Narrative, identity
from ..judge.tablefile import Problem, check_columns, read_table
from .bundle import Bundle, derived_urgency, find_file
from .reading import Labels, Tree, plain_text

LICENCE = "CC BY-NC 4.0 (texts; the pictures belong to DermNet)"
REFERENCE_SYSTEM = "certified-reference"
_COLUMNS = ("id", "diagnosis", "category", "cot", "cot_sha256", "dermnet_image_path", "source", "split")


def read(root: str | Path, *, images: str | Path | None = None, references: bool = True) -> Bundle:
    """Read DermBench below `root`; `images` is the folder to which `dermnet_image_path` is relative.

    references: whether the certified texts also come as narratives of a system "certified-reference".

    Gold is the label mapped to the term list, never text mined from the reference. Tags: category, raw_label,
    label_confidence (high, medium, low: leave low ones out of scores), series (the file name without its number, the
    natural unit of splits and clusters), same_file (other cases of that file name), reference_names_label (whether
    the reference names the label or a relative of it anywhere), reference_tags (unbalanced or none, where the text's
    <think> tags are so), unmapped_labels (what the label map does not hold). InputError if the manifest is not there.
    """
    manifest = find_file(Path(root), ("dermbench_test.jsonl",))
    folder = manifest.parents[2] if manifest.parent.name == "manifest" else manifest.parent
    table = read_table(manifest)
    check_columns(table, _COLUMNS, _COLUMNS[:6])
    pictures = Tree(Path(images)) if images else None
    terms, labels = load_terms(), load_label_map()
    bundle = Bundle(
        "dermbench", "1", LICENCE, "https://github.com/yuhos16/DermBench", "Shen et al., arXiv:2511.09195", [],
        Path(images) if images else None, notes=[labels.note, terms.note])  # fmt: skip
    seen: dict[str, int] = {}
    lines: list[int] = []
    for line, row in table.dicts():
        try:
            if (first := seen.setdefault(identity(str(row["id"])), line)) != line:
                raise ValueError(f"'{row['id']}' stands already on line {first}")
            label = labels.lookup(row["diagnosis"], row["category"])
            names: tuple[str, ...] = (label.canonical,) if label else ()
            reference, tags_of_text = _reference(folder, row)
            urgency, derived = derived_urgency(names, terms) if names else ("", False)
            path = row["dermnet_image_path"]
            tags = {
                "category": row["category"], "raw_label": row["diagnosis"],
                "label_confidence": label.confidence if label else "none", "image": path, "series": _series(path),
                "reference_sha256": row["cot_sha256"],
                "reference_names_label": bool(names) and names_condition(reference, names[0], terms),
                **({"unmapped_labels": [row["diagnosis"]]} if label is None else {}),
                **({"reference_tags": tags_of_text} if tags_of_text != "balanced" else {}),
            }  # fmt: skip
            shown = (Image(pictures.find(path), modality=_modality(path)),) if pictures else ()
            bundle.cases.append(Case(
                id=row["id"], images=shown, split=row.get("split") or "", reference=reference, diagnosis=names,
                urgency=urgency, urgency_derived=derived, tags=tags, source="DermBench", licence=LICENCE))  # fmt: skip
            lines.append(line)
        except ValueError as error:
            bundle.problems.append(Problem(table.file, line, str(row.get("id")), str(error)))
    bundle.cases = _mark_same_files(bundle.cases)
    if references:
        bundle.narratives = reference_narratives(bundle.cases)
    _note(bundle, pictures)
    bundle.notes += Labels(terms).notes(zip(lines, bundle.cases, strict=True), table.file)
    bundle.notes += _missing(manifest.with_name("categories.csv"), bundle.cases)
    return bundle


def reference_narratives(cases: list[Case]) -> list[Narrative]:
    """The references as narratives of a system "certified-reference": a baseline that every judge should like."""
    return [
        Narrative(case.id, REFERENCE_SYSTEM, case.reference, arm="text_only", language="en") for case in cases
        if case.reference
    ]  # fmt: skip


def names_condition(text: str, name: str, terms: Terms) -> bool:
    """Whether a text names a condition, one of its broader conditions or one of its subtypes anywhere.

    A string search (names and synonyms, plural and spelling evened out), so a name that is only ruled out counts too.
    """
    found = terms.find(name)
    if found is None:
        return False
    family = [c for c in terms.conditions.values()
              if not c.is_group and (c is found or c.name in found.ancestors or found.name in c.ancestors)]  # fmt: skip
    running = f" {' '.join(words(text).norm)} "
    aliases = (alias for c in family for alias in (c.name, *c.synonyms) if not (alias.isupper() and len(alias) <= 4))
    return any(f" {' '.join(norm)} " in running for alias in aliases if (norm := words(alias).norm))


def _reference(folder: Path, row: dict[str, Any]) -> tuple[str, str]:
    """The certified text, and whether its reasoning tags are "balanced", "unbalanced" or "none"."""
    path = folder / row["cot"]
    if ".." in Path(row["cot"]).parts or Path(row["cot"]).is_absolute():
        raise ValueError(f"the path {row['cot']} leaves the data set")
    if not path.is_file():
        raise ValueError(f"the reference {row['cot']} is not there")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != row["cot_sha256"]:
        raise ValueError(f"the reference {row['cot']} is not the published text (SHA-256 differs)")
    # The certified text is the whole file; only the tags are markup that no judge should see.
    text = plain_text(data, row["cot"])
    opened, closed = (len(re.findall(rb"(?i)<" + slash + rb"think(?:ing)?>", data)) for slash in (b"", b"/"))
    return text, "unbalanced" if opened != closed else "balanced" if opened else "none"


def _series(path: str) -> str:
    return re.sub(r"[-_ ]*\d+$", "", Path(path).stem) or Path(path).stem


def _modality(path: str) -> str:
    stem = Path(path).stem.casefold()
    return "histology" if "histolog" in stem else "dermoscopic" if "dermoscop" in stem else "clinical"


def _mark_same_files(cases: list[Case]) -> list[Case]:
    by_name: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        by_name[Path(case.tags["image"]).name.casefold()].append(case.id)
    for case in cases:
        others = [name for name in by_name[Path(case.tags["image"]).name.casefold()] if name != case.id]
        if others:
            case.tags["same_file"] = others  # type: ignore[index]
    return cases


def _note(bundle: Bundle, pictures: Tree | None) -> None:
    if not bundle.cases:
        first = f": {bundle.problems[0]}" if bundle.problems else ""
        raise InputError(f"no case of DermBench could be read{first}")
    n = len(bundle.cases)
    count = {level: sum(case.tags["label_confidence"] == level for case in bundle.cases) for level in ("low", "none")}
    usable = [case for case in bundle.cases if case.tags["label_confidence"] in ("high", "medium")]
    silent = sum(not case.tags["reference_names_label"] for case in usable)
    bundle.notes += [
        f"{count['low']} of {n} labels are mapped with low confidence; score them apart or not at all.",
        f"{silent} of {len(usable)} references name neither their own label nor a relative of it.",
        "References were written from captions of the pictures; do not take them as truth for triage.",
    ]
    if count["none"]:
        bundle.notes.append(f"{count['none']} of {n} labels are not in the label map and stay without gold.")
    if tagged := sum("reference_tags" in case.tags for case in bundle.cases):
        bundle.notes.append(f"{tagged} of {n} references have unbalanced or no <think> tags; tags were taken off.")
    odd = sum(_modality(case.tags["image"]) != "clinical" for case in bundle.cases)
    if odd:
        bundle.notes.append(f"{odd} of {n} pictures are histology or dermoscopy by their name.")
    if pictures is None:
        bundle.notes.append("Imported without pictures (not part of the release): text only.")


def _missing(path: Path, cases: list[Case]) -> list[str]:
    """A note on categories of which fewer cases came in than the published count says."""
    if not path.is_file():
        return []
    table = read_table(path)
    check_columns(table, table.columns, ("category", "count"))
    found = Counter(case.tags["category"] for case in cases)
    short = [f"{row['category']} ({found[row['category']]} of {row['count']})" for _, row in table.dicts()
             if str(row["count"]).isdigit() and found[row["category"]] < int(row["count"])]  # fmt: skip
    return [f"Fewer cases than categories.csv counts: {'; '.join(short)}."] if short else []
