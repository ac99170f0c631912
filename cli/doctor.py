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
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__

PYTHON_FLOOR = (3, 11)
IMPORT_SECONDS = 180
DISK_FLOOR_GB, DISK_COMFORT_GB = 0.2, 2.0
MEMORY_COMFORT_GB = 4.0
OFFLINE_FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")

# What to run for a package to count as working, where importing its name is not enough: transformers and trl are lazy,
# so that a broken part shows only when a class is asked for.
IMPORTS = {
    "pyyaml": "import yaml",
    "pillow": "import PIL.Image",
    "transformers": "from transformers import AutoProcessor, AutoModelForImageTextToText",
    "trl": "from trl import SFTTrainer",
}

# A child process imports one package and reports; whatever happens to it, this program goes on.
CHILD = """
import importlib.metadata, importlib.util, json, sys
name, statement = sys.argv[1:3]
report = {"found": importlib.util.find_spec(name) is not None}
try:
    report["version"] = importlib.metadata.version(name)
except importlib.metadata.PackageNotFoundError:
    pass
try:
    exec(statement)
except BaseException as error:
    lines = str(error).strip().splitlines() or [""]
    report["error"] = f"{type(error).__name__}: {lines[0]}"
print("\\n" + json.dumps(report))
"""

TORCH = """
import json, time, torch
def seconds(dtype):
    a = torch.ones(768, 768, dtype=dtype)
    a @ a
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return min(times)
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print("\\n" + json.dumps({
    "gpus": [[gpu.name, gpu.total_memory] for gpu in gpus], "cuda": torch.version.cuda,
    "mps": torch.backends.mps.is_available(), "bf16_speed_up": seconds(torch.float32) / seconds(torch.bfloat16)}))
"""


class Finding(NamedTuple):
    """One line of the diagnosis.

    `ok`: True it works, None it is absent or a matter of taste, False it is needed and does not work.
    `remedy`: what to type, empty where nothing is to be done.
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
    names = [*(r.package for r in needed), "torchvision"]
    # Importing waits for the disk as much as for the CPU, and peak memory grows with the number of children.
    with ThreadPoolExecutor(max_workers=2) as pool:
        reports = dict(zip(names, pool.map(_try_import, names), strict=True))
    vision = _torchvision(reports.pop("torchvision"))
    return [
        _python(),
        Finding("dermjudge", True, f"{__version__} in {Path(__file__).resolve().parents[1]}"),
        *packages(needed, reports, torchvision_broken=vision.ok is False),
        vision,
        *_extras(needed, reports),
        *_torch(reports.get("torch")),
        _embedded_judge(),
        _disk(),
        _machine(),
        _offline(),
    ]


def requirements() -> list[Requirement]:
    """What the installed package says it needs, once per package, in its own order; extras of extras are left out.

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


def packages(
    needed: Sequence[Requirement], reports: Mapping[str, Mapping[str, Any]], torchvision_broken: bool = False
) -> list[Finding]:
    """A finding per package from what its import reported: absent, older than the floor, broken, or its version."""
    findings = []
    for package, floor, extra in needed:
        report = reports[package]
        target = f"dermjudge[{extra}]" if extra else "dermjudge"
        version = report.get("version", "version unknown")
        if not report["found"]:
            absent = f"not installed; part of the extra '{extra}'" if extra else "not installed, and always needed"
            findings.append(Finding(package, None if extra else False, absent, _pip(f"install '{target}'")))
        elif error := report.get("error"):
            remedy = _pip(f"install --force-reinstall '{package}'")
            if torchvision_broken and package in ("transformers", "peft", "trl"):
                remedy = "mend torchvision first, see its line"
            findings.append(Finding(package, False, f"{version} is installed but does not import: {error}", remedy))
        elif floor and _numbers(version) and _numbers(version) < _numbers(floor):
            findings.append(
                Finding(package, False, f"{version} is older than {floor}", _pip(f"install --upgrade '{target}'"))
            )
        else:
            findings.append(Finding(package, True, version))
    return findings


def _try_import(package: str) -> dict[str, Any]:
    module = IMPORTS.get(package, f"import {package}")
    name = re.split(r"[ .]", module)[1]
    return _child(CHILD, name, module)


