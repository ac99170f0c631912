"""The endpoint route against a real server on loopback that fails in every way: kinds, limits, keys, redirects."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
import traceback

import pytest

pytest.importorskip("aiohttp")

from dermjudge.judge.calls import guard
from dermjudge.judge.calls.chat import CallError, Picture, Request
from dermjudge.judge.calls.endpoint import EndpointRoute, Timeouts
from dermjudge.judge.errors import InputError
from tests.fault_server import FaultServer

KEY = "sk-PLANTED-KEY-0123456789"
WORDS = "PLANTED-NARRATIVE of Jane"
REQUEST = Request("k", (f"item=a {WORDS}", Picture(b"PLANTED-PIXELS", "image/jpeg", "d")), "PLANTED-SYSTEM")
QUICK = Timeouts(connect=2.0, read=0.3, total=0.6)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("DERMJUDGE_API_KEY", KEY)
    with guard.limited_to():
        yield


def ask(route, request=REQUEST, times=1):
    async def main():
        try:
            return [await route.send(request) for _ in range(times)]
        finally:
            await route.close()

    return asyncio.run(main())


def error_of(mode, **options):
    """The error for a mode of the server, and what the server logged."""
    with FaultServer(sticky={"*": mode}) as server:
        route = EndpointRoute(server.url, "tiny", timeouts=QUICK, **options)
        with pytest.raises(CallError) as caught:
            ask(route)
    return caught.value, server.log


def test_a_call_and_what_the_server_gets():
    with FaultServer(key=KEY) as server:
        server.bodies = []
        route = EndpointRoute(server.url + "/", "tiny")
        (reply,) = ask(route)
    assert reply.text.startswith("Narrative ") and reply.model == "tiny" and reply.fingerprint == "fp_1"
    assert reply.input_tokens > 0 and reply.output_tokens > 0 and reply.cost is None and 0 < reply.seconds < 5
    (body,) = server.bodies
    assert json.loads(body)["messages"][0] == {"role": "system", "content": "PLANTED-SYSTEM"}
    assert len(server.log) == 1
    assert route.name == f"endpoint:{server.url}#tiny"


def test_probabilities_and_no_key_where_none_is_set(monkeypatch):
    monkeypatch.delenv("DERMJUDGE_API_KEY")
    with FaultServer(sticky={"b": "401"}) as server:
        route = EndpointRoute(server.url, "tiny")
        (reply,) = ask(route, Request("k", ("item=a",), top_logprobs=2))
        assert "".join(one.token for one in reply.logprobs) == reply.text
        assert all(len(one.top) == 2 for one in reply.logprobs)
        with pytest.raises(CallError, match="key is missing or not accepted"):
            ask(route, Request("k", ("item=b",)))


KINDS = {
    "400": "bad_request", "401": "denied", "402": "denied", "403": "denied", "404": "denied", "405": "denied",
    "408": "rate_limited", "413": "bad_request", "422": "bad_request", "429": "rate_limited", "500": "overloaded",
    "502": "overloaded", "503": "overloaded", "504": "overloaded", "529": "overloaded", "quota": "denied",
    "malformed": "malformed", "prose": "malformed", "html": "malformed", "empty": "malformed", "null": "malformed",
    "nan": "malformed", "twice": "malformed", "deep": "malformed", "huge": "malformed", "latin": "malformed",
    "list": "malformed", "no_http": "malformed", "drop": "connection", "cut": "connection", "stall": "timeout",
    "trickle": "timeout", "wrong_model": "wrong_model", "no_model": "wrong_model", "redirect": "not_allowed",
    "filter_400": "filtered", "filter_200": "filtered",
}  # fmt: skip


@pytest.mark.parametrize("mode", KINDS)
def test_every_fault_has_its_kind_in_one_attempt_and_nothing_leaks(mode, caplog):
    caplog.set_level(logging.DEBUG)
    error, log = error_of(mode)
    assert error.kind == KINDS[mode]
    assert [line["path"] for line in log] == ["/v1/chat/completions"]  # one attempt, no redirect followed
    assert error.__cause__ is None and error.__context__ is None
    shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text + repr(vars(error))
    assert "PLANTED" not in shown and "127.0.0.1" not in str(error)
    assert error.billed == (error.kind in ("malformed", "connection", "timeout", "wrong_model", "filtered"))
    assert error.retry_after == (1.0 if mode in ("429", "503", "529") else None)


@pytest.mark.parametrize(("mode", "finish"), [("refusal", "stop"), ("truncated", "length"), ("thinking", "length")])
def test_refused_and_cut_answers_are_replies(mode, finish):
    with FaultServer(sticky={"*": mode}) as server:
        (reply,) = ask(EndpointRoute(server.url, "tiny"))
    assert reply.finish_reason == finish
    assert bool(reply.refusal) == (mode == "refusal")
    assert bool(reply.reasoning) == (mode == "thinking")


@pytest.mark.parametrize(("mode", "limits"), [("stall", (2, 0.3, 9)), ("stall", (2, 9, 0.3)), ("trickle", (2, 9, 0.4))])
def test_limits_of_time_hold(mode, limits):
    with FaultServer(sticky={"*": mode}) as server:
        start = time.monotonic()
        with pytest.raises(CallError) as caught:
            ask(EndpointRoute(server.url, "tiny", timeouts=Timeouts(*limits)))
    assert caught.value.kind == "timeout"
    assert time.monotonic() - start < 1.3


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CallError, match="cannot be reached") as caught:
        ask(EndpointRoute(f"http://127.0.0.1:{port}/v1", "tiny"))
    assert (caught.value.kind, caught.value.billed) == ("connection", False)


def test_a_server_without_tls():
    with FaultServer() as server, pytest.raises(CallError, match="certificate") as caught:
        ask(EndpointRoute(server.url.replace("http:", "https:"), "tiny"))
    assert caught.value.kind == "not_allowed"
    assert server.log == []


def test_what_the_model_may_be_called():
    for served, given, fits in (
        ("tiny", {}, True), ("tiny@main", {}, True), ("tiny-2026-01-01", {}, False), ("Tiny", {}, False),
        ("tiny@", {}, False), ("org/tiny", {}, False), ("org/tiny", {"expect_model": "org/tiny"}, True),
        ("tiny", {"expect_model": "org/tiny"}, False), ("anything", {"expect_model": None}, True),
    ):  # fmt: skip
        with FaultServer(model=served) as server:
            route = EndpointRoute(server.url, "tiny", **given)
            if fits:
                assert ask(route)[0].model == served
            else:
                with pytest.raises(CallError, match="answered; expect_model") as caught:
                    ask(route)
                assert caught.value.kind == "wrong_model" and f"but {served} " in str(caught.value)


@pytest.mark.parametrize("served", [KEY, f"x-{KEY}", "<b>", "a b", "\u202egpt", "x" * 200])
def test_a_servers_word_that_cannot_be_shown(served):
    with FaultServer(model=served) as server, pytest.raises(CallError) as caught:
        ask(EndpointRoute(server.url, "tiny"))
    assert str(caught.value) == "asked for tiny, but another model answered; expect_model names what is meant to"


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer() as server:
        assert ask(EndpointRoute(server.url, "tiny"))


def test_a_proxy_that_is_named_is_used():
    seen = []

    def proxy(listening):
        connection, _ = listening.accept()
        with connection:
            seen.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=proxy, args=(listening,))
        thread.start()
        way = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(CallError, match="HTTP 503"):
            ask(EndpointRoute("http://localhost:1/v1", "tiny", proxy=way))
        thread.join(5)
    assert seen[0].startswith(b"POST http://localhost:1/v1/chat/completions HTTP/1.1")
    with pytest.raises(InputError, match=r"may not reach proxy\.example"):
        EndpointRoute("http://localhost:1/v1", "tiny", proxy="http://proxy.example:8080")


def test_hosts_that_were_not_named_are_refused_and_named_ones_need_a_key(monkeypatch):
    with pytest.raises(InputError, match=r"may not reach gpu-box\.example"):
        EndpointRoute("http://gpu-box.example:8000/v1", "tiny")
    with guard.limited_to(["gpu-box.example"]):
        route = EndpointRoute("http://gpu-box.example:8000/v1", "tiny")
        monkeypatch.delenv("DERMJUDGE_API_KEY")
        with pytest.raises(InputError, match="environment variable DERMJUDGE_API_KEY holds no key"):
            EndpointRoute("http://gpu-box.example:8000/v1", "tiny")
        EndpointRoute("http://gpu-box.example:8000/v1", "tiny", key_env=None)
    with pytest.raises(CallError) as caught:  # the rules have changed since
        ask(route)
    assert caught.value.kind == "not_allowed"


@pytest.mark.parametrize("key", ["sk PLANTED", "sk\nPLANTED", "sk-PLANTÉD", "sk\u200bPLANTED"])
def test_a_key_that_is_none_is_not_shown(monkeypatch, key):
    monkeypatch.setenv("OTHER", key)
    with pytest.raises(InputError, match="OTHER") as caught:
        EndpointRoute("http://localhost:1/v1", "tiny", key_env="OTHER")
    assert "PLANT" not in str(caught.value)


def test_the_key_stands_in_nothing_that_is_shown():
    route = EndpointRoute("http://localhost:1/v1", "tiny")
    assert KEY not in repr(route) + route.name + str(route.signature)


@pytest.mark.parametrize(
    ("url", "model", "options"),
    [("localhost:8000", "m", {}), ("ftp://localhost/v1", "m", {}), (f"http://{KEY}@localhost/v1", "m", {}),
     ("http://localhost/v1", "", {}), ("http://localhost/v1", "a\nb", {}),
     ("http://localhost/v1", "m", {"timeouts": Timeouts(0, 1, 1)}),
     ("https://localhost/v1", "m", {"ca_file": "/nowhere.pem"}), ("https://localhost/v1", "m", {"ca_file": __file__})],
)  # fmt: skip
def test_what_cannot_be_a_route(url, model, options):
    with pytest.raises(InputError) as caught:
        EndpointRoute(url, model, **options)
    assert KEY not in str(caught.value)


def test_connections_are_used_again_and_a_closed_route_opens_anew():
    with FaultServer() as server:
        route = EndpointRoute(server.url, "tiny")
        for _ in range(2):  # two event loops
            ask(route, times=3)
    peers = [line["peer"] for line in server.log]
    assert peers[0] == peers[1] == peers[2] != peers[3] == peers[4] == peers[5]


def test_many_at_once_and_one_text_of_each_picture():
    pictures = [Picture(bytes([k]) * 1000, "image/jpeg", f"d{k}") for k in range(3)]
    with FaultServer(latency=0.05) as server:
        route = EndpointRoute(server.url, "tiny")

        async def main():
            calls = (route.send(Request("k", (f"item=k{k}", pictures[k % 3]))) for k in range(60))
            replies = await asyncio.gather(*calls)
            await route.close()
            return replies

        replies = asyncio.run(main())
    assert [reply.text.split()[3] for reply in replies] == [f"k{k}:" for k in range(60)]
    assert server.most_in_flight > 20
    assert route._base64.size == 3 * len(route._encoded(pictures[0]))
