"""The diagnosis, on this installation and on packages that are broken on purpose."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from dermjudge.cli import doctor
from dermjudge.cli.doctor import Finding, Requirement

# Runs at the start of every Python that finds it on PYTHONPATH, and writes down what would leave the machine.
WITNESS = """
import sys
def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        with open({log!r}, "a") as log:
            log.write(f"{{event}} {{args}}\\n")
sys.addaudithook(hook)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a package of the given source in front of every other for the processes that doctor starts."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fakes"))

    def write(package: str, source: str) -> None:
        folder = tmp_path / "fakes" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(source)

    return write


def one(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_this_installation(tmp_path, monkeypatch):
    log = tmp_path / "connections"
    (tmp_path / "sitecustomize.py").write_text(WITNESS.format(log=str(log)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    findings = doctor.diagnose()
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    core = ("numpy", "scipy", "polars", "pydantic", "pyyaml", "typer", "rich", "pillow", "jinja2")
    for name in ("python", "dermjudge", *core, "disk"):
        assert one(findings, name).ok is not False, one(findings, name)
    assert {"torch", "transformers", "trl", "litellm", "extra local", "extra train", "extra api"} <= set(names)
    for finding in findings:
        assert finding.detail
        assert finding.remedy or finding.ok is not False, "what is broken names its remedy"
    assert not log.exists(), f"doctor went to the network: {log.read_text()}"
    assert ("gpu" in names) == (one(findings, "torch").ok is True)
    json.dumps(findings, allow_nan=False)


def test_the_witness_of_connections_sees_one(tmp_path, monkeypatch):
    log = tmp_path / "connections"
    (tmp_path / "sitecustomize.py").write_text(WITNESS.format(log=str(log)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import socket; socket.getaddrinfo('127.0.0.1', 9)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    assert "getaddrinfo" in log.read_text()


@pytest.mark.skipif(not find_spec("transformers"), reason="needs transformers, to see it suffer")
def test_a_broken_torchvision_is_named_as_the_cause(fake):
    fake("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    reports = doctor.try_imports(["transformers", "torchvision"])
    vision = doctor.torchvision(reports["torchvision"])
    assert vision.ok is False
    assert "operator torchvision::nms does not exist" in vision.detail
    assert vision.remedy.endswith("-m pip uninstall torchvision")
    (transformers,) = doctor.packages([Requirement("transformers", "5.3.0", "local")], reports)
    assert transformers.ok is False, "transformers no longer minds: say so less loudly"
    assert transformers.remedy == "mend torchvision first (see its line)"


def test_without_torchvision_all_is_well():
    finding = doctor.torchvision({"found": False})
    assert finding == Finding("torchvision", True, "not installed, and not needed")
    if not find_spec("torchvision"):
        assert doctor.try_imports(["torchvision"]) == {"torchvision": {"found": False}}


def test_a_package_that_kills_the_process_is_named_and_the_others_are_still_tried(fake):
    fake("assassin", "import os; os._exit(3)")
    fake("talker", "print('I am not a report', flush=True)")
    fake("quitter", "raise SystemExit(0)")
    reports = doctor.try_imports(["talker", "assassin", "quitter", "jinja2"])
    assert list(reports) == ["talker", "assassin", "quitter", "jinja2"]
    assert reports["talker"] == {"found": True, "version": ""}
    assert "ended with code 3" in reports["assassin"]["error"]
    assert reports["quitter"]["error"] == "SystemExit: 0"
    assert reports["jinja2"]["found"]
    assert "error" not in reports["jinja2"]


def test_a_package_that_hangs_is_given_up(fake, monkeypatch):
    fake("sleeper", "import time; time.sleep(600)")
    monkeypatch.setattr(doctor, "IMPORT_SECONDS", 3)
    assert doctor.try_imports(["sleeper"])["sleeper"]["error"] == "no end after 3 s"


def test_a_lazy_package_is_asked_for_what_is_used(fake, monkeypatch):
    fake("lazy", "def __getattr__(name): raise ImportError('half of me is missing')")
    monkeypatch.setitem(doctor.IMPORTS, "lazy", ("lazy", ("Model",)))
    assert doctor.try_imports(["lazy"])["lazy"]["error"] == "ImportError: half of me is missing"


def test_neither_the_current_folder_nor_that_of_the_script_holds_packages(tmp_path, monkeypatch):
    (tmp_path / "jinja2.py").write_text("raise RuntimeError('a file of the user')")
    monkeypatch.chdir(tmp_path)
    reports = doctor.try_imports(["jinja2", "import_trial"])
    assert "error" not in reports["jinja2"]
    assert reports["import_trial"] == {"found": False}


@pytest.mark.parametrize(
    ("extra", "report", "ok", "words"),
    [
        ("", {"found": False}, False, "always needed"),
        ("api", {"found": False}, None, "extra 'api'"),
        ("api", {"found": True, "version": "1.10.0"}, True, "1.10.0"),
        ("api", {"found": True, "version": "1.9.9+cpu"}, False, "older than 1.10"),
        ("api", {"found": True, "version": "2.0", "error": "OSError: no libfoo"}, False, "no libfoo"),
        ("api", {"found": True, "version": ""}, True, "unknown"),
    ],
)
def test_states_of_a_package(extra, report, ok, words):
    (finding,) = doctor.packages([Requirement("thing", "1.10", extra)], {"thing": report})
    assert finding.ok is ok
    assert words in finding.detail
    assert bool(finding.remedy) == (ok is not True)


def test_a_missing_extra_comes_with_the_command():
    needed = [Requirement("a", "", ""), Requirement("b", "1", "train"), Requirement("c", "1", "train")]
    there, away = {"found": True, "version": "1"}, {"found": False}
    (finding,) = doctor.extras(needed, {"a": away, "b": away, "c": there})
    assert (finding.name, finding.ok, finding.detail) == ("extra train", None, "missing: b")
    assert finding.remedy.endswith("-m pip install 'dermjudge[train]'")
    assert doctor.extras(needed, {"a": there, "b": there, "c": there})[0].ok is True


def test_requirements_are_those_of_the_package():
    found = {r.package: r for r in doctor.requirements()}
    assert found["pillow"] == Requirement("pillow", "13.0.0", "")
    assert found["torch"].extra == "local"
    assert found["trl"].extra == "train"
    assert found["litellm"] == Requirement("litellm", "1.84.0", "api")
    assert not {"pytest", "dermjudge"} & set(found), "neither tests nor itself"


def test_graphics(monkeypatch):
    none = {"gpus": [], "mps": False, "cuda": None}
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doctor.graphics(none) == Finding("gpu", None, "none; models run on the CPU")
    monkeypatch.setattr(shutil, "which", lambda name: "nvidia-smi")
    assert "without CUDA" in doctor.graphics(none).detail
    assert doctor.graphics({**none, "gpus": [["H100", 80 * 2**30]]}) == Finding("gpu", True, "H100, 80 GiB")


@pytest.mark.parametrize(("gigabytes", "ok"), [(50, True), (1, None), (0.1, False)])
def test_disk(gigabytes, ok):
    finding = doctor.disk((int(gigabytes * 1e9), "here"))
    assert finding.ok is ok
    assert f"{gigabytes:.1f} GB free in here" == finding.detail


def test_an_installation_without_the_embedded_judge(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "embedded_folder", lambda: tmp_path)
    assert doctor._embedded_judge().ok is False
    (tmp_path / "model.safetensors").write_bytes(b"0" * 2_000_000)
    assert doctor._embedded_judge() == Finding("embedded judge", True, "2.0 MB of weights")
