"""Servers that speak the OpenAI chat format (vLLM, SGLang, TGI, llama.cpp, transformers serve): one attempt a call.

Redirects are never followed, proxy variables and cookies not used, the key stays in the header that it is sent in.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InputError, MissingExtra
from ..escape import visible
from . import guard
from .chat import CallError, Picture, Reply, Request
from .kept import Kept
from .wire import body, failure, read_reply

try:
    import aiohttp
    from aiohttp.abc import AbstractStreamWriter
except ModuleNotFoundError as error:
    raise MissingExtra("aiohttp", "api") from error

KEY = "DERMJUDGE_API_KEY"
MAX_ANSWER = 8_000_000  # bytes; probabilities of 20 alternatives a token fill one or two millions
MAX_ERROR = 65_536
KEPT_BASE64 = 8_000_000  # bytes; a case's pictures go to several models and samples in a row
KEEP_ALIVE = 4.0  # seconds; uvicorn, under most of these servers, hangs up after 5
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}")
_SUFFIX = re.compile(r"@[A-Za-z0-9._/-]+")


class Timeouts(NamedTuple):
    """Limits in seconds: to connect, between two pieces of an answer, and of a call in all."""

    connect: float = 10.0
    read: float = 300.0
    total: float = 300.0


LIMITS = Timeouts()


class EndpointRoute:
    """A model on an OpenAI-compatible server, `url` up to and with "/v1".

    `key_env` names the environment variable of the key; on loopback it may be empty, elsewhere only if `key_env` is
    None. `expect_model`: what the server must call the model in its answers, by default `model` (a revision behind an
    "@", as transformers serve adds it, is fine); None takes any and keeps the name in the reply. `proxy`: URL of a
    forward proxy, `ca_file`: certificates to trust in place of the system's. InputError for hosts that this run may
    not reach (`guard.allow`), for a missing key, for files that cannot be read.
    """

    def __init__(self, url: str, model: str, *, key_env: str | None = KEY, expect_model: str | None = "",
                 timeouts: Timeouts = LIMITS, proxy: str | None = None,
                 ca_file: str | os.PathLike[str] | None = None):  # fmt: skip
        if not model or not model.isprintable():
            raise InputError("an endpoint needs the name of a model, as in endpoint:http://localhost:8000/v1#MODEL")
        if min(timeouts) <= 0:
            raise InputError(f"timeouts are seconds above 0, not {tuple(timeouts)}")
        self.url, self.model = url.rstrip("/"), model
        self.expect_model = model if expect_model == "" else expect_model
        self._timeouts, self._proxy = timeouts, proxy
        try:
            host = guard.check_url(self.url)
            if proxy is not None:
                guard.check_url(proxy)
        except guard.NotAllowed as refused:
            raise InputError(str(refused)) from None
        guard.wake()
        self._key = _read_key(key_env, guard.is_loopback(host.name))
        self._tls = _trust(ca_file) if self.url.startswith("https:") else None
        self._base64 = Kept[str, bytes](KEPT_BASE64, len)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"EndpointRoute({self.name!r})"

    @property
    def name(self) -> str:
        return f"endpoint:{self.url}#{self.model}"

    @property
    def signature(self) -> Mapping[str, Any]:
        """All that decides the answers; host and limits of time do not."""
        return {"route": "endpoint", "model": self.model, "expect_model": self.expect_model}

    async def send(self, request: Request) -> Reply:
        """One attempt; CallError for all that a server or the network can do, InputError for settings that are ours."""
        payload = _Pieces(body(request, self.model, self._encoded))
        try:
            return await self._post(payload)
        except CallError as caught:
            problem = caught
        except Exception as caught:
            if (found := typed(caught)) is None:
                raise
            problem = found
        raise problem  # out here nothing hangs on it: aiohttp's own errors carry the headers, and in them the key

    async def close(self) -> None:
        """Close the connections; the next `send` opens new ones."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _post(self, payload: aiohttp.Payload) -> Reply:
        session = self._open()
        start = time.monotonic()
        async with session.post(f"{self.url}/chat/completions", data=payload, allow_redirects=False,
                                proxy=self._proxy) as response:  # fmt: skip
            if response.status != 200:
                headers, status = dict(response.headers), response.status
                raise failure(status, headers, await _read(response, MAX_ERROR) or b"")
            data = await _read(response, MAX_ANSWER)
        if data is None:
            raise CallError("malformed", f"HTTP 200, but the body has more than {MAX_ANSWER:,} bytes", status=200)
        reply = read_reply(data, time.monotonic() - start)
        if self.expect_model is not None and not _same_model(reply.model, self.expect_model):
            raise CallError("wrong_model", f"asked for {visible(self.expect_model)}, but {self._shown(reply.model)} "
                            "answered; expect_model names what is meant to", status=200)  # fmt: skip
        return reply

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._loop is not asyncio.get_running_loop():
            guard.check_url(self.url)  # the rules may have changed since the route was made
            limits = aiohttp.ClientTimeout(self._timeouts.total, sock_connect=self._timeouts.connect,
                                           sock_read=self._timeouts.read)  # fmt: skip
            headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "dermjudge",
                       "Accept-Encoding": "identity"}  # fmt: skip
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            # c-ares, which aiohttp prefers where it finds it, would look up names out of the guard's sight.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, ssl=self._tls or True,
                                             resolver=aiohttp.ThreadedResolver())  # fmt: skip
            self._loop = asyncio.get_running_loop()
            self._session = aiohttp.ClientSession(connector=connector, timeout=limits, headers=headers,
                                                  trust_env=False, cookie_jar=aiohttp.DummyCookieJar())  # fmt: skip
        return self._session

    def _encoded(self, picture: Picture) -> bytes:
        return self._base64.get(picture.sha256, lambda: base64.b64encode(picture.data))

    def _shown(self, model: str) -> str:
        """A server's word for its model, if it is one that can be shown."""
        if not model:
            return "a model that the server does not name"
        return model if _SAFE.fullmatch(model) and not (self._key and self._key in model) else "another model"


