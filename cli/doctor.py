"""`dermjudge doctor`: is what is needed here, does it work, and what to type if not. It opens no connection."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..judge.backends import embedded_folder
from ..judge.errors import InputError

PYTHON_FLOOR = (3, 11)
IMPORT_SECONDS = 300
DISK_FLOOR_GB, DISK_COMFORT_GB = 0.2, 2.0
MEMORY_COMFORT_GB = 4.0
OFFLINE_FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")

# Module and attributes to ask for, where they are not the package's own name: transformers and trl are lazy, so a
# broken part of them shows only when a class is wanted.
IMPORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pyyaml": ("yaml", ()),
    "pillow": ("PIL.Image", ()),
    "transformers": ("transformers", ("AutoProcessor", "AutoModelForImageTextToText")),
    "trl": ("trl", ("SFTTrainer",)),
}
NEED_TORCHVISION_WHOLE = ("transformers", "peft", "trl")

Report = Mapping[str, Any]  # what cli/import_trial.py says of a package: found, version, error, machine


class Finding(NamedTuple):
    """One line of the diagnosis.

    `ok`: True it works, None it is absent or a matter of taste, False it is needed and does not work.
    `remedy`: what to type or do, empty where nothing is to be done.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


class Requirement(NamedTuple):
    """A package that dermjudge may use: its lowest version, and the extra that brings it ("" = always needed)."""

    package: str
    floor: str
    extra: str


def diagnose() -> list[Finding]:
    """Look at Python, the packages of every extra, the embedded judge and this machine; some seconds, no network."""
    needed = requirements()
    # torchvision comes last: what it breaks by being broken, it breaks by being there.
    reports = try_imports([*(r.package for r in needed), "torchvision"])
    vision = torchvision(reports["torchvision"])
    return [
        _python(),
        Finding("dermjudge", True, f"{__version__} in {Path(__file__).resolve().parents[1]}"),
        *packages(needed, reports),
        vision,
        *extras(needed, reports),
        *(graphics(m) for r in reports.values() if (m := r.get("machine"))),
        *(_bf16(m["bf16_speed_up"]) for r in reports.values() if (m := r.get("machine"))),
        _embedded_judge(),
        disk(min((shutil.disk_usage(p).free, p) for p in (os.getcwd(), tempfile.gettempdir()))),
        _machine(),
        _offline(),
    ]


def requirements() -> list[Requirement]:
    """What the installed dermjudge says it needs, each package once and in its order.

    The extra `test` is for working on dermjudge itself and no part of the diagnosis.
    """
    found: dict[str, Requirement] = {}
    for line in metadata.requires("dermjudge") or []:
        spec, _, marker = line.partition(";")
        package = re.match(r"[\w.-]+", spec.strip())
        extra = re.search(r"extra == [\"']([\w-]+)[\"']", marker)
        floor = re.search(r">=\s*([\w.]+)", spec)
        if package and package[0].lower() != "dermjudge" and not (extra and extra[1] == "test"):
            name = package[0].lower()
            found.setdefault(name, Requirement(name, floor[1] if floor else "", extra[1] if extra else ""))
    return list(found.values())


def try_imports(names: Sequence[str]) -> dict[str, Report]:
    """Import packages in a process apart and return what came of each; one that kills the process is named for it."""
    reports: dict[str, Report] = {}
    while left := [name for name in names if name not in reports]:
        lines, end = _trial_process(left)
        reports.update(zip(left, map(json.loads, lines), strict=False))
        if len(lines) < len(left):
            reports[left[len(lines)]] = {"found": True, "version": "", "error": end}
    return reports


def _trial_process(names: Sequence[str]) -> tuple[list[str], str]:
    """The reports (one line a package) and, where they are too few, how the process ended.

    -P keeps the script's folder, with its output.py and training.py, off the path. Hubs would be asked for models, and
    litellm would fetch its price list while being imported; both are told not to.
    """
    quiet = {flag: "1" for flag in OFFLINE_FLAGS} | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1"}
    trials = json.dumps([(name, *IMPORTS.get(name, (name, ()))) for name in names])
    command = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).with_name("import_trial.py")), trials]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=IMPORT_SECONDS, env={**os.environ, **quiet}, check=False
        )
    except subprocess.TimeoutExpired as error:
        return _whole_lines(error.stdout), f"no end after {IMPORT_SECONDS} s"
    last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
    return _whole_lines(done.stdout), f"the process ended with code {done.returncode}: {last[:300]}"


def _whole_lines(output: bytes | None) -> list[str]:
    return (output or b"").decode("utf-8", "replace").split("\n")[:-1]