def _child(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in a process of its own; its last line is JSON. A crash or a hang becomes an error in the report.

    -P keeps the current folder off the path: a file of the user's named torch.py is not our business. litellm would
    fetch its price list while being imported, hubs would be asked for models: both are told not to.
    """
    quiet = {flag: "1" for flag in OFFLINE_FLAGS} | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-P", "-W", "ignore", "-c", code, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=IMPORT_SECONDS, env={**os.environ, **quiet}, check=False
        )
    except subprocess.TimeoutExpired:
        return {"found": True, "error": f"no end after {IMPORT_SECONDS} s"}
    try:
        report = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"found": True, "error": f"the process ended with code {done.returncode}: {last}"}
    return report


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    floor = ".".join(map(str, PYTHON_FLOOR))
    fine = sys.version_info >= PYTHON_FLOOR
    return Finding("python", fine, f"{version} at {sys.executable}", "" if fine else f"use Python {floor} or newer")


def _torchvision(report: Mapping[str, Any]) -> Finding:
    if not report["found"]:
        return Finding("torchvision", True, "not installed, and not needed")
    version = report.get("version", "version unknown")
    if error := report.get("error"):
        detail = f"{version} is installed but does not import, and that breaks transformers: {error}"
        return Finding("torchvision", False, detail, _pip("uninstall torchvision"))
    return Finding("torchvision", True, f"{version}, not needed")


def _extras(needed: Sequence[Requirement], reports: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    findings = []
    for extra in dict.fromkeys(r.extra for r in needed if r.extra):
        missing = [r.package for r in needed if r.extra == extra and not reports[r.package]["found"]]
        if missing:
            remedy = _pip(f"install 'dermjudge[{extra}]'")
            findings.append(Finding(f"extra {extra}", None, f"missing: {', '.join(missing)}", remedy))
        else:
            findings.append(Finding(f"extra {extra}", True, "complete"))
    return findings


def _torch(report: Mapping[str, Any] | None) -> list[Finding]:
    """GPU and bf16, if torch works; its own line says so if it does not."""
    if not report or not report["found"] or report.get("error"):
        return []
    facts = _child(TORCH)
    if "error" in facts:
        return [Finding("gpu", False, f"torch imports but does not compute: {facts['error']}", "reinstall torch")]
    return [_gpu(facts), _bf16(facts["bf16_speed_up"])]


def _gpu(facts: Mapping[str, Any]) -> Finding:
    if facts["gpus"]:
        return Finding("gpu", True, "; ".join(f"{name}, {memory / 2**30:.0f} GiB" for name, memory in facts["gpus"]))
    if facts["mps"]:
        return Finding("gpu", True, "Apple GPU (mps)")
    if not facts["cuda"] and shutil.which("nvidia-smi"):
        detail = "this torch is built without CUDA, though an NVIDIA driver is here; models run on the CPU"
        return Finding("gpu", None, detail, "install a CUDA build of torch: https://pytorch.org/get-started")
    return Finding("gpu", None, "none; models run on the CPU")


def _bf16(speed_up: float) -> Finding:
    """Measured, since a CPU may take bf16 and emulate it: time of a 768 x 768 product in float32 over bf16."""
    word = "fast" if speed_up > 1.2 else "no faster"
    return Finding("bf16", speed_up > 1.2 or None, f"{word} on this CPU: {speed_up:.1f} x the speed of float32")


def _embedded_judge() -> Finding:
    from ..judge.backends import embedded_folder
    from ..judge.errors import InputError

    try:
        folder = embedded_folder()
    except InputError as error:
        return Finding("embedded judge", False, str(error), _pip("install --force-reinstall --no-deps dermjudge"))
    weights = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    if not weights:
        remedy = _pip("install --force-reinstall --no-deps dermjudge")
        return Finding("embedded judge", False, f"no weights (*.safetensors) in {folder}", remedy)
    return Finding("embedded judge", True, f"{weights / 1e6:.1f} MB of weights")


def _disk() -> Finding:
    free = {name: shutil.disk_usage(name).free / 1e9 for name in (os.getcwd(), tempfile.gettempdir())}
    detail = "; ".join(f"{gigabytes:.1f} GB free in {name}" for name, gigabytes in free.items())
    least = min(free.values())
    if least >= DISK_COMFORT_GB:
        return Finding("disk", True, detail)
    return Finding("disk", None if least >= DISK_FLOOR_GB else False, detail, "make room, or run in another folder")


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    detail = f"{cores} core{'s' if cores != 1 else ''}"
    memory = _memory()
    if memory is None:
        return Finding("machine", True, f"{detail}; memory unknown")
    small = memory < MEMORY_COMFORT_GB
    remedy = "keep --batch-size small; larger models will not fit" if small else ""
    return Finding("machine", None if small else True, f"{detail}, {memory:.1f} GB of memory", remedy)


def _memory() -> float | None:
    """Memory of this machine or container in GB, whichever is less; None where the system does not say."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    try:
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        pass  # no container, or one without a limit ("max")
    return min(found) / 1e9


def _offline() -> Finding:
    flags = [flag for flag in OFFLINE_FLAGS if os.environ.get(flag, "").upper() in ("1", "ON", "YES", "TRUE")]
    if flags:
        return Finding("offline flags", True, f"set: {', '.join(flags)}")
    detail = "none set; dermjudge itself asks no hub, other programs here may"
    return Finding("offline flags", None, detail, f"export {OFFLINE_FLAGS[0]}=1 to be sure")


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version: (2, 13, 0) of "2.13.0+cpu"; empty if it has none."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def _pip(command: str) -> str:
    return f"{sys.executable} -m pip {command}"
