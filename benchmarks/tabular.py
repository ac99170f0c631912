"""Any table (CSV, Parquet, JSONL) beside a folder of images, by naming which column is what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..evaluators.terms import Terms, load_terms
from ..judge.benchmark import assign_splits
from ..judge.errors import InputError
from ..judge.records import URGENCIES, Case, Image, identity
from ..judge.tablefile import ENDINGS, Problem, column_help, parse_json, read_table, read_text
from .bundle import Bundle, Pictures, derived_urgency, number, present, sentence, skin_type, unknown_label


class _Columns(BaseModel):
    """Which column of the table is what; `context` and `tags` may name several."""

    model_config = ConfigDict(extra="forbid")
    id: str
    image: str = ""
    diagnosis: str = ""
    patient_id: str = ""
    lesion_id: str = ""
    split: str = ""
    context: list[str] = []
    reference: str = ""
    urgency: str = ""
    fitzpatrick: str = ""
    age: str = ""
    sex: str = ""
    modality: str = ""
    body_site: str = ""
    tags: list[str] = []


class Plan(BaseModel):
    """What a mapping file (YAML) may say."""

    model_config = ConfigDict(extra="forbid")
    columns: _Columns
    table: str = ""
    name: str = "tabular"
    version: str = "1"
    licence: str = ""
    source: str = ""
    citation: str = ""
    labels: dict[str, str | list[str]] = {}
    separator: str = ""
    fractions: dict[str, float] = {}
    split_by: Literal["patient_id", "lesion_id"] = "patient_id"
    seed: int = 0


def read(root: str | Path, *, mapping: str | Path | None = None, **options: Any) -> Bundle:
    """Read a table below `root` whose image column is relative to `root` (or a file name, with or without ending).

    mapping: a YAML file with the keys of `options`, which win over it. columns: role -> column; roles are id (needed),
    image, diagnosis, patient_id, lesion_id, split, context, reference, urgency, fitzpatrick, age, sex, modality,
    body_site, tags; context and tags may name several. labels: name in the table -> name(s) of the term list.
    separator: what stands between several diagnoses of a cell. fractions: shares of splits to assign, by patient_id or
    lesion_id. licence: must be said if pictures are to be copied. Rows of one id are one case with several pictures if
    they agree in all else. A label that the term list does not hold is kept as it is and noted with the closest names.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the folder that holds the table and the images")
    plan = make_plan(mapping, options)
    table = read_table(_table(root, plan.table))
    roles = {role: column for role, column in plan.columns.model_dump().items() if column}
    named = [c for column in roles.values() for c in ([column] if isinstance(column, str) else column)]
    if absent := [name for name in named if name not in table.columns]:
        raise InputError(column_help(table.file, table.columns, (), absent).split(" To rename")[0])
    pictures = Pictures(root) if plan.columns.image else None
    bundle = Bundle(plan.name, plan.version, plan.licence, plan.source, plan.citation, [], root if pictures else None)
    rows = zip(table.lines.tolist(), table.strings().iter_rows(named=True), strict=True)
    fill(bundle, rows, table.file, plan, pictures.find if pictures else None)
    return bundle


def fill(
    bundle: Bundle,
    rows: Iterable[tuple[int, Mapping[str, str]]],
    file: str,
    plan: Plan,
    find: Callable[[str], str] | None,
) -> None:
    """Put the cases of (line, row of texts) into a bundle, with the rows that were left out and what to note.

    find: from the text of the image column to a path, ValueError if there is no such picture; None for no pictures.
    """
    terms = load_terms()
    notes: dict[str, int] = {}
    cases: dict[str, Case] = {}
    for line, row in rows:
        try:
            case = _case(row, plan, find, terms, notes)
            known = cases.setdefault(identity(case.id), case)
            if known is not case:
                cases[identity(case.id)] = _joined(known, case)
        except ValueError as error:
            bundle.problems.append(Problem(file, line, row[plan.columns.id], str(error)))
    bundle.cases = list(cases.values())
    if plan.fractions:
        bundle.cases = assign_splits(bundle.cases, plan.fractions, plan.split_by, plan.seed)
    several = sum(len(case.images) > 1 for case in bundle.cases)
    bundle.notes += [f"{text} ({n} rows)" for text, n in notes.items()]
    bundle.notes += [f"{several} cases have several pictures."] if several else []


