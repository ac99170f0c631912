"""What carries a hosted call: one HTTP request below litellm, and what came of it read from the response itself.

litellm and the SDKs under it follow redirects, send anew after some failures and write keys into their exceptions. All
that stays out of reach here: they are handed a transport that sends once, to one host, and keeps its own record.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import MissingExtra
from ..tablefile import parse_json
from . import guard
from .chat import CallError, Reply
from .wire import failure, read_reply

MAX_ANSWER = 8_000_000  # bytes
_OWN_HEADERS = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
_ACCOUNT = {"API_KEY_INVALID", "authentication_error", "billing_error", "permission_error", "API_KEY_SERVICE_BLOCKED"}


class Path(NamedTuple):
    """Where a route sends and how: `timeout` in seconds for the whole attempt, `ca_file`: certificates to trust."""

    host: guard.Host
    timeout: float
    proxy: str | None
    ca_file: str | None
    tls: bool
    openai: bool  # answers in OpenAI's form, read here: the SDK would warn about odd ones and quote them


@dataclass(slots=True)
class Attempt:
    """What the transport saw of one call: requests made, the body of a 200 and its JSON, or the error.

    `rehearsal`: the request is counted and not sent.
    """

    rehearsal: bool = False
    requests: int = 0
    body: bytes = b""
    raw: Mapping[str, Any] | None = None
    reply: Reply | None = None
    error: CallError | None = None


class StoppedError(Exception):
    """Ends a call inside litellm without a word: what happened stands in the attempt."""


current: ContextVar[Attempt | None] = ContextVar("current", default=None)


def transport(path: Path) -> Any:
    """An httpx transport over aiohttp (httpx' own takes three to five times as long at 64 in flight)."""
    try:
        import aiohttp
        import httpx
        from yarl import URL

        from .endpoint import typed
    except ModuleNotFoundError as error:
        raise MissingExtra("litellm with aiohttp", "api") from error

    class Transport(httpx.AsyncBaseTransport):
        session: Any = None
        loop: Any = None

        async def handle_async_request(self, request: Any) -> Any:
            attempt = current.get()
            if attempt is None:
                raise StoppedError
            attempt.requests += 1
            if attempt.rehearsal:
                raise StoppedError
            try:
                await self.exchange(attempt, request)
            except CallError as error:
                attempt.error = error
            except Exception as error:
                attempt.error = typed(error)
                if attempt.error is None:
                    attempt.error = CallError("bad_request", f"the request could not be made ({type(error).__name__})")
            if attempt.error is not None:
                raise StoppedError
            return httpx.Response(200, headers={"content-type": "application/json"}, content=attempt.body,
                                  request=request)  # fmt: skip

        async def exchange(self, attempt: Attempt, request: Any) -> None:
            url = str(request.url)
            if attempt.requests > 1:
                raise CallError("not_allowed", "litellm tried to send a second request for one call")
            if guard.check_url(url) != path.host:
                raise CallError("not_allowed", f"litellm tried to send to another host than {path.host}")
            data = await request.aread()
            headers = {name: value for name, value in request.headers.items() if name not in _OWN_HEADERS}
            with guard.held(False):
                sending = self.opened().request(request.method, URL(url, encoded=True), data=data, headers=headers,
                                                proxy=path.proxy, allow_redirects=False)  # fmt: skip
                async with sending as response:
                    attempt.body = await _read(response)
            if response.status != 200:
                raise _failure(response.status, dict(response.headers), attempt.body)
            try:
                attempt.raw = parse_json(attempt.body.decode("utf-8"))
            except ValueError:
                attempt.raw = None
            if not isinstance(attempt.raw, dict):
                raise CallError("malformed", "HTTP 200, but the body is no JSON object", status=200)
            if path.openai:
                attempt.reply = read_reply(attempt.body)

        def opened(self) -> Any:
            loop = asyncio.get_running_loop()
            if self.session is None or self.session.closed or self.loop is not loop:
                # c-ares, which aiohttp takes where it finds it, looks up names out of the guard's sight
                connector = aiohttp.TCPConnector(limit=0, resolver=aiohttp.ThreadedResolver(),
                                                 ssl=_trust(path.ca_file) if path.tls else True)  # fmt: skip
                limits = aiohttp.ClientTimeout(total=path.timeout, sock_connect=min(path.timeout, 30))
                self.loop = loop
                self.session = aiohttp.ClientSession(connector=connector, timeout=limits, trust_env=False,
                                                     cookie_jar=aiohttp.DummyCookieJar())  # fmt: skip
            return self.session

        async def aclose(self) -> None:
            session, self.session = self.session, None
            if session is not None and self.loop is asyncio.get_running_loop():
                await session.close()

    return Transport()


async def _read(response: Any) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER:
            raise CallError("malformed", f"an answer of more than {MAX_ANSWER:,} bytes", status=response.status)
    return bytes(body)


def _trust(ca_file: str | None) -> ssl.SSLContext:
    named = ca_file or os.environ.get("SSL_CERT_FILE")
    if not named:
        import certifi  # what litellm and httpx trust as well

        named = certifi.where()
    return ssl.create_default_context(cafile=named)


def _failure(status: int, headers: Mapping[str, str], body: bytes) -> CallError:
    """As in wire.py, and Anthropic's and Google's codes for a bad key or an empty account, which come as 400 too."""
    try:
        words = set(_words(parse_json(body.decode("utf-8"))))
    except ValueError:
        words = set()
    if 400 <= status < 500 and (words & _ACCOUNT or b"credit balance is too low" in body):
        return CallError("denied", f"HTTP {status}: the key is not accepted or the account is empty", status=status)
    return failure(status, headers, body)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (word for name in ("code", "type", "status", "reason") if isinstance(word := value.get(name), str))
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _words(inner)