def packages(needed: Sequence[Requirement], reports: Mapping[str, Report]) -> list[Finding]:
    """A finding per package: absent, broken, older than its floor, or its version."""
    findings = []
    vision_broken = bool(reports.get("torchvision", {}).get("error"))
    for package, floor, extra in needed:
        report = reports[package]
        target = f"'dermjudge[{extra}]'" if extra else "dermjudge"
        if not report["found"]:
            absent = f"not installed; part of the extra '{extra}'" if extra else "not installed, and always needed"
            findings.append(Finding(package, None if extra else False, absent, _pip(f"install {target}")))
            continue
        version = report["version"] or "(version unknown)"
        if error := report.get("error"):
            remedy = _pip(f"install --force-reinstall {package}")
            if vision_broken and package in NEED_TORCHVISION_WHOLE:
                remedy = "mend torchvision first (see its line)"
            findings.append(Finding(package, False, f"{version} does not import: {error}", remedy))
        elif _release(version) and _release(version) < _release(floor):
            findings.append(
                Finding(package, False, f"{version} is older than {floor}", _pip(f"install --upgrade {target}"))
            )
        else:
            findings.append(Finding(package, True, version))
    return findings


def torchvision(report: Report) -> Finding:
    """Not needed; but transformers takes it for working as soon as it is there, and fails where it does not import."""
    if not report["found"]:
        return Finding("torchvision", True, "not installed, and not needed")
    version = report["version"] or "(version unknown)"
    if error := report.get("error"):
        detail = f"{version} is installed but does not import, which breaks transformers: {error}"
        return Finding("torchvision", False, detail, _pip("uninstall torchvision"))
    return Finding("torchvision", True, f"{version}, not needed")


def extras(needed: Sequence[Requirement], reports: Mapping[str, Report]) -> list[Finding]:
    """A finding per extra: complete, or what is missing and the command that brings it."""
    findings = []
    for extra in dict.fromkeys(r.extra for r in needed if r.extra):
        missing = [r.package for r in needed if r.extra == extra and not reports[r.package]["found"]]
        detail = f"missing: {', '.join(missing)}" if missing else "complete"
        remedy = _pip(f"install 'dermjudge[{extra}]'") if missing else ""
        findings.append(Finding(f"extra {extra}", None if missing else True, detail, remedy))
    return findings


def graphics(machine: Mapping[str, Any]) -> Finding:
    """The GPUs that torch can use, or why there is none."""
    if machine["gpus"]:
        return Finding("gpu", True, "; ".join(f"{name}, {memory / 2**30:.0f} GiB" for name, memory in machine["gpus"]))
    if machine["mps"]:
        return Finding("gpu", True, "Apple GPU (mps)")
    if not machine["cuda"] and shutil.which("nvidia-smi"):
        detail = "an NVIDIA driver is here, but this torch is built without CUDA; models run on the CPU"
        return Finding("gpu", None, detail, "install a CUDA build of torch")
    return Finding("gpu", None, "none; models run on the CPU")


def _bf16(speed_up: float) -> Finding:
    fast = speed_up > 1.2
    word = "fast" if fast else "not faster"
    return Finding("bf16", fast or None, f"{word} on this CPU: {speed_up:.1f} x the speed of float32, measured")


def disk(least: tuple[int, str]) -> Finding:
    """`least`: free bytes and the folder they are in."""
    gigabytes, folder = least[0] / 1e9, least[1]
    detail = f"{gigabytes:.1f} GB free in {folder}"
    if gigabytes >= DISK_COMFORT_GB:
        return Finding("disk", True, detail)
    enough = None if gigabytes >= DISK_FLOOR_GB else False
    return Finding("disk", enough, detail, "make room, or work in another folder")


def _python() -> Finding:
    fine = sys.version_info >= PYTHON_FLOOR
    remedy = "" if fine else f"use Python {'.'.join(map(str, PYTHON_FLOOR))} or newer"
    return Finding("python", fine, f"{sys.version.split()[0]} at {sys.executable}", remedy)


def _embedded_judge() -> Finding:
    again = "install dermjudge again from a complete copy"
    try:
        folder = embedded_folder()
    except InputError as error:
        return Finding("embedded judge", False, str(error), again)
    weights = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    if not weights:
        return Finding("embedded judge", False, f"no weights (*.safetensors) in {folder}", again)
    return Finding("embedded judge", True, f"{weights / 1e6:.1f} MB of weights")


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    detail = f"{cores} core{'s' if cores != 1 else ''}"
    memory = _memory()
    if memory is None:
        return Finding("machine", None, f"{detail}; this system does not say how much memory it has")
    if memory < MEMORY_COMFORT_GB:
        return Finding("machine", None, f"{detail}, {memory:.1f} GB of memory", "keep batches and models small")
    return Finding("machine", True, f"{detail}, {memory:.1f} GB of memory")


def _memory() -> float | None:
    """Memory of this machine or container in GB, whichever is less; None where the system does not say."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found) / 1e9


def _offline() -> Finding:
    flags = [flag for flag in OFFLINE_FLAGS if os.environ.get(flag, "").upper() in ("1", "ON", "YES", "TRUE")]
    if flags:
        return Finding("offline flags", True, f"set: {', '.join(flags)}")
    return Finding("offline flags", None, "none set; dermjudge opens models from folders only, and asks no hub")


def _release(version: str) -> tuple[int, ...]:
    """(2, 13, 0) of "2.13.0+cpu"; empty if there is none."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def _pip(command: str) -> str:
    """A pip command for this very Python: the pip on the path may belong to another."""
    active = shutil.which("python")
    python = "python" if active and os.path.abspath(active) == os.path.abspath(sys.executable) else sys.executable
    return f"{python} -m pip {command}"