def make_plan(mapping: str | Path | None, options: Mapping[str, Any]) -> Plan:
    """The mapping file (YAML, or none) with the options over it; InputError that lists everything wrong with them."""
    try:
        content = yaml.safe_load(read_text(mapping)) if mapping else {}
    except yaml.YAMLError as error:
        raise InputError(f"{mapping} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{mapping}: keys such as columns and licence are needed")
    merged = {**content, **options}
    columns = merged.get("columns")
    if isinstance(columns, Mapping):
        single = {role: [value] for role, value in columns.items() if isinstance(value, str)}
        merged["columns"] = {**columns, **{role: single[role] for role in ("tags", "context") if role in single}}
    try:
        return Plan.model_validate(merged)
    except ValidationError as error:
        wrong = []
        for e in error.errors():
            place = ".".join(map(str, e["loc"]))
            known = _Columns.model_fields if e["loc"][0] == "columns" and len(e["loc"]) > 1 else Plan.model_fields
            known_text = f"; known: {', '.join(known)}" if e["type"] in ("extra_forbidden", "missing") else ""
            wrong.append(f"{mapping or 'tabular'}: {place}: {e['msg']}{known_text}")
        raise InputError("\n".join(wrong)) from error


def _table(root: Path, name: str) -> Path:
    if name:
        return root / name
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in (*ENDINGS, ".tsv"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or f"no {', '.join(ENDINGS)} file"
    raise InputError(f"{root} holds {names}; say which is the table: table=NAME")


def _case(
    row: Mapping[str, str], plan: Plan, find: Callable[[str], str] | None, terms: Terms, notes: dict[str, int]
) -> Case:
    columns = plan.columns

    def cell(column: str) -> str:
        return present(row[column]) if column else ""

    if not row[columns.id].strip():
        raise ValueError(f"the id column '{columns.id}' is empty")
    diagnosis = _diagnosis(cell(columns.diagnosis), plan, terms, notes)
    urgency, derived = cell(columns.urgency).lower(), False
    if urgency not in (*URGENCIES, ""):
        raise ValueError(f"urgency '{urgency}' is none of {', '.join(URGENCIES)}")
    if not urgency:
        urgency, derived = derived_urgency(diagnosis, terms) if diagnosis else ("", False)
    tags: dict[str, Any] = {column: value for column in columns.tags if (value := cell(column))}
    known = {"fitzpatrick": skin_type(cell(columns.fitzpatrick)), "age": number(cell(columns.age)),
             "sex": cell(columns.sex).lower()}  # fmt: skip
    tags |= {name: value for name, value in known.items() if value not in ("", None)}
    images: tuple[Image, ...] = ()
    if find and (name := cell(columns.image)):
        images = (Image(find(name), cell(columns.modality), cell(columns.body_site)),)
    elif find:
        raise ValueError(f"the image column '{columns.image}' is empty")
    facts = {column.replace("_", " ").capitalize(): cell(column) for column in columns.context}
    alone = len(columns.context) == 1
    return Case(
        id=row[columns.id].strip(), images=images, patient_id=cell(columns.patient_id),
        lesion_id=cell(columns.lesion_id), split=cell(columns.split),
        context=cell(columns.context[0]) if alone else sentence(facts),
        reference=row[columns.reference] if columns.reference else "", diagnosis=diagnosis, urgency=urgency,
        urgency_derived=derived, tags=tags, source=plan.name, licence=plan.licence,
    )  # fmt: skip


def _diagnosis(cell: str, plan: Plan, terms: Terms, notes: dict[str, int]) -> tuple[str, ...]:
    """Names of the term list where it holds them, else as written. A list written out in JSON is read as one."""
    if cell.startswith("["):
        parsed = parse_json(cell)
        raw: Sequence[str] = [str(item) for item in parsed]
    else:
        raw = [part.strip() for part in cell.split(plan.separator)] if plan.separator else [cell]
    names: dict[str, None] = {}
    for label in filter(None, raw):
        mapped = plan.labels.get(label, label)
        for name in [mapped] if isinstance(mapped, str) else mapped:
            found = terms.find(name)
            if found is None:
                text = unknown_label(name, terms)
                notes[text] = notes.get(text, 0) + 1
            names[found.name if found else name] = None
    return tuple(names)


def _joined(one: Case, other: Case) -> Case:
    """Two rows of one id as one case; ValueError if they differ in more than the picture."""
    if one.id != other.id or replace(one, images=()) != replace(other, images=()):
        differs = [name for name in Case.__slots__ if name != "images" and getattr(one, name) != getattr(other, name)]
        raise ValueError(f"stands already on an earlier row with another {differs[0]}; one id is one case")
    if not other.images or other.images[0].path in {image.path for image in one.images}:
        raise ValueError("stands already on an earlier row with the same picture")
    return replace(one, images=one.images + other.images)
