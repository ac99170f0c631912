"""An OpenAI-compatible server on loopback that fails as it is told, deterministic by seed, and logs every request.

In a thread (`with FaultServer(rates={"429": 0.05}) as server`) or a process of its own (`with spawn(log, ...) as url`,
which is `python tests/fault_server.py LOG '{"latency": 0.2}'`). Which item a request is about is read from its body:
the first `item=NAME`. What an item gets depends on seed, item and number of the attempt alone, never on order or time;
so do the answers, hence a resumed run can be compared byte for byte. Every error body echoes key and prompt, as real
providers do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

ITEM = re.compile(rb"item=([A-Za-z0-9_.-]+)")
ASKED = re.compile(r"<<<scores (\w+)\n(\{.*?\})\nscores \1>>>")
STATUS = {"400", "401", "402", "403", "404", "405", "408", "413", "422", "429", "500", "502", "503", "504", "529"}
MODES = {
    *STATUS, "malformed", "prose", "html", "empty", "null", "nan", "twice", "deep", "huge", "latin", "list",
    "drop", "cut", "stall", "trickle", "wrong_model", "no_model", "redirect", "filter_400", "filter_200", "refusal",
    "truncated", "thinking", "quota", "answer_prose", "answer_cut", "no_http",
}  # fmt: skip


@dataclass(frozen=True)
class Behaviour:
    """`rates`: chance of each mode for every attempt; `sticky`: the mode of every attempt of an item ("*": of all);
    `script`: modes of the first attempts of an item ("*": of every item), "ok" for none."""

    seed: int = 0
    latency: float = 0.0
    jitter: float = 0.0  # seconds, up or down
    rates: Mapping[str, float] = field(default_factory=dict)
    sticky: Mapping[str, str] = field(default_factory=dict)
    script: Mapping[str, Sequence[str]] = field(default_factory=dict)
    retry_after: str = "1"
    model: str = "tiny"
    key: str = ""  # if set, any other gets a 401

    def mode(self, item: str, attempt: int) -> str:
        script = self.script.get(item, self.script.get("*", ()))
        if attempt <= len(script):
            return script[attempt - 1]
        if (mode := self.sticky.get(item, self.sticky.get("*"))) is not None:
            return mode
        chance = self.draw(item, attempt)
        for mode, rate in self.rates.items():
            if (chance := chance - rate) < 0:
                return mode
        return "ok"

    def draw(self, *what: object) -> float:
        digest = hashlib.sha256(repr((self.seed, *what)).encode()).digest()
        return int.from_bytes(digest[:7], "big") / 256**7


def answer_to(item: str, prompt: str) -> str:
    """A score block with whole numbers where the prompt asks for one, else a line; the same for an item every time."""

    def digest(*what: str) -> int:
        return int.from_bytes(hashlib.sha256("|".join((item, *what)).encode()).digest()[:4], "big")

    if not (asked := ASKED.findall(prompt)):
        return f"Narrative {digest():08x} about {item}: a brown, sharply bordered macule."
    nonce, block = asked[-1]
    block = re.sub(r'"([^"]+)": N', lambda found: f'"{found[1]}": {digest(found[1]) % 6}', block)
    return f"The picture shows {item}.\n<<<scores {nonce}\n{block}\nscores {nonce}>>>"


class FaultServer:
    """The server in a thread of this process; `log` holds one dict a request, in the order in which they came."""

    def __init__(
        self, *, log_file: Path | None = None, answer: Callable[[str, str], str] = answer_to, **behaviour: Any
    ):
        self.behaviour = Behaviour(**behaviour)
        modes = {*self.behaviour.rates, *self.behaviour.sticky.values()}.union(*self.behaviour.script.values())
        if unknown := modes - MODES - {"ok"}:
            raise ValueError(f"unknown modes {unknown}")
        self.answer = answer
        self.log: list[dict[str, Any]] = []
        self.bodies: list[bytes] | None = None  # set to [] to keep them
        self.attempts: Counter[str] = Counter()
        self.in_flight = 0
        self.port = 0
        self._file = log_file.open("w") if log_file else None
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def most_in_flight(self) -> int:
        return max((line["in_flight"] for line in self.log), default=0)

    def __enter__(self) -> FaultServer:
        self._thread = threading.Thread(target=asyncio.run, args=(self.serve(),), daemon=True)
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the fault server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        if self._file:
            self._file.close()

    async def serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self.handle, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        arrived = time.monotonic()
        body = await request.content.read()
        found = ITEM.search(body)
        item = found[1].decode() if found else hashlib.sha256(body).hexdigest()[:16]
        self.attempts[item] += 1
        attempt = self.attempts[item]
        behaviour = self.behaviour
        mode = behaviour.mode(item, attempt)
        if behaviour.key and request.headers.get("Authorization") != f"Bearer {behaviour.key}":
            mode = "401"
        if request.path != "/v1/chat/completions" or request.method != "POST":
            mode = "404"
        self.in_flight += 1
        peer = request.transport.get_extra_info("peername")[1]  # type: ignore[union-attr]
        line = {"n": len(self.log), "t": arrived, "peer": peer, "item": item, "attempt": attempt, "mode": mode,
                "path": request.path, "bytes": len(body), "in_flight": self.in_flight}  # fmt: skip
        self.log.append(line)
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self.bodies is not None:
            self.bodies.append(body)
        try:
            if wait := behaviour.latency + behaviour.jitter * (2 * behaviour.draw(item, attempt, "wait") - 1):
                await asyncio.sleep(wait)
            return await self.respond(request, body, item, mode)
        finally:
            self.in_flight -= 1

    async def respond(self, request: web.BaseRequest, body: bytes, item: str, mode: str) -> web.StreamResponse:
        if mode in STATUS or mode in ("filter_400", "quota"):
            return self.error(request, body, mode)
        match mode:
            case "redirect":
                return web.Response(status=307, headers={"Location": f"{self.url}/elsewhere"})
            case "html":
                return web.Response(text="<!doctype html><h1>Gateway</h1>", content_type="text/html")
            case "prose":
                return web.Response(text="Sorry, try again later.", content_type="text/plain")
            case "list":
                return web.json_response([])
            case "deep":
                return web.Response(body=b"[" * 100_000, content_type="application/json")
            case "huge":
                return web.Response(body=b" " * 9_000_000 + b"{}", content_type="application/json")
            case "stall":
                await asyncio.sleep(3600)
            case "drop" | "no_http":
                if mode == "no_http":
                    request.transport.write(b"nonsense\r\n\r\n")
                    await asyncio.sleep(0.01)
                request.transport.abort()
                return web.Response()
        data = self.completion(body, item, mode)
        if mode in ("cut", "trickle"):
            response = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await response.prepare(request)
            for byte in data[: len(data) // 2]:
                await response.write(bytes([byte]))
                if mode == "trickle":
                    await asyncio.sleep(0.05)
            request.transport.close()
            return response
        if mode == "malformed":
            data = data[: len(data) // 2]
        elif mode == "nan":
            data = data.replace(b'"total_tokens": ', b'"total_tokens": NaN, "x": ')
        elif mode == "twice":
            data = data.replace(b'"choices": ', b'"choices": [], "choices": ')
        elif mode == "latin":
            data = data.replace(b"chatcmpl", b"\xff\xfe")
        return web.Response(body=data, content_type="application/json")

    def error(self, request: web.BaseRequest, body: bytes, mode: str) -> web.Response:
        status = {"filter_400": 400, "quota": 429}.get(mode) or int(mode)
        codes = {"filter_400": "content_filter", "quota": "insufficient_quota"}
        echo = f"{request.headers.get('Authorization')} may not ask: {body[:2000].decode('utf-8', 'replace')}"
        headers = {"Retry-After": self.behaviour.retry_after} if status in (429, 503, 529) else {}
        return web.json_response({"error": {"message": echo, "code": codes.get(mode)}}, status=status, headers=headers)

    def completion(self, body: bytes, item: str, mode: str) -> bytes:
        asked = json.loads(body) if b"<<<scores" in body or b'"logprobs": true' in body else {}
        contents = [message["content"] for message in asked.get("messages", ())]
        parts = [part for content in contents for part in ([content] if isinstance(content, str) else content)]
        texts = [part if isinstance(part, str) else part.get("text", "") for part in parts]
        text = self.answer(item, "\n".join(texts))
        message: dict[str, Any] = {"role": "assistant", "content": text}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        if asked.get("logprobs"):
            choice["logprobs"] = {"content": [chance(token) for token in re.findall(r"\w+|\W", text)]}
        match mode:
            case "null":
                message["content"] = None
            case "refusal":
                message |= {"content": None, "refusal": "I cannot help with that."}
            case "filter_200":
                message["content"], choice["finish_reason"] = "", "content_filter"
            case "truncated":
                message["content"], choice["finish_reason"] = text[: len(text) // 2], "length"
            case "thinking":
                message |= {"content": None, "reasoning_content": "Let me see"}
                choice["finish_reason"] = "length"
            case "answer_prose":
                message["content"] = "A fine narrative; I would give it four of five."
            case "answer_cut":
                message["content"] = text[: len(text) * 2 // 3]
        used = {"prompt_tokens": 10 + len(body) // 4, "completion_tokens": len(text) // 4 + 1}
        answer: dict[str, Any] = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0,
            "model": {"wrong_model": "another-model"}.get(mode, self.behaviour.model), "system_fingerprint": "fp_1",
            "choices": [] if mode == "empty" else [choice], "usage": {**used, "total_tokens": sum(used.values())},
        }  # fmt: skip
        if mode == "no_model":
            del answer["model"]
        return json.dumps(answer).encode()


def chance(token: str) -> dict[str, Any]:
    """0.8 for the token itself and 0.2 for another one, the next digit for a digit."""
    other = str((int(token) + 1) % 10) if token.isdigit() else "?"
    both = [{"token": token, "logprob": -0.22314355131420976}, {"token": other, "logprob": -1.6094379124341003}]
    return {**both[0], "top_logprobs": both}


@contextmanager
def spawn(log_file: Path, **behaviour: Any) -> Iterator[str]:
    """The server in a process of its own, for measurements and kills; yields its URL."""
    command = [sys.executable, str(Path(__file__).resolve()), str(log_file), json.dumps(behaviour)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()  # type: ignore[union-attr]
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(20)


def read_log(log_file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_file.read_text().splitlines()]


if __name__ == "__main__":
    with FaultServer(log_file=Path(sys.argv[1]), **json.loads(sys.argv[2])) as running:
        print(running.url, flush=True)
        sys.stdin.read()  # until whoever started it closes the pipe, or ends
