"""Data sets in the form of the library `datasets`: Parquet, image folders, CSV or JSON, an object, or a hub name.

Only the builders that read plain files are used, so no code of a data set is ever run. A local data set is read
without a word to any server. Rows and pictures pass in a stream: nothing is copied into the library's cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..judge.errors import InputError, MissingExtra
from ..judge.images import stored
from .bundle import SUFFIXES, Bundle, Pictures
from .tabular import Plan, fill, make_plan

BUILDERS = ("parquet", "imagefolder", "csv", "json")
_ENDINGS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
_SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
           "val": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
_ROW = "row"  # the id of a case where no column is one


def read(
    root: Any,
    *,
    split: str = "",
    subset: str = "",
    revision: str = "",
    mapping: str | Path | None = None,
    **options: Any,
) -> Bundle:
    """Read a data set of the library `datasets`.

    root: a file or folder (.parquet; pictures in class folders or with metadata.csv; .csv; .json), a folder written by
    `save_to_disk`, a Dataset or DatasetDict, or a hub name OWNER/NAME (subset, revision: which of it). split: only this
    one. mapping and options: as for `tabular`. The columns id (default: split and row number), image (default: the one
    column of pictures) and diagnosis (default: the one column of classes) may be left out. The splits are the data
    set's own if it has several. InputError for what cannot be read and for a builder not among BUILDERS.
    """
    library = _library()
    parts = _load(library, root, subset, revision)
    if split and split not in parts:
        raise InputError(f"{_told(root)} has no split '{split}'; it has {', '.join(parts)}")
    parts = {split: parts[split]} if split else parts
    features = _features(parts, root)
    plan = _plan(library, features, mapping, options, named=bool(split) or len(parts) > 1)
    image = plan.columns.image
    info = next(iter(parts.values())).info
    folder = Path(root) if isinstance(root, str | Path) and Path(root).exists() else None
    bundle = Bundle(plan.name, plan.version, plan.licence or info.license or "", plan.source or _told(root),
                    plan.citation or info.citation or "", [])  # fmt: skip
    find: Callable[[str], str] | None = None
    if image and isinstance(features[image], library.Image):
        find = str
        bundle.loaders = partial(_pictures, library, parts, image, folder if folder is None or folder.is_dir() else
                                 folder.parent, hub=isinstance(root, str | Path) and folder is None)  # fmt: skip
    elif image:
        if folder is None or folder.is_file():
            raise InputError(f"{_told(root)}: the column '{image}' holds no pictures but {features[image]}; give the "
                             "folder in which the named files lie")  # fmt: skip
        bundle.root = folder
        find = Pictures(folder).find
    fill(bundle, _rows(library, parts, features, image if bundle.loaders else ""), _told(root), plan, find)
    return bundle


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("the package datasets", "train") from error
    # Even for local files the library tells its hub which builder was used; here nothing leaves the machine.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets


def _told(root: Any) -> str:
    return str(root) if isinstance(root, str | Path) else type(root).__name__


def _load(library: Any, root: Any, subset: str, revision: str) -> dict[str, Any]:
    """Split -> data set, streamed where it comes from files."""
    if isinstance(root, library.Dataset | library.IterableDataset):
        return {str(root.split or "train"): root}
    if isinstance(root, library.DatasetDict | library.IterableDatasetDict):
        return {str(name): part for name, part in root.items()}
    path = Path(root)
    try:
        if path.exists():
            if path.is_dir() and ((path / "state.json").is_file() or (path / "dataset_dict.json").is_file()):
                return _load(library, library.load_from_disk(str(path)), subset, revision)
            name = _builder(path)
            builder = library.load_dataset_builder(name, **_files(path, name))
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", str(root)):
            builder = library.load_dataset_builder(str(root), subset or None, revision=revision or None)
        else:
            raise InputError(f"{root}: there is no such file or folder, and it is no hub name OWNER/NAME")
        kind = type(builder).__module__.rpartition(".")[2]
        if kind not in BUILDERS or not type(builder).__module__.startswith("datasets.packaged_modules."):
            raise InputError(f"{root} is read by the builder '{kind}'; only {', '.join(BUILDERS)} are used, since "
                             "they run no code of a data set")  # fmt: skip
        return {str(name): part for name, part in builder.as_streaming_dataset().items()}
    except InputError:
        raise
    except Exception as error:  # the library raises whatever its readers raise
        raise InputError(f"{root} cannot be read: {type(error).__name__}: {error}") from error


def _files(path: Path, builder: str) -> dict[str, Any]:
    """Which files a builder reads: of a folder of tables those with its endings, the split told by folder or name."""
    if path.is_file():
        return {"data_files": str(path)}
    if builder == "imagefolder":
        return {"data_dir": str(path)}
    endings = [ending for ending, name in _ENDINGS.items() if name == builder]
    files: dict[str, list[str]] = {}
    for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in endings):
        words = re.split(r"[^a-z]+", file.relative_to(path).as_posix().lower())
        files.setdefault(next((_SPLITS[word] for word in words if word in _SPLITS), "train"), []).append(str(file))
    order = [*dict.fromkeys(_SPLITS.values())]
    return {"data_files": {name: files[name] for name in sorted(files, key=order.index)}}


def _builder(path: Path) -> str:
    """The builder for a file or for what lies below a folder; Parquet before pictures before tables."""
    if path.is_file():
        if path.suffix.lower() in _ENDINGS:
            return _ENDINGS[path.suffix.lower()]
        raise InputError(f"{path}: the ending must be one of {', '.join(_ENDINGS)}")
    endings = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
    if ".parquet" in endings:
        return "parquet"
    if endings & set(SUFFIXES):
        return "imagefolder"
    for ending, name in _ENDINGS.items():
        if ending in endings:
            return name
    raise InputError(f"{path} holds neither pictures nor files ending in {', '.join(_ENDINGS)}")


def _features(parts: Mapping[str, Any], root: Any) -> dict[str, Any]:
    """The columns, which must be those of every split."""
    first: dict[str, Any] | None = None
    for name, part in parts.items():
        # CSV and JSON tell their columns only when they are read, and have none of pictures or classes.
        features = part.features or dict.fromkeys(next(_each(part, f"{_told(root)}, split {name}"), {}))
        if first is not None and set(features) != set(first):
            raise InputError(f"{_told(root)}: the split {name} has the columns {', '.join(features)}, another "
                             f"{', '.join(first)}; import one at a time: split={name}")  # fmt: skip
        first = dict(features)
    if not first:
        raise InputError(f"{_told(root)} has no columns")
    return first


def _plan(library: Any, features: Mapping[str, Any], mapping: str | Path | None, options: dict[str, Any],
          named: bool) -> Plan:  # fmt: skip
    """The plan of `tabular` with what the columns' types say; the own split where `named`."""
    columns: dict[str, Any] = {"id": _ROW} | ({"split": "split"} if named else {})
    for role, kind in (("image", library.Image), ("diagnosis", library.ClassLabel)):
        found = [name for name, feature in features.items() if isinstance(feature, kind)]
        if len(found) == 1:
            columns[role] = found[0]
    given = options.get("columns") or {}
    if mapping is None or given:
        options = {**options, "columns": columns | given}
    plan = make_plan(mapping, {"name": "huggingface", **options})
    values = plan.columns.model_dump().values()
    roles = [name for value in values for name in ([value] if isinstance(value, str) else value)]
    known = {*features, _ROW, "split", ""}
    if absent := [name for name in roles if name not in known]:
        raise InputError(f"there is no column '{absent[0]}'; known: {', '.join(features)}")
    return plan


