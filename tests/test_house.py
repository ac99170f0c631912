"""The house: what is where, who may import whom, what is installed, what nobody may call."""

from __future__ import annotations

import ast
import csv
import doctest
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

import pytest

import dermjudge

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = ("judge", "evaluators", "training", "benchmarks", "cli")
HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "litellm", "ray")
LONGEST = 350  # lines of a library file

LIBRARY = [ROOT / "__init__.py", *(f for folder in FOLDERS for f in sorted((ROOT / folder).rglob("*.py")))]
IGNORED = PROJECT["tool"]["ruff"]["lint"]["per-file-ignores"]
LEAVES = [pattern for pattern, rules in IGNORED.items() if "TID253" in rules and not pattern.startswith("tests")]


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(("dermjudge", *parts)).removesuffix(".__init__")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})


# What is where


def test_the_checkout_is_what_is_tested():
    assert Path(dermjudge.__file__).parent == ROOT, "run make test, which installs this checkout"


def test_packages_are_the_folders_on_disk():
    folders = {file.parent for file in LIBRARY}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(name_of(f / "__init__.py") for f in folders)
    assert [f for f in folders if not (f / "__init__.py").is_file()] == []


def test_the_root_holds_no_module():
    # setuptools would ship it
    assert [file.name for file in ROOT.glob("*.py")] == ["__init__.py"]


def test_version():
    (installed,) = metadata.distributions(name="dermjudge", path=[sysconfig.get_path("purelib")])
    assert installed.version == dermjudge.__version__


def test_files_are_short():
    """A file holds one idea; one that grows past this holds two."""
    lines = {name_of(file): len(file.read_text("utf-8").splitlines()) for file in LIBRARY}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_no_path_of_a_machine(project_files):
    path = re.compile(r"(?<![\w.:/])/(?:work|farm|root|tmp|home|opt|Users)/[A-Za-z0-9_.-]+|\b[A-Z]:\\Users\\")
    found = []
    for file in project_files:
        try:
            text = (ROOT / file).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file}: {hit.group()}" for hit in path.finditer(text)]
    assert found == []


# Who may import whom


def test_floors():
    linter = Path(sys.executable).with_name("lint-imports")
    done = run(linter, "--no-cache")
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_an_arrow_upwards_is_caught(tmp_path):
    """The floors are a real check: the same contract on a copy with one wrong import fails."""
    for file in LIBRARY:
        copy = tmp_path / "dermjudge" / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    linter = Path(sys.executable).with_name("lint-imports")
    assert run(linter, "--no-cache", cwd=tmp_path, PYTHONPATH=str(tmp_path)).returncode == 0
    with (tmp_path / "dermjudge/judge/records.py").open("a") as records:
        records.write("\nfrom ..evaluators import terms\n")
    broken = run(linter, "--no-cache", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert broken.returncode == 1
    assert "dermjudge.judge.records -> dermjudge.evaluators.terms" in broken.stdout


def test_no_second_copy_by_another_name(project_files):
    """`from judge.x import` works where the root is on the path, and yields a second set of every class."""
    statement = re.compile(rf"^\s*(?:from|import) (?:{'|'.join(FOLDERS)})\b.*", re.MULTILINE)
    sources = {file: (ROOT / file).read_text("utf-8") for file in project_files if file.suffix == ".py"}
    assert [f"{file}: {hit.strip()}" for file, source in sources.items() for hit in statement.findall(source)] == []


def imported(statement: str, *options: str) -> list[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = run(sys.executable, *options, "-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_program_starts_light():
    assert imported("import dermjudge, dermjudge.cli.main") == []
    assert imported("import json.decoder as datasets, sys; sys.modules['ray'] = datasets") == ["ray"]


def test_heavy_packages_only_in_the_leaves_that_exist_for_them():
    assert [leaf for leaf in LEAVES if not (ROOT / leaf).is_file()] == []
    light = [name_of(f) for f in LIBRARY if f.name != "__main__.py" and f.relative_to(ROOT).as_posix() not in LEAVES]
    code = f"import importlib, sys\nfor name in {light}:\n    importlib.import_module(name)\n"
    code += f"    heavy = [m for m in {HEAVY} if m in sys.modules]\n    assert not heavy, (name, heavy)\n"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


def test_help():
    done = run(sys.executable, "-X", "importtime", "-m", "dermjudge.cli.main", "--help")
    assert done.returncode == 0, done.stderr
    for verb in ("demo", "data", "score", "evaluate", "train", "agree", "verify", "doctor"):
        assert re.search(rf"\b{verb}\b", done.stdout), f"no '{verb}' in the help"
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "dermjudge" in loaded
    assert loaded & set(HEAVY) == set()


# What is written


@pytest.mark.parametrize("file", [f for f in LIBRARY if ">>> " in f.read_text("utf-8")], ids=name_of)
def test_doctests(file):
    """By name, since pytest's own collector would import every module a second time by path."""
    try:
        module = import_module(name_of(file))
    except ImportError as error:
        if (error.name or "").split(".")[0] in HEAVY or "pip install 'dermjudge[" in str(error):
            pytest.skip(f"needs {error.name}")
        raise
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def lint(*options: str, source: str = "") -> str:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=source).stdout


BANS = ("--select", "TID251,TID253,S101,S102,S301,S302,S306,S307,S506,S602,S604,S605,S701,T201,T203")


def test_no_banned_call():
    """No pickle, torch.load, eval, exec, unsafe YAML, shell, assert, or print below cli/."""
    assert lint(*BANS, *map(str, LIBRARY)).splitlines() == ["All checks passed!"]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("import pickle", "TID251"),
        ("import torch", "TID253"),
        ("from transformers import AutoModel", "TID253"),
        ("def f(torch, path):\n    import torch\n    return torch.load(path)", "TID251"),
        ("eval(input())", "S307"),
        ("exec(input())", "S102"),
        ("import yaml\nyaml.load(input())", "S506"),
        ("import subprocess\nsubprocess.run(input(), shell=True)", "S602"),
        ("import jinja2\njinja2.Environment()", "S701"),
        ("assert input()", "S101"),
        ("print()", "T201"),
    ],
)
def test_every_ban_bites(line, rule):
    assert f" {rule} " in lint(*BANS, "--stdin-filename", "judge/planted.py", "-", source=line + "\n")


