"""The real litellm package against a server on loopback that stands for four providers; 127.0.0.2 counts as remote."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest

from dermjudge.judge.calls import guard
from dermjudge.judge.calls.chat import CallError, Picture, Request
from dermjudge.judge.errors import InputError

if find_spec("litellm") is None or find_spec("aiohttp") is None:
    pytest.skip("litellm and aiohttp are not installed", allow_module_level=True)

from dermjudge.judge.calls.hosted import PROVIDERS, HostedRoute, looks_dated

HERE, REMOTE = ("127.0.0.1/32",), "127.0.0.2"
MODELS = {
    "openai": "gpt-4o-2024-08-06",
    "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-2.0-flash-001",
    "azure": "deployment-2024-08-06",
}
KEYS = {name: f"key-of-{name}-5f2c" for name in MODELS}
PICTURE = Picture(b"\x89PNG picture", "image/png", hashlib.sha256(b"\x89PNG picture").hexdigest())
REQUEST = Request("k", ("Look at this:", PICTURE, "what is it?"), system="You judge.",
                  settings={"temperature": 0, "max_tokens": 50})  # fmt: skip
provider_of = {"chat/completions": "openai", "/v1/messages": "anthropic", ":generateContent": "gemini"}


def answer(provider: str, model: str, text: str | None = "A papule.", finish: str = "stop", **more) -> dict:
    """A whole answer of a provider in its own form."""
    if provider == "anthropic":
        stop = {"stop": "end_turn", "length": "max_tokens"}.get(finish, finish)
        return {"id": "m", "type": "message", "role": "assistant", "model": model, "stop_sequence": None,
                "content": [] if text is None else [{"type": "text", "text": text}], "stop_reason": stop,
                "usage": {"input_tokens": 10, "output_tokens": 2}, **more}  # fmt: skip
    if provider == "gemini":
        stop = {"stop": "STOP", "length": "MAX_TOKENS"}.get(finish, finish)
        parts = {} if text is None else {"content": {"role": "model", "parts": [{"text": text}]}}
        return {"candidates": [{**parts, "finishReason": stop, "index": 0}], "modelVersion": model,
                "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12},
                **more}  # fmt: skip
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, **more}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server: Server = self.server  # type: ignore[assignment]
        server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        server.script(self, body)

    do_GET = do_POST

    def reply(self, status: int, data: bytes | dict, headers: dict[str, str] | None = None, cut: int = 0) -> None:
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        if cut:
            self.close_connection = True

    def log_message(self, *_) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1"):
        super().__init__((host, 0), Handler)
        self.url = f"http://{host}:{self.server_port}"
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.script = well
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


def well(handler: Handler, body: bytes) -> None:
    provider = next(name for part, name in provider_of.items() if part in handler.path)
    model = handler.path.split("/")[-1].split(":")[0] if provider == "gemini" else json.loads(body)["model"]
    handler.reply(200, answer(provider, model))


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Server, Server]]:
    with Server() as one, Server(REMOTE) as two:
        yield one, two
        one.shutdown()
        two.shutdown()


@pytest.fixture
def server(both) -> Server:
    for one in both:
        one.seen.clear()
        one.script = well
    return both[0]


@pytest.fixture
def other(both, server) -> Server:
    return both[1]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, provider in PROVIDERS.items():
        monkeypatch.setenv(provider.keys[0], KEYS[name])
    quiet: dict[str, str] = {}
    guard.quiet_environment(quiet)
    for name, value in quiet.items():
        monkeypatch.setenv(name, value)
    with guard.limited_to((), loopback=HERE):
        yield


def route(provider: str, url: str, **options) -> HostedRoute:
    base = {"openai": "/v1", "gemini": "/v1beta"}.get(provider, "")
    return HostedRoute(f"{provider}/{MODELS[provider]}", base_url=url + base, **{"timeout": 5.0, **options})


def send(one: HostedRoute, request: Request = REQUEST):
    async def main():
        try:
            return await one.send(request)
        finally:
            await one.close()

    return asyncio.run(main())


def error_of(one: HostedRoute, request: Request = REQUEST) -> CallError:
    with pytest.raises(CallError) as caught:
        send(one, request)
    return caught.value


EACH = pytest.mark.parametrize("provider", MODELS)


@EACH
def test_one_answer(provider, server):
    reply = send(route(provider, server.url))
    assert (reply.text, reply.finish_reason, reply.refusal) == ("A papule.", "stop", "")
    assert (reply.model, reply.input_tokens, reply.output_tokens) == (MODELS[provider], 10, 2)
    assert reply.fingerprint == ("fp_1" if provider in ("openai", "azure") else "")
    assert reply.cost == {"openai": 4.5e-05, "anthropic": 6e-05}.get(provider)  # list prices; unknown is None
    assert 0 < reply.seconds < 5
    ((path, headers, body),) = server.seen
    assert KEYS[provider] not in path
    holder = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key", "azure": "api-key"}
    assert {name for name, value in headers.items() if KEYS[provider] in value} == {holder[provider]}
    text = body.decode()
    assert text.index("Look at this:") < text.index("iVBORyBwaWN0dXJl") < text.index("what is it?")
    assert "You judge." in text


@EACH
def test_many_at_once_and_several_loops(provider, server):
    one = route(provider, server.url)

    async def main():
        replies = await asyncio.gather(*(one.send(Request(str(n), (f"case {n}",))) for n in range(8)))
        await one.close()
        return replies

    for _ in range(2):
        assert [reply.text for reply in asyncio.run(main())] == ["A papule."] * 8
    assert len(server.seen) == 16


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_schema_and_settings_reach_the_provider(provider, server):
    schema = {"type": "object", "properties": {"grade": {"type": "integer"}}, "required": ["grade"],
              "additionalProperties": False}  # fmt: skip
    settings = {"temperature": 0.5, "max_tokens": 7}
    send(route(provider, server.url), Request("k", ("x",), settings=settings, schema=schema))
    sent = server.seen[0][2].decode()
    assert '"grade"' in sent and "0.5" in sent and re.search(r'max_(output_)?tokens": ?7', sent)


def test_token_chances(server):
    chances = [{"token": "4", "logprob": -0.1, "bytes": None,
                "top_logprobs": [{"token": "4", "logprob": -0.1, "bytes": None}]}]  # fmt: skip

    def script(handler, body):
        assert json.loads(body)["top_logprobs"] == 1
        made = answer("openai", MODELS["openai"], "4")
        made["choices"][0]["logprobs"] = {"content": chances}
        handler.reply(200, made)

    server.script = script
    reply = send(route("openai", server.url), Request("k", ("x",), top_logprobs=1))
    assert reply.logprobs[0].token == "4" and reply.logprobs[0].top == (("4", -0.1),)


def test_what_a_provider_does_not_know_is_said_and_not_dropped(server):
    error = error_of(route("anthropic", server.url), Request("k", ("x",), settings={"seed": 5}))
    assert error.kind == "bad_request" and "seed" in str(error)
    with pytest.raises(InputError, match="api_base"):
        send(route("anthropic", server.url), Request("k", ("x",), settings={"api_base": "http://evil.example"}))
    assert server.seen == []


STATUSES = [
    (400, "bad_request"), (401, "denied"), (402, "denied"), (403, "denied"), (404, "denied"), (408, "rate_limited"),
    (409, "bad_request"), (413, "bad_request"), (422, "bad_request"), (429, "rate_limited"), (500, "overloaded"),
    (502, "overloaded"), (503, "overloaded"), (529, "overloaded"), (204, "malformed"),
]  # fmt: skip


@EACH
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_every_status_is_one_attempt(provider, status, kind, server):
    body = {"error": {"message": f"no {KEYS[provider]}", "code": None, "type": None}} if status != 204 else b""
    server.script = lambda handler, _: handler.reply(status, body, {"retry-after": "7"})
    error = error_of(route(provider, server.url))
    assert (error.kind, error.status) == (kind, status)
    assert error.retry_after == (7.0 if status in (408, 429) or status >= 500 else None)
    assert len(server.seen) == 1


CODES = [
    ("azure", 400, {"error": {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "filtered"),
    ("openai", 400, {"error": {"code": "content_policy_violation", "message": "no"}}, "filtered"),
    ("openai", 429, {"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, "denied"),
    ("openai", 404, {"error": {"code": "model_not_found"}}, "denied"),
    ("gemini", 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}},
     "denied"),
    ("gemini", 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}, "bad_request"),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error",
                        "message": "Your credit balance is too low to access the API."}}, "denied"),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}, "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "status", "body", "kind"), CODES)
def test_codes_in_the_body(provider, status, body, kind, server):
    server.script = lambda handler, _: handler.reply(status, body)
    assert error_of(route(provider, server.url)).kind == kind
    assert len(server.seen) == 1


@EACH
@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("allowed", [(), (REMOTE,)], ids=["refused", "allowed"])
def test_redirects_are_never_followed(provider, status, allowed, server, other):
    """Not a byte reaches the second host, neither prompt nor key, even if the run may send there."""
    server.script = lambda handler, _: handler.reply(status, b"", {"location": other.url + handler.path})
    with guard.limited_to(allowed, loopback=HERE):
        error = error_of(route(provider, server.url))
    assert (error.kind, error.status) == ("not_allowed", status)
    assert (len(server.seen), other.seen) == (1, [])


@EACH
def test_a_host_that_the_run_did_not_name(provider, server, other):
    one = route(provider, other.url)
    error = error_of(one)
    assert error.kind == "not_allowed" and f"{REMOTE}:{other.server_port}" in str(error)
    assert other.seen == []
    with guard.limited_to([REMOTE], loopback=HERE):
        assert send(one).text == "A papule."


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_the_real_address_is_refused_without_a_look_up(provider):
    error = error_of(HostedRoute(f"{provider}/{MODELS[provider]}"))
    assert error.kind == "not_allowed" and "--allow-remote" in str(error)


@EACH
def test_a_way_of_its_own_is_closed_to_litellm(provider, server):
    """Handed no client, litellm opens connections itself: the guard refuses them, and nothing is sent."""
    one = route(provider, server.url)
    one._client = None
    error = error_of(one)
    assert error.kind == "not_allowed" and "cannot be guarded" in str(error)
    assert server.seen == []


@EACH
def test_a_native_client_is_found_out_with_a_stand_in(provider, server, monkeypatch):
    """A litellm that sends past our transport, as its client in Rust could, is handed neither text nor key."""
    one, handed = route(provider, server.url), []

    class Native:
        @staticmethod
        async def acompletion(client, **arguments):
            handed.append(repr(arguments))
            return "an answer"

    monkeypatch.setattr(one, "_litellm", Native)
    assert error_of(one).kind == "not_allowed"
    (given,) = handed
    assert "rehearsal" in given and "127.0.0.1:9" in given
    assert not any(word in given for word in (KEYS[provider], "Look at", "iVBO", "You judge"))


@pytest.mark.parametrize("again", [True, False], ids=["a second request", "another host"])
def test_one_request_to_one_host_is_all_that_is_carried(again, server, other, monkeypatch):
    one, rehearsed = route("anthropic", server.url), []

    class Busy:
        @staticmethod
        async def acompletion(client, **arguments):
            for url in [server.url] * 2 if again and rehearsed else [other.url if rehearsed else server.url]:
                rehearsed.append(url)
                await client.post(url=f"{url}/v1/messages", json={"model": MODELS["anthropic"]})

    monkeypatch.setattr(one, "_litellm", Busy)
    with guard.limited_to([REMOTE], loopback=HERE):
        assert error_of(one).kind == "not_allowed"
    assert (len(server.seen), other.seen) == (int(again), [])


def test_an_odd_field_is_not_quoted_in_a_warning(server, recwarn):
    made = answer("openai", MODELS["openai"], usage="Plant", service_tier=["Plant"])
    made["choices"][0]["message"] |= {"tool_calls": "Plant", "annotations": "Plant", "audio": "Plant"}
    server.script = lambda handler, _: handler.reply(200, made)
    assert send(route("openai", server.url)).text == "A papule."
    assert not any("Plant" in str(warning.message) for warning in recwarn)


@EACH
def test_variables_that_point_elsewhere(provider, server, other, monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL", "GEMINI_API_BASE",
                 "AZURE_API_BASE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "LITELLM_PROXY_API_BASE"):  # fmt: skip
        monkeypatch.setenv(name, other.url)
    one = route(provider, server.url)
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setattr(one._litellm, "api_base", other.url)
    with guard.limited_to([REMOTE], loopback=HERE):
        assert send(one).text == "A papule."
    assert (len(server.seen), other.seen) == (1, [])


@EACH
def test_a_proxy_that_was_named(provider, server, other):
    """It gets the request with the whole URL; its host and the target's must both be allowed."""
    target = "http://192.0.2.1:8080"  # reached by the proxy alone
    one = route(provider, target, proxy=other.url)
    for allowed in ([REMOTE], ["192.0.2.1"]):
        with guard.limited_to(allowed, loopback=HERE):
            assert error_of(one).kind == "not_allowed"
    assert other.seen == []
    with guard.limited_to([REMOTE, "192.0.2.1:8080"], loopback=HERE):
        assert send(one).text == "A papule."
    assert other.seen[0][0].startswith(target)


