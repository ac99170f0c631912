"""For every test: no network beyond loopback, no hub, no time limits of hypothesis on a busy machine."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test imports a library that reads them; child processes inherit them.
for flag in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[flag] = "1"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# In continuous integration the same examples every time: a chance find must not stop somebody else's change.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("house")


def is_local(host: object) -> bool:
    """Whether a host (name, address, bytes, or nothing) is this machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


def refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: ends a test that would look up or reach another machine. Unix sockets have no host."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not is_local(host):
        raise RuntimeError(f"a test tries to reach {host!r}; tests stay on this machine")


sys.addaudithook(refuse_network)


@pytest.fixture(autouse=True)
def own_allow_list():
    """Commands set the process's list of hosts; a test leaves it as it was."""
    from dermjudge.judge.calls import guard

    before = guard._rules
    yield
    guard._switch(before)


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """Every file that belongs to the project (tracked, or new and not ignored), relative to the root."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listed.returncode:
        pytest.skip("this folder is not a git checkout")
    return [Path(name) for name in sorted(set(listed.stdout.split("\0"))) if name and (root / name).is_file()]
