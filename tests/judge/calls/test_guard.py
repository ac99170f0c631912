"""The guard against a server that would have answered: 127.0.0.2 and its like count as remote here."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.calls import guard
from dermjudge.judge.errors import InputError

HERE = ("127.0.0.1/32",)  # the other loopback addresses are remote
REMOTE = "127.0.0.2"


class Door:
    """A listening socket that counts who knocked and answers every one."""

    def __init__(self, host: str = REMOTE, kind: int = socket.SOCK_STREAM):
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind((host, 0))
        self.port = self.socket.getsockname()[1]
        self._knocks = 0
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
            threading.Thread(target=self._serve, daemon=True).start()

    def knocks(self, expected: int) -> int:
        """How many knocked, once as many as expected did or half a second has gone."""
        deadline = time.monotonic() + 0.5
        while self._knocks < expected and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._knocks

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self._knocks += 1
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.socket.close()


def raw(host, port):
    with socket.create_connection((host, port), timeout=5):
        pass


def connect_ex(host, port):
    with socket.socket() as one:
        if error := one.connect_ex((host, port)):
            raise OSError(error, "connect_ex")


def http_client(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()


def opener(host, port):
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as response:
        response.read()


def asyncio_streams(host, port):
    async def main():
        _, writer = await asyncio.open_connection(host, port)
        writer.close()

    asyncio.run(main())


def asyncio_happy_eyeballs(host, port):
    async def main():
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, host, port, happy_eyeballs_delay=0.1
        )
        transport.close()

    asyncio.run(main())


def with_aiohttp(host, port):
    aiohttp = pytest.importorskip("aiohttp")

    async def main():
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as response:
            await response.read()

    asyncio.run(main())


def with_httpx(host, port):
    pytest.importorskip("httpx").get(f"http://{host}:{port}/", trust_env=False)


def with_requests(host, port):
    pytest.importorskip("requests").get(f"http://{host}:{port}/", timeout=5)


WAYS = [raw, connect_ex, http_client, opener, asyncio_streams, asyncio_happy_eyeballs, with_aiohttp, with_httpx,
        with_requests]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_allow_no_socket(way, door):
    """Nothing knocks at a server that would have answered; the same way gets through once the host is named."""
    with guard.limited_to((), loopback=HERE):
        with pytest.raises(Exception) as caught:
            way(REMOTE, door.port)
        assert guard.refusal(caught.value) is not None, repr(caught.value)
    with guard.limited_to([REMOTE], loopback=HERE):
        way(REMOTE, door.port)
    assert door.knocks(1) == 1  # the last knock, and so the only one: a door opens in the order of the knocks


def test_datagrams():
    door = Door(kind=socket.SOCK_DGRAM)
    door.socket.settimeout(0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        with guard.limited_to((), loopback=HERE):
            for send in (lambda: one.sendto(b"x", (REMOTE, door.port)), lambda: one.connect((REMOTE, door.port)),
                         lambda: one.sendmsg([b"x"], [], 0, (REMOTE, door.port))):  # fmt: skip
                with pytest.raises(guard.NotAllowed):
                    send()
            with pytest.raises(TimeoutError):
                door.socket.recv(10)
        with guard.limited_to([REMOTE], loopback=HERE):
            one.sendto(b"y", (REMOTE, door.port))
        assert door.socket.recv(10) == b"y"
    door.socket.close()


def test_the_port_counts_if_it_was_named(door):
    other = Door()
    with guard.limited_to([f"{REMOTE}:{door.port}"], loopback=HERE):
        raw(REMOTE, door.port)
        with pytest.raises(guard.NotAllowed, match=str(other.port)):
            raw(REMOTE, other.port)
        assert guard.check_url(f"http://{REMOTE}:{door.port}/v1") == (REMOTE, door.port)
        with pytest.raises(guard.NotAllowed):
            guard.check_url(f"http://{REMOTE}:{other.port}/v1")
    raw(REMOTE, other.port)
    assert (door.knocks(1), other.knocks(1)) == (1, 1)
    other.socket.close()


def test_a_name_before_it_is_looked_up(monkeypatch):
    asked = []
    monkeypatch.setattr(guard, "_look_up", lambda *a, **k: asked.append(a) or [])
    with guard.limited_to(["api.example.org"]):
        for name in ("evil.example", b"evil.example", "api.example.org.evil.example", "xapi.example.org", "127.1"):
            for event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
                with pytest.raises(guard.NotAllowed):
                    guard._hook(event, (name, 443))
        for name in ("API.example.org.", b"api.example.org", "localhost", None, "", "192.0.2.7"):
            guard._hook("socket.getaddrinfo", (name, 443))  # an address needs no look-up
    assert asked == []


def look_up(monkeypatch, **answers):
    """Stands for the resolver: names of no network, so that the real one is not asked."""

    def found(name, port, *rest, **named):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers[name.replace(".", "_")]]

    monkeypatch.setattr(guard, "_look_up", found)


def connected(address, port=443):
    guard._hook("socket.connect", (socket.socket(), (address, port)))


def test_only_addresses_that_an_allowed_name_stands_for(monkeypatch):
    """An address is open because a name that the run allows resolved to it, and closed again with another list."""
    look_up(monkeypatch, api_example=["192.0.2.10", "192.0.2.11"], other_example=["192.0.2.20"])
    with guard.limited_to(["api.example:443"]):
        with pytest.raises(guard.NotAllowed):
            connected("192.0.2.10")
        socket.getaddrinfo("api.example", 443)
        connected("192.0.2.10")
        connected("192.0.2.11")
        for address, port in (("192.0.2.10", 80), ("192.0.2.12", 443), ("10.0.0.1", 443), ("169.254.169.254", 443)):
            with pytest.raises(guard.NotAllowed):
                connected(address, port)
    with guard.limited_to(["other.example"]), pytest.raises(guard.NotAllowed):
        connected("192.0.2.10")


def test_memory_of_addresses_is_bounded(monkeypatch):
    monkeypatch.setattr(guard, "_resolved", {})
    monkeypatch.setattr(guard, "REMEMBERED", 3)
    look_up(monkeypatch, api_example=[f"192.0.2.{n}" for n in range(9)])
    with guard.limited_to(["api.example"]):
        socket.getaddrinfo("api.example", 443)
        assert len(guard._resolved) == 3
        connected("192.0.2.8")
        with pytest.raises(guard.NotAllowed):
            connected("192.0.2.0")


def test_forms_of_one_address():
    """An IPv4 address in IPv6 clothes is the same address; a scope does not hide a link-local one."""
    with guard.limited_to(["192.0.2.1"]):
        guard._hook("socket.connect", (socket.socket(), ("192.0.2.1", 443)))
        with socket.socket(socket.AF_INET6) as six:
            guard._hook("socket.connect", (six, ("::ffff:192.0.2.1", 443, 0, 0)))
            guard._hook("socket.connect", (six, ("::ffff:127.0.0.1", 443, 0, 0)))
            for address in ("::ffff:192.0.2.2", "fe80::1%eth0", "fd00::1", "::"):
                with pytest.raises(guard.NotAllowed):
                    guard._hook("socket.connect", (six, (address, 443, 0, 0)))


def test_unix_sockets_stay_open(tmp_path):
    path = os.path.relpath(tmp_path / "s")  # a socket's path may have 107 bytes only
    with guard.limited_to(), socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)


def test_other_families_are_refused():
    class Odd:
        family = 40  # AF_VSOCK: the machine that this virtual one runs on

    with guard.limited_to(), pytest.raises(guard.NotAllowed, match="family"):
        guard._hook("socket.connect", (Odd(), (2, 1234)))


def test_held_lets_nothing_through_but_what_is_released(door):
    with guard.limited_to([REMOTE], loopback=HERE), guard.held():
        with pytest.raises(guard.NotAllowed, match="of its own"):
            raw(REMOTE, door.port)
        with guard.held(False):
            raw(REMOTE, door.port)
        with pytest.raises(guard.NotAllowed):
            raw(REMOTE, door.port)
    assert door.knocks(1) == 1


def test_a_block_restores_the_list_even_after_an_error(door):
    with guard.limited_to([REMOTE], loopback=HERE):
        with suppress(KeyError), guard.limited_to((), loopback=HERE):
            raise KeyError
        raw(REMOTE, door.port)
    assert guard._rules is None
    raw(REMOTE, door.port)  # the hook sleeps again


@pytest.mark.parametrize(
    ("text", "name", "port"),
    [
        ("api.example.org", "api.example.org", None),
        (" API.Example.Org. ", "api.example.org", None),
        ("gpu-box:8000", "gpu-box", 8000),
        ("bücher.example", "xn--bcher-kva.example", None),
        ("192.0.2.1", "192.0.2.1", None),
        ("::ffff:192.0.2.1", "192.0.2.1", None),
        ("[fd00::1]:8000", "fd00::1", 8000),
        ("fd00:0:0::1", "fd00::1", None),
    ],
)
def test_hosts_as_people_write_them(text, name, port):
    assert guard.host(text) == (name, port)


@pytest.mark.parametrize(
    "text", ["", "*", "*.example.org", "https://h.example", "a/b", "user@host", "a b", "host:0", "host:99999", "a:b"]
)
def test_what_is_no_host(text):
    with pytest.raises(InputError, match="no host"):
        guard.host(text)


@given(st.text(max_size=30))
def test_any_text_is_a_host_or_an_input_error(text):
    with suppress(InputError):
        assert guard.host(str(guard.host(text))) == guard.host(text)


@pytest.mark.parametrize(
    "url",
    ["ftp://h/x", "file:///x", "h.example/v1", "https://", "https://key@h.example", "https://h:port/", "unix:/x", ""],
)
def test_urls_that_are_refused_whatever_the_list(url):
    with guard.limited_to(["h.example", "h", "key"]), pytest.raises(InputError):
        guard.check_url(url)


def test_check_url_needs_no_hook():
    """Off by default: without any list a remote URL is refused, loopback is not; the local network is remote."""
    assert guard._rules is None
    for url in ("https://api.example.org/v1", "http://192.168.1.7:8000", "http://10.0.0.1", "http://169.254.169.254",
                "http://gpu-box:8000", "http://0.0.0.0:8000", "http://127.1/"):  # fmt: skip
        with pytest.raises(guard.NotAllowed):
            guard.check_url(url)
    for url in ("http://127.0.0.1:8000/v1", "http://localhost", "http://[::1]:8000/v1", "https://127.9.9.9"):
        guard.check_url(url)


def test_refusal_through_wrappers():
    def wrapped(error):
        try:
            try:
                raise error
            except Exception as one:
                raise ValueError("library") from one
        except Exception as two:
            try:
                raise KeyError("library")
            except KeyError as three:
                return ExceptionGroup("all", [three, two])

    assert isinstance(guard.refusal(wrapped(guard.NotAllowed("x"))), guard.NotAllowed)
    assert guard.refusal(wrapped(OSError("x"))) is None
    assert guard.refusal(None) is None
    loop = ValueError("a ring")
    loop.__cause__ = KeyError("b")
    loop.__cause__.__context__ = loop
    assert guard.refusal(loop) is None


def test_quiet_environment():
    environ = {"HF_HUB_OFFLINE": "0", "HTTPS_PROXY": "http://127.0.0.1:3128", "PATH": "/bin"}
    guard.quiet_environment(environ)
    assert environ["HF_HUB_OFFLINE"] == environ["DO_NOT_TRACK"] == "1"
    assert environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert environ["PATH"] == "/bin"


def test_proxy_variables_are_ignored(monkeypatch, door):
    """A proxy on loopback would carry anything anywhere: after `quiet_environment` nobody asks for it."""
    proxy = Door("127.0.0.1")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    environ = dict(os.environ)
    guard.quiet_environment(environ)
    for name in guard.QUIET:
        monkeypatch.setenv(name, environ[name])
    with guard.limited_to([REMOTE], loopback=HERE):
        opener(REMOTE, door.port)
        with_requests(REMOTE, door.port)
        pytest.importorskip("httpx").get(f"http://{REMOTE}:{door.port}/")
    assert (door.knocks(3), proxy.knocks(0)) == (3, 0)
    proxy.socket.close()


def test_without_the_hook_of_these_tests():
    """In a process of its own, with real names: refused before a look-up, with a message that says what would do."""
    code = """
import socket
from dermjudge.judge.calls import guard
guard.allow(["192.0.2.1:443"])
for attempt in (lambda: socket.create_connection(("example.org", 80)), lambda: socket.gethostbyname("example.org"),
                lambda: socket.socket().connect(("192.0.2.2", 443))):
    try:
        attempt()
    except guard.NotAllowed as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("--allow-remote" in line and ("example.org" in line or "192.0.2.2:443" in line) for line in lines)


def test_an_event_costs_little():
    """Asleep or awake the hook adds less than a few microseconds to any event of the interpreter."""
    import timeit

    with guard.limited_to():
        awake = min(timeit.repeat(lambda: sys.audit("dermjudge.nothing", 1), number=2000, repeat=5)) / 2000
    assert awake < 5e-6