def hang(handler, _):
    time.sleep(1.5)


def drop(handler, _):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def trickle(handler, _):
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    for _ in range(15):
        handler.wfile.write(b" ")
        time.sleep(0.1)


NETWORK = [
    (hang, "timeout"), (trickle, "timeout"), (drop, "connection"),
    (lambda handler, _: handler.reply(200, answer("openai", "m"), cut=20), "connection"),
    (lambda handler, _: handler.wfile.write(b"\x00\x01 no HTTP at all\r\n\r\n"), "malformed"),
]  # fmt: skip


@EACH
@pytest.mark.parametrize(("script", "kind"), NETWORK, ids=["hang", "trickle", "drop", "cut", "no HTTP"])
def test_faults_of_the_network_are_one_attempt(provider, script, kind, server):
    server.script = script
    started = time.monotonic()
    error = error_of(route(provider, server.url, timeout=0.4 if kind == "timeout" else 5.0))
    assert error.kind == kind
    assert time.monotonic() - started < 1.4
    time.sleep(0.02)
    assert len(server.seen) == 1  # httpx clients of litellm send again after some of these


@EACH
def test_nobody_listens(provider):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        error = error_of(route(provider, f"http://127.0.0.1:{closed.getsockname()[1]}"))
    assert (error.kind, error.billed) == ("connection", False)