def _rows(library: Any, parts: Mapping[str, Any], features: Mapping[str, Any], image: str
          ) -> Iterator[tuple[int, dict[str, str]]]:  # fmt: skip
    """(row counted from 1 over all splits, texts of its cells); the picture is a name, told by split and row."""
    classes = {name: feature for name, feature in features.items() if isinstance(feature, library.ClassLabel)}
    names = {name: partial(_class, feature) for name, feature in classes.items()}
    count = 0
    for split, part in parts.items():
        for number, row in enumerate(_each(part.remove_columns([image]) if image else part, f"split {split}")):
            count += 1
            texts = {name: names.get(name, _text)(value) for name, value in row.items()}
            own = {_ROW: f"{split}-{number:06d}", "split": split} | ({image: f"{split}/{number}"} if image else {})
            yield count, own | texts


def _each(part: Any, where: str) -> Iterator[dict[str, Any]]:
    try:
        yield from part
    except Exception as error:
        raise InputError(f"{where} cannot be read: {type(error).__name__}: {error}") from error


def _class(feature: Any, value: Any) -> str:
    return "" if value is None or value < 0 else feature.int2str(value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)


def _pictures(library: Any, parts: Mapping[str, Any], image: str, folder: Path | None, hub: bool
              ) -> Iterator[tuple[str, Callable[[], bytes]]]:  # fmt: skip
    for split, part in parts.items():
        raw = part.select_columns([image]).cast_column(image, library.Image(decode=False))
        for number, row in enumerate(_each(raw, f"split {split}")):
            yield f"{split}/{number}", partial(_bytes, row[image] or {}, folder, hub)


def _bytes(picture: Mapping[str, Any], folder: Path | None, hub: bool) -> bytes:
    """The file of one picture: the bytes in its cell, else a file below the data set's folder or on its hub."""
    if picture.get("bytes"):
        return bytes(picture["bytes"])
    path = picture.get("path") or ""
    if not path:
        raise InputError("the row holds no picture")
    if hub and re.match(r"(zip://[^:]*::)?hf://", path):
        import fsspec

        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    if folder is None:
        raise InputError(f"the row names the file {path!r} instead of holding it, and no folder was given")
    # A table can name any file of this machine; only those of the data set are read.
    try:
        below = Path(path).resolve().relative_to(folder.resolve()) if Path(path).is_absolute() else Path(path)
    except ValueError as error:
        raise InputError(f"the row names {path!r}, which does not lie below {folder}") from error
    return stored(folder, below.as_posix()).data
