"""Which hosts this process may reach: loopback always, any other only by name; checked below the libraries.

An audit hook sees every connection and every look-up of Python's own sockets, whichever library makes them, and
refuses before a packet leaves. It is defence in depth and no sandbox: child processes, uvloop and native clients (Rust,
C: polars reading a URL, c-ares) pass it by, and a name that a program hands to `connect` unresolved is looked up in C
before the hook sees it. A forward proxy or an empty network namespace holds those as well.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Collection, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import InputError
from ..escape import visible

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LOOPBACK = ("127.0.0.0/8", "::1/128")
REMEMBERED = 4096  # addresses; the oldest look-ups are forgotten, and then refused until looked up again
QUIET = {  # no hub, no telemetry, no price list from the network, no .env files, no native downloads
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_ENABLE_HF_TRANSFER": "0",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "offline",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_RUST": "False",
    # A proxy named in the environment would carry everything past the check of the host; a run names its own, or none.
    "NO_PROXY": "*",
    "no_proxy": "*",
}


class NotAllowed(PermissionError):
    """A host that this run may not reach; nothing was sent. An OSError, so that libraries clean up behind it."""


class Host(NamedTuple):
    """A host name in lower case or an address in its shortest form; `port` None: any port."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


class _Rules(NamedTuple):
    hosts: frozenset[Host]
    loopback: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    def permit(self, name: str, port: int | None) -> bool:
        if (address := _address(name)) is None:
            return name == "localhost" or self._named(name, port)
        if any(address in network for network in self.loopback) or self._named(str(address), port):
            return True
        return any(self._named(given, port) for given in list(_resolved.get(address, ())))

    def _named(self, name: str, port: int | None) -> bool:
        if port is None:  # a look-up: whatever the port
            return any(host.name == name for host in self.hosts)
        return Host(name) in self.hosts or Host(name, port) in self.hosts


_NONE = _Rules(frozenset(), tuple(map(ipaddress.ip_network, LOOPBACK)))
_rules: _Rules | None = None  # None: the hook is asleep
_resolved: dict[Address, set[str]] = {}  # what allowed names were found to stand for
_held: ContextVar[bool] = ContextVar("held", default=False)
_lock = threading.Lock()
_installed = False
_look_up = socket.getaddrinfo


def allow(hosts: Collection[str] = ()) -> None:
    """From now on this process reaches loopback and these hosts ("api.example.org", "gpu-box:8000") and no other.

    Replaces an earlier list. Unix sockets stay open. InputError for what is no host (URLs, wildcards).
    """
    _switch(_Rules(frozenset(map(host, hosts)), _NONE.loopback))


@contextmanager
def limited_to(hosts: Collection[str] = (), *, loopback: Sequence[str] = LOOPBACK) -> Iterator[None]:
    """`allow` for the length of a `with` block, for the whole process; a test may narrow what counts as loopback."""
    before = _rules
    _switch(_Rules(frozenset(map(host, hosts)), tuple(map(ipaddress.ip_network, loopback))))
    try:
        yield
    finally:
        _switch(before)


def wake() -> None:
    """Have the hook awake with the list as it is: loopback only if nobody called `allow`."""
    if _rules is None:
        _switch(_NONE)


@contextmanager
def held(hold: bool = True) -> Iterator[None]:
    """In this context no connection is opened at all, but within an inner `held(False)`.

    Round a library that shall send through the transport it was given: a way of its own fails instead of going unseen.
    """
    token = _held.set(hold)
    try:
        yield
    finally:
        _held.reset(token)


def check_url(url: str) -> Host:
    """The host of an http(s) URL if this run may send to it; NotAllowed otherwise, whether the hook is awake or not."""
    target = url_host(url)
    if not (_rules or _NONE).permit(*target):
        raise _refusal(target)
    return target