def strange(tree: ast.AST) -> Iterator[str]:
    """What ruff has no rule for: code from a model folder, and ends of the program below cli/."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="trust_remote_code", value=ast.Constant(value=False)):
                pass
            case ast.keyword(arg="trust_remote_code"):
                yield f"trust_remote_code in line {node.value.lineno}"
            case ast.keyword(arg="allow_pickle", value=value) if ast.unparse(value) != "False":
                yield f"allow_pickle in line {value.lineno}"
            case ast.Name(id="SystemExit" | "exit" | "quit") | ast.Attribute(attr="exit" | "_exit"):
                yield f"an end of the program in line {node.lineno}"


def test_no_foreign_code_and_no_exit_below_the_commands():
    below = [file for file in LIBRARY if file.parent.name != "cli"]
    found = [f"{name_of(file)}: {what}" for file in below for what in strange(ast.parse(file.read_text("utf-8")))]
    assert found == []


def test_foreign_code_and_exits_are_seen():
    bad = "f(trust_remote_code=True)\nf(trust_remote_code=x)\nsys.exit(1)\nraise SystemExit\nload(f, allow_pickle=True)"
    assert len(list(strange(ast.parse(bad)))) == 5
    assert list(strange(ast.parse("f(trust_remote_code=False)\nload(f, allow_pickle=False)"))) == []


@pytest.mark.parametrize("name", [f.name for f in sorted((ROOT / "evaluators/data").glob("*.csv"))])
def test_sources_and_review_of_the_tables(name):
    notice = (ROOT / "NOTICE").read_text("utf-8")
    assert name in notice, "NOTICE names where every table comes from"
    with (ROOT / "evaluators/data" / name).open(encoding="utf-8", newline="") as file:
        assert "reviewed_by" in next(csv.reader(file))


def test_licence():
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8").splitlines()[0]
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_the_guard_against_the_network():
    for host in ("192.0.2.1", "example.org"):
        with pytest.raises(RuntimeError, match="stay on this machine"):
            sys.audit("socket.getaddrinfo", host, 80, 0, 0, 0)
        with pytest.raises(RuntimeError, match="stay on this machine"):
            sys.audit("socket.connect", None, (host, 80))
    for host in ("localhost", "127.0.0.1", "::1", None):
        sys.audit("socket.getaddrinfo", host, 80, 0, 0, 0)
    with socket.socket(socket.AF_UNIX) as unix:
        sys.audit("socket.connect", unix, "a unix socket")