class _Pieces(aiohttp.Payload):
    """A body of several byte strings with a known length, written one after the other without joining them."""

    def __init__(self, pieces: list[bytes]):
        super().__init__(pieces, content_type="application/json")
        self._size = sum(map(len, pieces))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value:
            await writer.write(piece)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """The body, or None if it is longer than `most`."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        if (size := size + len(piece)) > most:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def typed(error: Exception) -> CallError | None:
    """What went wrong on the way, in our words, from an exception of aiohttp; None for an error of the program."""
    if (refused := guard.refusal(error)) is not None:
        return CallError("not_allowed", str(refused), billed=False)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        text = "the server's certificate is not trusted, or it speaks no TLS; name its certificates with ca_file"
        return CallError("not_allowed", text, billed=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return CallError("timeout", "no connection within the limit", billed=False)
    if isinstance(error, asyncio.TimeoutError):
        return CallError("timeout", "no answer within the limit")
    if isinstance(error, aiohttp.ClientConnectorError):
        return CallError("connection", "the server cannot be reached", billed=False)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return CallError("denied", f"HTTP {error.status}: the proxy refuses", status=error.status)
    if isinstance(error, aiohttp.ClientResponseError):
        return CallError("malformed", "what the server sent is no HTTP")
    if isinstance(error, aiohttp.ClientError | OSError):
        return CallError("connection", "the connection was cut")
    return None


def _same_model(served: str, expected: str) -> bool:
    return served == expected or (served.startswith(expected) and bool(_SUFFIX.fullmatch(served[len(expected) :])))


def _read_key(variable: str | None, loopback: bool) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key and variable and not loopback:
        raise InputError(f"the environment variable {variable} holds no key; set it, or say that none is needed")
    if not (key.isascii() and all(sign.isprintable() and sign != " " for sign in key)):
        raise InputError(f"the environment variable {variable} holds signs that are in no key (blanks, line breaks)")
    return key


def _trust(ca_file: str | os.PathLike[str] | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else os.fspath(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"the certificates in {ca_file} cannot be read: {error.strerror or 'no PEM file'}") from None