@EACH
@pytest.mark.parametrize(
    "body",
    [b"<html>busy</html>", b"", b"[]", b"null", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe", b"{}", b"[" * 9999,
     "cut", "empty", "none"],
    ids=str,
)  # fmt: skip
def test_200_with_no_answer(provider, body, server):
    def script(handler, _):
        whole = answer(provider, MODELS[provider])
        if body == "cut":
            handler.reply(200, json.dumps(whole).encode()[:-9])
        elif body == "none":
            handler.reply(200, answer(provider, MODELS[provider], None))
        else:
            handler.reply(200, {**whole, "choices": [], "content": [], "candidates": []} if body == "empty" else body)

    server.script = script
    assert error_of(route(provider, server.url)).kind == "malformed"
    assert len(server.seen) == 1


def test_filters_refusals_and_limits(server):
    def reply_of(provider, made):
        server.script = lambda handler, _: handler.reply(200, made)
        try:
            reply = send(route(provider, server.url))
            return reply.finish_reason, bool(reply.refusal)
        except CallError as error:
            return error.kind

    for provider, model in MODELS.items():
        assert reply_of(provider, answer(provider, model, "cut he", "length")) == ("length", False)
    for provider in ("openai", "azure"):
        model = MODELS[provider]
        assert reply_of(provider, answer(provider, model, "", "content_filter")) == "filtered"
        refused = answer(provider, model, None)
        refused["choices"][0]["message"]["refusal"] = "I cannot help."
        assert reply_of(provider, refused) == ("stop", True)
    assert reply_of("anthropic", answer("anthropic", MODELS["anthropic"], "I cannot", "refusal")) == ("refusal", True)
    assert reply_of("anthropic", answer("anthropic", MODELS["anthropic"], None, "refusal")) == ("refusal", True)
    for reason in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT"):
        assert reply_of("gemini", answer("gemini", MODELS["gemini"], None, reason)) == "filtered"
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": MODELS["gemini"], "usageMetadata": {}}
    assert reply_of("gemini", blocked) == "filtered"


@EACH
def test_another_model_answers(provider, server):
    server.script = lambda handler, _: handler.reply(200, answer(provider, "other-2025-01-01"))
    if provider == "azure":  # a deployment is called what its owner likes; the model behind it is kept
        assert send(route(provider, server.url)).model == "other-2025-01-01"
        assert error_of(route(provider, server.url, expect_model="gpt-4o-2024-08-06")).kind == "wrong_model"
    else:
        error = error_of(route(provider, server.url))
        assert error.kind == "wrong_model" and "other-2025-01-01" in str(error)
        assert send(route(provider, server.url, expect_model=None)).model == "other-2025-01-01"


def test_unknown_usage_is_none(server):
    for provider in ("openai", "azure"):
        made = answer(provider, MODELS[provider])
        del made["usage"]
        server.script = lambda handler, _, made=made: handler.reply(200, made)
        reply = send(route(provider, server.url))
        assert (reply.input_tokens, reply.output_tokens, reply.cost) == (None, None, None)


@pytest.mark.parametrize("name", ["gpt-4o-2024-08-06", "gpt-4-0613", "claude-3-5-sonnet-20241022", "gpt-3.5-turbo-1106",
                                  "gemini-1.5-pro-002", "gemini-2.5-pro-preview-05-06", "mistral-large-2411",
                                  "claude-sonnet-4-5@20250929", "anthropic.claude-3-haiku-20240307-v1:0",
                                  "ft:gpt-4o-2024-08-06:org::id"])  # fmt: skip
def test_names_of_fixed_versions(name):
    assert looks_dated(name)


@pytest.mark.parametrize("name", ["gpt-4o", "gpt-5.4", "claude-sonnet-4-5", "gemini-flash-latest", "o3", "grok-4",
                                  "chatgpt-4o-latest-2025-01-01", "llama-3.1-70b", "mixtral-8x7b-32768",
                                  "qwen2.5-vl-7b", "context-4096", "model-9999", "deepseek-chat"])  # fmt: skip
def test_names_that_may_move(name):
    assert not looks_dated(name)
    with pytest.raises(InputError, match="--allow-alias"):
        HostedRoute(f"openai/{name}")
    assert HostedRoute(f"openai/{name}", allow_alias=True).expect_model is None


@pytest.mark.parametrize("name", ["gpt-4o-2024-08-06", "x/gpt-4o-2024-08-06", "openai/", "", "bedrock/x-20240301"])
def test_routes_that_are_not_there(name):
    with pytest.raises(InputError, match=r"openai, anthropic, gemini, azure.*endpoint:"):
        HostedRoute(name)


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        HostedRoute("openai/gpt-4o-2024-08-06")
    with pytest.raises(InputError, match="AZURE_API_BASE"):
        HostedRoute("azure/deployment-20240806")
    with pytest.raises(InputError, match="keys are read from the environment"):
        route("anthropic", "http://secret@127.0.0.1:1")


def test_no_callbacks(server, monkeypatch):
    one = route("openai", server.url)
    for name in ("callbacks", "success_callback", "failure_callback", "input_callback"):
        with monkeypatch.context() as patch:
            patch.setattr(one._litellm, name, [lambda *_: None])
            assert error_of(one).kind == "not_allowed"
    assert server.seen == []


def test_tls_must_be_trusted(server, tmp_path):
    """A certificate of one's own is refused, and taken once it is named."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "c.pem",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
                   cwd=tmp_path, check=True, capture_output=True)  # fmt: skip
    with Server() as secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        url = secure.url.replace("http:", "https:")
        assert error_of(route("anthropic", url)).kind == "not_allowed"
        assert secure.seen == []
        assert send(route("anthropic", url, ca_file=str(tmp_path / "c.pem"))).text == "A papule."
        secure.shutdown()


def test_200_planted_tokens_on_every_error_path(server, monkeypatch, caplog, capfd, recwarn):
    """Keys, system text, narrative, picture, schema, bodies, headers of the provider: none comes out anywhere."""
    draw = random.Random(5)
    plants = [f"Plant{n:03d}{draw.getrandbits(48):012x}" for n in range(200)]
    key, words, echoes = plants[0], plants[1:150], plants[150:]
    for provider in PROVIDERS.values():
        monkeypatch.setenv(provider.keys[0], f"sk-{key}")
    picture = Picture(" ".join(words[100:]).encode(), "image/png", "0" * 64)
    schema = {"type": "object", "properties": {words[0]: {"type": "string", "description": words[1]}}}
    request = Request(words[2], (" ".join(words[3:50]), picture, " ".join(words[50:90])), " ".join(words[90:100]),
                      {"max_tokens": 9, "stop": [words[4]]}, schema)  # fmt: skip
    caplog.set_level(logging.DEBUG)
    said = [" ".join(echoes), f"Incorrect API key provided: sk-{key}", " ".join(words)]

    def echo(provider, status):
        error = {"message": said, "code": echoes[0], "type": echoes[1], "param": echoes[2], "sk": f"sk-{key}"}
        headers = {"x-request-id": echoes[3], "www-authenticate": f"Bearer {key}", "x-echo": " ".join(words[:20])}
        return lambda handler, _: handler.reply(status, {"type": "error", "error": error}, headers)

    def wrong(provider):
        made = answer(provider, f"model-sk-{key}", " ".join(echoes), echoes=echoes)
        return lambda handler, _: handler.reply(200, made)

    def garbage(handler, body):
        handler.reply(200, b"<html>" + body + " ".join(said).encode())

    def elsewhere(handler, _):
        handler.reply(307, b"", {"location": f"http://{key}.example/{echoes[0]}"})

    def odd(handler, _):
        handler.reply(200, {"choices": said, "content": said, "candidates": said})

    paths = []
    for provider in MODELS:
        url = server.url
        paths += [(provider, url, {}, echo(provider, status)) for status, _ in STATUSES if status != 204]
        paths += [(provider, url, {"timeout": 0.3}, script) for script, kind in NETWORK if kind != "timeout"]
        paths += [(provider, url, {"timeout": 0.2}, hang), (provider, url, {}, garbage),
                  (provider, url, {"expect_model": "m-2024-01-01"}, wrong(provider)),
                  (provider, url, {}, elsewhere), (provider, url, {}, odd),
                  (provider, f"http://{REMOTE}:9", {}, well), (provider, "http://127.0.0.1:9", {}, well)]  # fmt: skip
    kinds, shown = [], []
    for provider, url, options, script in paths:
        server.script = script
        error = error_of(route(provider, url, **options), request)
        assert error.__context__ is None and error.__cause__ is None
        kinds.append(error.kind)
        shown += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    assert len(paths) == 96
    assert set(kinds) == {"bad_request", "denied", "rate_limited", "overloaded", "timeout", "connection", "malformed",
                          "wrong_model", "not_allowed"}  # fmt: skip
    one = route("gemini", server.url)
    shown += [caplog.text, *capfd.readouterr(), repr(one), str(vars(one))]
    everything = "\n".join(shown + [str(warning.message) for warning in recwarn])
    assert [plant for plant in plants if plant in everything] == []
    assert "sk-" not in everything


@pytest.mark.slow
def test_in_an_empty_network_namespace(tmp_path):
    """Nothing but loopback is there, and all four routes answer: no price map, beta list or update is fetched."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("unshare -rn (user and network namespaces) is not to be had here")
    code = """
import fcntl, socket, struct, sys
with socket.socket() as one:  # loopback up: SIOCSIFFLAGS with IFF_UP | IFF_RUNNING
    fcntl.ioctl(one, 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1], "-k", "test_one_answer or redirects or planted"]))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(["unshare", "-rn", sys.executable, "-c", code, __file__], capture_output=True, text=True,
                          env=environment, timeout=120, cwd=os.path.dirname(__file__))  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "29 passed" in done.stdout, done.stdout[-500:]
