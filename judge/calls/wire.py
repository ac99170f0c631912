"""The OpenAI chat format, strictly: a request as bytes to send, a response as a Reply or a typed error. No network.

What a server writes never goes into a message: it may echo the key or the patient's text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from ..errors import InputError
from .chat import CallError, Picture, Reply, Request, TokenChance
from .retry import retry_after

OURS = ("model", "messages", "stream", "n", "logprobs", "top_logprobs", "response_format")
_FILTER = ("content_filter", "responsibleaipolicyviolation", "content_policy_violation", "moderation_blocked")
_END = ("model_not_found", "insufficient_quota", "billing_hard_limit_reached", "invalid_api_key", "billing_not_active")


def body(request: Request, model: str, base64_of: Callable[[Picture], bytes]) -> list[bytes]:
    """The JSON of a request in pieces, so that the text of a picture is never copied.

    A schema is sent as `response_format`, a text alone as a plain string. InputError for settings that are ours to set.
    """
    if wrong := [name for name in request.settings if name in OURS]:
        raise InputError(f"settings of a request may not hold {', '.join(wrong)}: the route sets them")
    head: dict[str, Any] = {"model": model, **request.settings}
    if request.top_logprobs:
        head |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema is not None:
        shape = {"name": "answer", "strict": True, "schema": request.schema}
        head["response_format"] = {"type": "json_schema", "json_schema": shape}
    messages = [{"role": "system", "content": request.system}] if request.system else []
    text = json.dumps({**head, "messages": messages}, allow_nan=False, default=dict)[:-2]  # without its "]}"
    text += f'{", " if messages else ""}{{"role": "user", "content": '
    if len(request.content) == 1 and isinstance(request.content[0], str):
        return [f"{text}{json.dumps(request.content[0])}}}]}}".encode("ascii")]
    pieces, sign = [], "["
    for part in request.content:
        if isinstance(part, Picture):
            url = f'{{"type": "image_url", "image_url": {{"url": "data:{part.media_type};base64,'
            pieces += [f"{text}{sign}{url}".encode("ascii"), base64_of(part)]
            text = '"}}'
        else:
            text += f'{sign}{{"type": "text", "text": {json.dumps(part)}}}'
        sign = ", "
    return [*pieces, f"{text}]}}]}}".encode("ascii")]


def read_reply(data: bytes, seconds: float = 0.0) -> Reply:
    """The reply in the body of a 200; CallError "malformed" for what is no answer, "filtered" if a filter spoke.

    Duplicate names, NaN, bytes that are not UTF-8, no choices, no content without a refusal: malformed. An answer cut
    by its length limit is a reply, and says so in `finish_reason`.
    """
    answer = _object(data)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _malformed("it holds no choices")
    choice = choices[0]
    message, finish = choice.get("message"), choice.get("finish_reason")
    if not isinstance(message, dict) or not isinstance(finish, str | None):
        raise _malformed("its choice holds no message")
    if finish == "content_filter":
        raise CallError("filtered", "HTTP 200: the provider's content filter stopped the answer", status=200)
    text, refusal = _text(message.get("content")), message.get("refusal")
    refusal = refusal if isinstance(refusal, str) else ""
    if text is None:
        if not refusal and finish != "length":  # a model may spend all its tokens on reasoning
            raise _malformed("its message holds no text and no refusal")
        text = ""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        text,
        finish or "",
        refusal,
        next((r for name in ("reasoning_content", "reasoning") if isinstance(r := message.get(name), str)), ""),
        answer["model"] if isinstance(answer.get("model"), str) else "",
        answer["system_fingerprint"] if isinstance(answer.get("system_fingerprint"), str) else "",
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _chances(choice.get("logprobs")),
        seconds=seconds,
    )


def failure(status: int, headers: Mapping[str, str], data: bytes = b"") -> CallError:
    """The error of a response that is no 200, by its status and the codes in its body.

    >>> error = failure(429, {"Retry-After": "2"})
    >>> error.kind, error.retry_after, str(error)
    ('rate_limited', 2.0, 'HTTP 429: too many requests')
    """
    codes = set(_codes(data))
    if 300 <= status < 400:
        text = "the server names another address, and redirects are not followed; give the final URL"
        return CallError("not_allowed", f"HTTP {status}: {text}", status=status)
    if codes.intersection(_FILTER):
        return CallError("filtered", f"HTTP {status}: the provider's content filter refused the request", status=status)
    if status in (401, 407):
        return CallError("denied", f"HTTP {status}: the key is missing or not accepted", status=status)
    if status in (402, 403, 404, 405) or codes.intersection(_END):
        text = {402: "the account has no credit left", 403: "the account may not do this"}.get(
            status, "no such model or address on this server, or the account's quota is used up"
        )
        return CallError("denied", f"HTTP {status}: {text}", status=status)
    wait = retry_after(headers)
    if status in (408, 429):
        text = "too many requests" if status == 429 else "the server gave up waiting"
        return CallError("rate_limited", f"HTTP {status}: {text}", status=status, retry_after=wait)
    if status >= 500:
        return CallError("overloaded", f"HTTP {status}: the server failed", status=status, retry_after=wait)
    if status < 300:
        return CallError("malformed", f"HTTP {status} is no answer", status=status)
    return CallError("bad_request", f"HTTP {status}: the server does not take this request", status=status)


def _malformed(why: str) -> CallError:
    return CallError("malformed", f"HTTP 200, but the body is no answer: {why}", status=200)


def _object(data: bytes) -> dict[str, Any]:
    value = None
    with suppress(ValueError, RecursionError):
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    if not isinstance(value, dict):  # raised out here: those errors hold the body, and would hang on this one
        html = data.lstrip()[:1] == b"<"
        raise _malformed("it is HTML" if html else f"its {len(data)} bytes are no strict JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError
    return value


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _text(content: Any) -> str | None:
    """Text, or a list of text parts as some servers write it; None if there is none."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list) and content and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        texts = [part.get("text") for part in content]
        if all(isinstance(text, str) for text in texts):
            return "".join(texts)
    raise _malformed("its content is no text")


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _chances(logprobs: Any) -> tuple[TokenChance, ...] | None:
    if not isinstance(logprobs, dict) or not isinstance(entries := logprobs.get("content"), list):
        return None
    with suppress(TypeError, KeyError, AttributeError, ValueError):
        return tuple(
            TokenChance(*_chance(entry), tuple(_chance(other) for other in entry.get("top_logprobs") or ()))
            for entry in entries
        )
    raise _malformed("its token probabilities cannot be read")


def _chance(entry: dict[str, Any]) -> tuple[str, float]:
    token, value = entry["token"], entry["logprob"]
    if not isinstance(token, str) or isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not math.isfinite(value) or value > 1e-3:  # rounding may lift a certain token just above 0
        raise ValueError
    return token, float(value)


def _codes(data: bytes) -> Iterator[str]:
    """The codes of an error body: error.code, error.type and, as Azure writes it, error.innererror.code."""
    try:
        error = json.loads(data).get("error")
        for place in (error, error.get("innererror") or {}):
            yield from (word.lower() for name in ("code", "type") if isinstance(word := place.get(name), str))
    except (ValueError, AttributeError, RecursionError):
        return