def refusal(error: BaseException | None) -> NotAllowed | None:
    """The NotAllowed that another exception was made of, however the libraries between wrapped it."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        one = queue.pop()
        if isinstance(one, NotAllowed):
            return one
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            queue += [one.__cause__, one.__context__, getattr(one, "os_error", None), *getattr(one, "exceptions", ())]
    return None


def host(text: str) -> Host:
    """Read a host as a person names it: a name or an address, with or without a port.

    >>> host("API.Example.org."), host("[::1]:8000").port
    (Host(name='api.example.org', port=None), 8000)
    """
    bare = text.strip()
    if _address(bare) is None:
        name, colon, port = bare.rpartition(":")
        if colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return Host(_plain(text, name), int(port))
    return Host(_plain(text, bare))


def url_host(url: str) -> Host:
    """Host and port of an http(s) URL; InputError for any other scheme and for one that holds a name or key."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError("a URL is not readable; it must look like https://host:port/v1") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"'{visible(parts.scheme)}' is no scheme to send by; a URL must look like https://host:port/v1"
        )
    if "@" in parts.netloc:
        raise InputError("a URL holds a user name or a key before its '@'; keys are read from the environment only")
    return Host(_plain(parts.hostname, parts.hostname), port or (443 if parts.scheme == "https" else 80))


def is_loopback(name: str) -> bool:
    """Whether a host is this machine; by its name alone, nothing is looked up. The local network is not.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("192.168.0.7")
    (True, True, False)
    """
    return _NONE.permit(_normal(name), None)


def quiet_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Hub offline, telemetry off, price list local, proxy variables and .env files ignored; before the imports."""
    environ.update(QUIET)


def _plain(text: str, name: str) -> str:
    name = _normal(name)
    if not name or any(sign in name for sign in "/*@?#% ,") or (":" in name and _address(name) is None):
        raise InputError(
            f"'{visible(text)}' is no host; name one as in api.example.org, gpu-box:8000 or [fd00::1]:8000"
        )
    return name


def _normal(name: str | bytes) -> str:
    text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
    text = text.strip().rstrip(".").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode()
        except UnicodeError:
            return text
    address = _address(text)
    return text if address is None else str(address)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _refusal(target: Host) -> NotAllowed:
    return NotAllowed(
        f"this run may not reach {visible(str(target))}; a host is named with --allow-remote and a consent file"
    )


def _switch(rules: _Rules | None) -> None:
    global _rules, _installed
    with _lock:
        if rules is not None and not _installed:
            socket.getaddrinfo = _remembering  # type: ignore[assignment]
            sys.addaudithook(_hook)  # for good: Python has no way to remove one
            _installed = True
        _rules = rules


def _remembering(name: Any, *arguments: Any, **named: Any) -> Any:
    """getaddrinfo that notes what an allowed name stands for: no other address may be reached in its name."""
    found = _look_up(name, *arguments, **named)
    if _rules is not None and isinstance(name, (str, bytes)) and _address(given := _normal(name)) is None:
        with _lock:
            for *_, place in found:
                if (address := _address(str(place[0]))) is not None:
                    _resolved.setdefault(address, set()).add(given)
            while len(_resolved) > REMEMBERED:
                del _resolved[next(iter(_resolved))]
    return found


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _rules is not None and (check := _CHECKS.get(event)) is not None:
        check(_rules, arguments)


def _check_sending(rules: _Rules, arguments: tuple[Any, ...]) -> None:
    place, family = arguments[1], getattr(arguments[0], "family", socket.AF_INET)
    if place is None or family in (socket.AF_UNIX, getattr(socket, "AF_NETLINK", None)):
        return  # a datagram on a connected socket, which was checked; this machine
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(place, tuple):
        raise NotAllowed(f"this run may not send through a socket of family {family}")
    if _held.get():
        raise NotAllowed("a library tried to open a connection of its own instead of the guarded one")
    _check_place(rules, place)


def _check_place(rules: _Rules, place: tuple[Any, ...]) -> None:
    target = Host(_normal(place[0]), int(place[1]))
    if not rules.permit(*target):
        raise _refusal(target)


def _check_name(rules: _Rules, arguments: tuple[Any, ...]) -> None:
    name = arguments[0]
    if name is None or name in ("", b""):
        return
    given = _normal(name)  # an address needs no look-up and is checked when it is connected to
    if _address(given) is None and not rules.permit(given, None):
        raise _refusal(Host(given))


_CHECKS = {
    "socket.connect": _check_sending,
    "socket.sendto": _check_sending,
    "socket.sendmsg": _check_sending,
    "socket.getaddrinfo": _check_name,
    "socket.gethostbyname": _check_name,
    "socket.gethostbyaddr": _check_name,
    "socket.getnameinfo": lambda rules, arguments: _check_place(rules, arguments[0]),
}
