"""What is installed: requirements and their licences, pinned versions, and the wheel as a user gets it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import dermjudge

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FOLDERS = ("judge", "evaluators", "training", "benchmarks", "cli")


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def requirements(*extras: str) -> Iterator[tuple[str, Requirement]]:
    """Every requirement, and theirs, of dermjudge with extras in this Python: who asks, and what for.

    What is not installed is named, but what it asks for in turn cannot be known.
    """
    waiting = [("dermjudge", frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        if name == "dermjudge":  # as the checkout says it: installed metadata may be older
            optional = PROJECT["optional-dependencies"]
            lines = [*PROJECT["dependencies"], *chain.from_iterable(optional[extra] for extra in wanted)]
        else:
            lines = metadata.requires(name) or [] if installed(name) else []
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted or {""}):
                yield name, requirement
                item = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if item not in seen:
                    seen.add(item)
                    waiting.append(item)


def installed(name: str) -> bool:
    return any(metadata.distributions(name=name))


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_constraints_pin_everything_and_agree_with_every_bound():
    pinned, found = pins(), []
    for asker, requirement in requirements("all", "test"):
        name = canonicalize_name(requirement.name)
        as_pinned = asker == "dermjudge" or str(pinned.get(asker)) == Version(metadata.version(asker)).public
        if name == "dermjudge" or not as_pinned:  # another release than the pinned one asks for other things
            continue
        if name not in pinned:
            found.append(f"{name} is not pinned (for {asker})")
        elif not requirement.specifier.contains(pinned[name], prereleases=True):
            found.append(f"{asker} wants {requirement}, pinned is {pinned[name]}")
    assert found == []
    assert pinned["torch"] == Version("2.13.0")
    assert "torchvision" not in pinned, "a broken one breaks transformers; it is no dependency"


def test_the_lowest_versions_are_the_safe_ones():
    """Below these stand published holes; the two releases of litellm were malicious."""
    lines = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    bounds = {r.name: r.specifier for r in map(Requirement, lines) if r.name != "dermjudge"}
    unsafe = {"pillow": "12.3.0", "transformers": "5.2.0", "torch": "2.10.0", "datasets": "5.1.0", "jinja2": "3.1.5",
              "litellm": "1.83.14"}  # fmt: skip
    assert [name for name, version in unsafe.items() if bounds[name].contains(version)] == []
    assert not bounds["litellm"].contains("1.82.7")
    assert not bounds["litellm"].contains("1.82.8")


COPYLEFT = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)


def licence(name: str) -> str:
    """The licence as the package states it; the runtime library exception of GCC is no obligation of ours."""
    data = metadata.metadata(name)
    stated = data.get("License-Expression")
    if not stated:
        classes = [c for c in data.get_all("Classifier") or [] if c.startswith("License ::")]
        stated = "; ".join(classes) or (data.get("License") or "").strip().split("\n")[0]
    return re.sub(r"GPL-3\.0[\w.-]* WITH GCC-exception-3\.1", "", stated)


def test_no_gpl_among_the_install_requirements():
    names = {canonicalize_name(requirement.name) for _, requirement in requirements("all")}
    assert {"numpy", "polars"} <= names
    here = filter(installed, names)
    assert [(name, licence(name)) for name in sorted(here) if COPYLEFT.search(licence(name))] == []


def test_gpl_is_recognised():
    for text in ("GPL-3.0", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)", "AGPL-3.0-only"):
        assert COPYLEFT.search(text)
    assert not COPYLEFT.search("LGPL-2.1-or-later")


def test_start_up_files_of_other_packages():
    """A .pth with an import runs at every start of Python: a known way in for stolen releases."""
    known = ("__editable__*", "distutils-precedence.pth", "a1_coverage.pth", "_virtualenv.pth")
    site = Path(sysconfig.get_path("purelib"))
    found = [f.name for f in site.glob("*.pth") if not any(fnmatch(f.name, pattern) for pattern in known)]
    assert [name for name in found if re.search(r"^import", (site / name).read_text("utf-8"), re.MULTILINE)] == []


@pytest.fixture(scope="session")
def wheel(project_files, tmp_path_factory) -> Path:
    """The wheel of a clean copy: an old build/ in the checkout would be shipped along."""
    backend = pytest.importorskip("setuptools", minversion="77", reason="builds the wheel")
    assert backend
    folder = tmp_path_factory.mktemp("wheel")
    for file in project_files:
        (folder / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / "source" / file)
    done = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, folder / "source"),
    )
    assert done.returncode == 0, done.stderr
    assert "would be ignored" not in done.stderr + done.stdout
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_five_folders_and_nothing_else(wheel, project_files):
    shipped = {
        f"dermjudge/{f.as_posix()}" for f in project_files if f.parts[0] in (*FOLDERS, "__init__.py", "py.typed")
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == shipped
    for needed in ("judge/rubrics/derm6.yaml", "evaluators/data/dermatology_terms.csv", "py.typed"):
        assert f"dermjudge/{needed}" in names


@pytest.mark.slow
def test_the_wheel_installs_and_runs_elsewhere(wheel, tmp_path):
    venv.create(tmp_path / "fresh", with_pip=False)
    python = tmp_path / "fresh" / "bin" / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    assert done.returncode == 0, done.stderr
    (site,) = (tmp_path / "fresh").glob("lib/python*/site-packages")
    assert sorted(f.name for f in site.iterdir()) == ["dermjudge", f"dermjudge-{dermjudge.__version__}.dist-info"]
    # The requirements come from here. Files named in a folder added so are not obeyed, so our own stays out.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = "import dermjudge; print(dermjudge.load_rubric('derm6').name, dermjudge.__file__)"
    done = run(python, "-P", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "derm6"
    assert Path(done.stdout.split()[1]).is_relative_to(site)
    done = run(python.with_name("dermjudge"), "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"dermjudge {dermjudge.__version__}\n")


@pytest.mark.slow
def test_every_extra_resolves_with_the_constraints(tmp_path):
    """The real resolver on a real index. All extras at once: fewer can only be easier."""
    if run(sys.executable, "-m", "pip", "download", "--no-deps", "-d", tmp_path, "annotated-doc").returncode:
        pytest.skip("no package index can be reached")
    report = tmp_path / "report.json"
    done = run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--report", report),
        *("-c", "constraints.txt", ".[all,test]"),
    )
    assert done.returncode == 0, done.stderr
    chosen = [item["metadata"] for item in json.loads(report.read_text("utf-8"))["install"]]
    pinned = pins()
    loose = [c["name"] for c in chosen if c["name"] != "dermjudge" and canonicalize_name(c["name"]) not in pinned]
    assert loose == [], "constraints.txt does not pin these"
