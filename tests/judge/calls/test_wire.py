"""The OpenAI format without a network: what is sent, what is read, what is refused, and that nothing is echoed."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.calls.chat import CallError, Picture, Request, TokenChance
from dermjudge.judge.calls.wire import body, failure, read_reply
from dermjudge.judge.errors import InputError

PICTURE = Picture(b"\xff\xd8jpeg", "image/jpeg", "d1")
TEXTS = st.text(st.characters(codec=None), max_size=30)


def sent(request):
    pieces = body(request, "m", lambda picture: base64.b64encode(picture.data))
    return json.loads(b"".join(pieces))


@given(st.lists(st.one_of(TEXTS, st.just(PICTURE)), min_size=1, max_size=6), TEXTS)
def test_a_request_is_the_json_that_openai_describes(content, system):
    url = "data:image/jpeg;base64," + base64.b64encode(PICTURE.data).decode()
    shown = {"type": "image_url", "image_url": {"url": url}}
    parts = [{"type": "text", "text": part} if isinstance(part, str) else shown for part in content]
    plain = content[0] if len(content) == 1 and isinstance(content[0], str) else parts
    expected = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": plain}]
    assert sent(Request("k", tuple(content), system)) == {"model": "m", "messages": expected}


def test_settings_schema_and_probabilities():
    settings = MappingProxyType({"temperature": 0.0, "max_tokens": 9, "stop": ["\n"], "seed": 3})
    schema = MappingProxyType({"type": "object", "properties": MappingProxyType({"a": {"type": "integer"}})})
    found = sent(Request("k", ("x",), settings=settings, schema=schema, top_logprobs=5))
    shape = {"name": "answer", "strict": True, "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    assert found == {
        "model": "m", "temperature": 0.0, "max_tokens": 9, "stop": ["\n"], "seed": 3, "logprobs": True,
        "top_logprobs": 5, "response_format": {"type": "json_schema", "json_schema": shape},
        "messages": [{"role": "user", "content": "x"}],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n", "response_format", "logprobs"])
def test_settings_that_the_route_sets_are_refused(name):
    with pytest.raises(InputError, match=f"may not hold {name}"):
        sent(Request("k", ("x",), settings={name: 1}))


def test_the_text_of_a_picture_is_not_copied():
    text = base64.b64encode(PICTURE.data)
    assert sum(piece is text for piece in body(Request("k", (PICTURE, "a", PICTURE)), "m", lambda _: text)) == 2


def answer(message=None, **rest):
    choice = {"index": 0, "message": message or {"role": "assistant", "content": "Fine."}, "finish_reason": "stop"}
    choice |= {name: rest.pop(name) for name in ("finish_reason", "logprobs") if name in rest}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return {"model": "m-1", "system_fingerprint": "fp", "choices": [choice], "usage": usage, **rest}


def read(value):
    return read_reply(value if isinstance(value, bytes) else json.dumps(value).encode(), 1.5)


def test_a_reply_with_all_there_is():
    reply = read(answer({"content": "Fine.", "reasoning_content": "Hm", "refusal": None}))
    assert (reply.text, reply.finish_reason, reply.refusal, reply.reasoning) == ("Fine.", "stop", "", "Hm")
    assert (reply.model, reply.fingerprint, reply.input_tokens, reply.output_tokens) == ("m-1", "fp", 7, 3)
    assert (reply.logprobs, reply.cost, reply.seconds) == (None, None, 1.5)
    assert read(answer({"content": "x", "reasoning": "Hm"})).reasoning == "Hm"
    assert read(answer({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})).text == "ab"
    assert read(answer({"content": ""})).text == ""  # empty, but an answer: the reader of answers gives it its state


def test_refusals_and_answers_that_were_cut_are_replies():
    reply = read(answer({"content": None, "refusal": "No."}))
    assert (reply.text, reply.refusal) == ("", "No.")
    assert read(answer({"content": None}, finish_reason="length")).finish_reason == "length"
    assert read(answer({"content": "Fi"}, finish_reason="length")).text == "Fi"


def test_tokens_that_are_not_told_are_unknown():
    for usage in (None, {}, [], {"prompt_tokens": "7"}, {"prompt_tokens": True}, {"prompt_tokens": -1}):
        assert read(answer(usage=usage)).input_tokens is None


def test_probabilities_of_tokens():
    top = [{"token": "4", "logprob": -0.25}, {"token": "3", "logprob": -9999.0}]
    reply = read(answer(logprobs={"content": [{"token": "4", "logprob": -0.25, "top_logprobs": top}]}))
    assert reply.logprobs == (TokenChance("4", -0.25, (("4", -0.25), ("3", -9999.0))),)
    assert read(answer(logprobs={"content": [{"token": "4", "logprob": 0}]})).logprobs == (TokenChance("4", 0.0),)
    assert read(answer(logprobs=None)).logprobs is None


def chances(entry):
    return answer(logprobs={"content": [entry]})


WHOLE = json.dumps(answer()).encode()
NO_ANSWER = {
    "html": b"<html>",
    "prose": b"Try again",
    "nothing": b"",
    "cut": WHOLE[:-1],
    "more": WHOLE + b"{}",
    "latin": WHOLE.replace(b"Fine", b"F\xefne"),
    "list": b"[]",
    "nan": WHOLE.replace(b'"prompt_tokens": 7', b'"prompt_tokens": NaN'),
    "twice": WHOLE.replace(b'"choices": ', b'"choices": [], "choices": '),
    "deep": b"[" * 100_000,
    "long number": b'{"a": ' + b"9" * 5000 + b"}",
    "no choices": answer(choices=[]),
    "choices null": answer(choices=None),
    "no message": answer(choices=[{"text": "Fine."}]),
    "odd finish": answer(finish_reason=3),
    "null": answer({"content": None}),
    "empty refusal": answer({"content": None, "refusal": ""}),
    "tool": answer({"content": None, "tool_calls": [{}]}, finish_reason="tool_calls"),
    "number": answer({"content": 4}),
    "picture": answer({"content": [{"type": "image_url"}]}),
    "error": {"error": {"message": "KEY-123", "code": 429}},
    "above 0": chances({"token": "4", "logprob": 0.5}),
    "infinite": WHOLE.replace(b'"finish', b'"logprobs": {"content": [{"token": "4", "logprob": -1e999}]}, "finish'),
    "no token": chances({"logprob": -1.0}),
    "words": chances({"token": "4", "logprob": "-1"}),
    "odd top": chances({"token": "4", "logprob": -1.0, "top_logprobs": [3]}),
    "text": chances("4"),
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_what_is_no_answer(name):
    with pytest.raises(CallError) as caught:
        read(NO_ANSWER[name])
    assert (caught.value.kind, caught.value.status) == ("malformed", 200)
    assert "KEY-123" not in str(caught.value) and "Try again" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_no_cut_answer_is_read(cut):
    with pytest.raises(CallError):
        read(WHOLE[:cut])


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                        ["choices", "message", "content", "usage", "logprobs", "finish_reason", "token", "error"]),
                        inner, max_size=4), max_leaves=20))  # fmt: skip
def test_any_json_is_a_reply_or_a_typed_error(value):
    for data in (value, answer(value if isinstance(value, dict) else {"content": value}), answer(logprobs=value)):
        with suppress(CallError):
            read(json.dumps(data).encode())


@given(st.binary(max_size=100))
def test_any_bytes_are_typed(data):
    with pytest.raises(CallError):
        read(data)
    assert failure(400, {}, data).kind == "bad_request"


def test_a_filter_that_spoke():
    with pytest.raises(CallError) as caught:
        read(answer({"content": ""}, finish_reason="content_filter"))
    assert caught.value.kind == "filtered"
    assert caught.value.billed


def error_body(**error):
    return json.dumps({"error": {"message": "SECRET", **error}}).encode()


@pytest.mark.parametrize(
    ("status", "data", "kind"),
    [
        *((status, b"", "not_allowed") for status in (300, 301, 302, 303, 307, 308)),
        *((status, b"", "denied") for status in (401, 402, 403, 404, 405, 407)),
        *((status, b"", "bad_request") for status in (400, 406, 409, 410, 411, 413, 415, 422, 425, 431, 451)),
        *((status, b"", "rate_limited") for status in (408, 429)),
        *((status, b"", "overloaded") for status in (500, 501, 502, 503, 504, 520, 529)),
        *((status, b"", "malformed") for status in (201, 202, 204, 206)),
        (400, error_body(code="content_filter"), "filtered"),
        (400, error_body(innererror={"code": "ResponsibleAIPolicyViolation"}), "filtered"),
        (403, error_body(code="content_policy_violation"), "filtered"),
        (400, error_body(code="model_not_found"), "denied"),
        (429, error_body(type="insufficient_quota"), "denied"),
        (400, error_body(code=7), "bad_request"),
        (400, b'{"error": "text"}', "bad_request"),
        (400, b"[1]", "bad_request"),
    ],
)
def test_every_status_has_its_kind(status, data, kind):
    error = failure(status, {"Retry-After": "3"}, data)
    assert (error.kind, error.status) == (kind, status)
    assert error.retry_after == (3.0 if kind in ("rate_limited", "overloaded") else None)
    assert str(status) in str(error) and "SECRET" not in str(error)
