"""DermaMNIST (MedMNIST v2; Yang 2023): HAM10000 at 28 to 224 pixels as arrays in one .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image as Pillow

from ..judge.errors import InputError
from ..judge.images import MAX_PIXELS, encode_png
from ..judge.records import Case, Image
from ..judge.tablefile import Problem
from .bundle import Bundle
from .ham10000 import DIAGNOSES, LICENCE
from .rows import Gold

CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")  # the label n stands for the n-th
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read(root: str | Path) -> Bundle:
    """Read dermamnist.npz (or dermamnist_64, _128, _224): the file, or a folder that holds one of them.

    A case is a picture, named after its split and row (from 0). Nothing is known of patients, and pictures of one
    lesion stand in several of the published splits. The arrays are read row by row, so a file of any size takes the
    memory of a few pictures. InputError for a file that is no such archive or whose arrays do not fit each other.
    """
    path = _find(Path(root))
    gold = Gold()
    problems: list[Problem] = []
    cases: list[Case] = []
    with _opened(path) as archive:
        for part, split in _SPLITS.items():
            shape, labels = _shape(archive, path, part), _labels(archive, path, part)
            if shape[0] != len(labels):
                raise InputError(f"{path}: {part}_images has {shape[0]} rows but {part}_labels {len(labels)}")
            for row, label in enumerate(labels.tolist()):
                name = f"{path.stem}_{part}_{row:05d}"
                if not 0 <= label < len(CODES):
                    problems.append(Problem(path.name, 0, f"{part}_labels", f"row {row} is {label}; 0 to 6 are known"))
                    continue
                names = DIAGNOSES[CODES[label]]
                cases.append(Case(
                    id=name, images=(Image(f"{part}/{row}", modality="dermoscopic"),), split=split, diagnosis=names,
                    tags={"dx": CODES[label], "pixels": shape[1]}, source="DermaMNIST", licence=LICENCE,
                    **gold.urgency(names)))  # fmt: skip
    return Bundle(
        "dermamnist", "2", LICENCE, "Zenodo, doi:10.5281/zenodo.10519652",
        "Yang J et al. Sci Data 10:41 (2023); Tschandl P et al. Sci Data 5:180161 (2018)", cases, problems=problems,
        notes=["The pictures are those of HAM10000, reduced; pictures of one lesion stand in several of the splits.",
               "akiec is actinic keratosis or Bowen disease, bkl a benign keratosis or solar lentigo: any counts."],
        loaders=partial(_rows, path),
    )  # fmt: skip


def _find(root: Path) -> Path:
    if root.is_file():
        return root
    found = sorted(root.glob("dermamnist*.npz")) if root.is_dir() else []
    if len(found) == 1:
        return found[0]
    told = f"holds {', '.join(path.name for path in found)}; say which" if found else "holds no dermamnist*.npz"
    raise InputError(f"{root} {told}")


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is no .npz archive of MedMNIST: {error}") from error


def _header(archive: zipfile.ZipFile, path: Path, name: str) -> tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]:
    """An array of the archive at the begin of its numbers, its shape and type; nothing is unpickled."""
    try:
        file = archive.open(f"{name}.npy")
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, column_major, kind = reader(file)
    except KeyError as error:
        held = ", ".join(sorted(Path(entry).stem for entry in archive.namelist())) or "nothing"
        raise InputError(f"{path} has no array {name}; it holds {held}") from error
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: the array {name} cannot be read: {error}") from error
    if kind.hasobject or column_major or kind.kind not in "ui":
        raise InputError(f"{path}: {name} must hold whole numbers row by row, not {kind}")
    return file, shape, kind


def _shape(archive: zipfile.ZipFile, path: Path, part: str) -> tuple[int, ...]:
    file, shape, kind = _header(archive, path, f"{part}_images")
    file.close()
    if len(shape) != 4 or shape[3] != 3 or kind != np.uint8 or not 0 < shape[1] * shape[2] <= MAX_PIXELS:
        raise InputError(f"{path}: {part}_images must be (N, height, width, 3) of uint8, not {shape} of {kind}")
    return shape


def _labels(archive: zipfile.ZipFile, path: Path, part: str) -> np.ndarray:
    file, shape, kind = _header(archive, path, f"{part}_labels")
    with file:
        data = file.read()
    if len(data) != int(np.prod(shape)) * kind.itemsize or int(np.prod(shape[1:])) != 1:
        raise InputError(f"{path}: {part}_labels must be (N, 1), not {shape}, and whole")
    return np.frombuffer(data, dtype=kind).astype(np.int64)


def _rows(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with _opened(path) as archive:
        for part in _SPLITS:
            file, shape, _ = _header(archive, path, f"{part}_images")
            height, width = shape[1:3]
            with file:
                for row in range(shape[0]):
                    data = file.read(height * width * 3)
                    if len(data) < height * width * 3:
                        raise InputError(f"{path}: {part}_images ends in row {row} of {shape[0]}")
                    yield f"{part}/{row}", partial(_png, data, (width, height))


def _png(data: bytes, size: tuple[int, int]) -> bytes:
    return encode_png(Pillow.frombytes("RGB", size, data))
