"""`litellm:` routes: providers whose form of request litellm knows, over a transport of ours that it cannot leave.

litellm translates, it does not send: one call is one HTTP request through the transport of carrier.py, which checks the
host, follows no redirect and reads no proxy variable. What went wrong is read from the response, never from the text of
an exception, which may hold keys.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import SecretStr

from ..errors import InputError, MissingExtra
from ..escape import visible
from . import guard
from .carrier import Attempt, Path, current, transport
from .chat import CallError, Picture, Reply, Request, TokenChance
from .prices import Price, hosted_price

_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore")  # they write prompts and keys
_CALLBACKS = ("callbacks", "success_callback", "failure_callback", "input_callback")
_SETTINGS = {"temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "stop", "logit_bias",
             "frequency_penalty", "presence_penalty", "reasoning_effort", "thinking", "verbosity"}  # fmt: skip
_VARIES = {"messages", "seed", "max_tokens", "api_key", "response_format"}  # between requests of one kind
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}")
_BLOCKED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "LANGUAGE"}


class _Provider(NamedTuple):
    base_url: str  # "": has none of its own
    keys: tuple[str, ...]  # environment variables, the first that is set counts


PROVIDERS: Mapping[str, _Provider] = {
    "openai": _Provider("https://api.openai.com/v1", ("OPENAI_API_KEY",)),
    "anthropic": _Provider("https://api.anthropic.com", ("ANTHROPIC_API_KEY",)),
    "gemini": _Provider("https://generativelanguage.googleapis.com/v1beta", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "azure": _Provider("", ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY")),
}


class HostedRoute:
    """`litellm:provider/model`: one attempt over the real litellm package; see `Route` in chat.py.

    `timeout`: seconds for the whole attempt. `proxy`: an http URL whose host must be allowed as well. `base_url`: in
    place of the provider's (azure has none; AZURE_API_BASE may name it). `ca_file`: certificates (PEM) to trust.
    A model without a date or version is refused unless `allow_alias`. `expect_model`: what the provider must call the
    model in its answers, by default `model` if it is dated; None takes any. The key comes from the provider's variable.
    InputError for what a person can put right. Wakes the guard; the host is checked whenever something is sent.
    """

    def __init__(self, model: str, *, timeout: float = 120.0, proxy: str | None = None, allow_alias: bool = False,
                 base_url: str | None = None, expect_model: str | None = "",
                 ca_file: str | None = None, price: Price | None = None):  # fmt: skip
        provider, slash, bare = model.partition("/")
        if not slash or not bare or provider not in PROVIDERS:
            raise InputError(
                f"'litellm:{visible(model)}': the form is litellm:provider/model with a provider of "
                f"{', '.join(PROVIDERS)}; others are reached as endpoint:URL#MODEL if they speak OpenAI's language"
            )
        if not allow_alias and not looks_dated(bare):
            raise InputError(
                f"'{visible(bare)}' names no fixed version, so its answers may change from one day to the next; name a "
                f"dated one (as in gpt-4o-2024-08-06) or pass --allow-alias"
            )
        address = base_url or (os.environ.get("AZURE_API_BASE") if provider == "azure" else "")
        self.base_url = (address or PROVIDERS[provider].base_url).rstrip("/")
        if not self.base_url:
            raise InputError(f"{provider} has no address of its own; name it with --base-url or AZURE_API_BASE")
        self.model, self.provider = bare, provider
        self.host = guard.url_host(self.base_url)
        self.proxy, self.timeout = proxy, timeout
        named_freely = provider == "azure" or not looks_dated(bare)  # a deployment is called what its owner likes
        self.expect_model = (None if named_freely else bare) if expect_model == "" else expect_model
        self._key = _key(provider)
        self._api_version = os.environ.get("AZURE_API_VERSION") or "2024-10-21"
        self._litellm = _open_litellm()
        tls, openai = self.base_url.startswith("https:"), provider in ("openai", "azure")
        self._transport = transport(Path(self.host, timeout, proxy, ca_file, tls, openai))
        self._client = _client(self)
        self._rehearsed: set[str] = set()
        self.price = price or hosted_price(model)

    @property
    def name(self) -> str:
        return f"litellm:{self.provider}/{self.model}"

    @property
    def signature(self) -> Mapping[str, Any]:
        return {"route": "litellm", "provider": self.provider, "model": self.model, "expect_model": self.expect_model}

    async def send(self, request: Request) -> Reply:
        """One attempt. Raises CallError, whose message holds neither key nor text nor what the provider wrote."""
        arguments = self._arguments(request)
        problem = self._not_allowed() or await self._rehearse(arguments)
        if problem is None:
            attempt, started = Attempt(), time.monotonic()
            answer, failed = await self._call(attempt, arguments)
            problem = attempt.error or self._unanswered(attempt, failed, arguments)
            if problem is None:
                try:
                    return self._reply(attempt, answer, time.monotonic() - started)
                except CallError as error:
                    problem = error
                except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                    problem = CallError("malformed", "HTTP 200, but the answer has an unknown form", status=200)
        raise problem  # here and not above, so that no foreign exception hangs on it

    async def close(self) -> None:
        """Close the connections; the route can be used again."""
        await self._transport.aclose()

    def _not_allowed(self) -> CallError | None:
        try:
            for url in filter(None, (self.base_url, self.proxy)):
                guard.check_url(url)
        except guard.NotAllowed as error:
            return CallError("not_allowed", str(error))
        if any(hook != "cache" for name in _CALLBACKS for hook in getattr(self._litellm, name, None) or ()):
            return CallError("not_allowed", "litellm has callbacks set, which would see the texts; unset them")
        return None

    async def _call(self, attempt: Attempt, arguments: Mapping[str, Any]) -> tuple[Any, Exception | None]:
        token = current.set(attempt)
        try:
            with guard.held():
                return await self._litellm.acompletion(client=self._client, **arguments), None
        except Exception as error:  # litellm's, the SDKs' and any other: of their words none is kept
            return None, error
        finally:
            current.reset(token)

    async def _rehearse(self, arguments: Mapping[str, Any]) -> CallError | None:
        """Before a text is handed over: does this litellm send such a request by our transport and no other?

        It has a native client as well, which no hook of Python sees. So it first gets a request of the same kind with a
        word for a text, no key and an address where nobody listens; the transport must see it, and stops it.
        """
        kind = str(sorted((name, value) for name, value in arguments.items() if name not in _VARIES))
        if kind in self._rehearsed:
            return None
        attempt = Attempt(rehearsal=True)
        messages = [{"role": one["role"], "content": "rehearsal"} for one in arguments["messages"]]
        stand_in = {"messages": messages, "api_key": "none", "api_base": "http://127.0.0.1:9"}
        _, error = await self._call(attempt, {**arguments, **stand_in})
        if attempt.requests != 1:
            return self._unanswered(attempt, error, arguments)
        self._rehearsed.add(kind)
        return None

    def _unanswered(self, attempt: Attempt, error: Exception | None, arguments: Mapping[str, Any]) -> CallError | None:
        if attempt.requests == 1:
            if error is None or attempt.reply is not None:
                return None
            return CallError("malformed", "HTTP 200, but the answer cannot be read by litellm", status=200)
        if error is None or attempt.requests or guard.refusal(error):
            return CallError("not_allowed", f"litellm sends {visible(self.model)} by a way that cannot be guarded; "
                                            f"reach it as endpoint:URL#MODEL")  # fmt: skip
        given = ", ".join(sorted((_SETTINGS | {"response_format", "top_logprobs"}) & set(arguments)))
        return CallError("bad_request", f"litellm refused the request before it was sent ({type(error).__name__}); "
                                        f"{self.provider} may not know one of: {given or '-'}")  # fmt: skip

    def _arguments(self, request: Request) -> dict[str, Any]:
        if unknown := sorted(set(request.settings) - _SETTINGS):
            raise InputError(
                f"unknown settings {visible(', '.join(unknown))}; there are {', '.join(sorted(_SETTINGS))}"
            )
        parts: list[dict[str, Any]] = []
        for part in request.content:
            if isinstance(part, Picture):
                data = base64.b64encode(part.data).decode("ascii")
                parts.append({"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{data}"}})
            else:
                parts.append({"type": "text", "text": part})
        messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        extra: dict[str, Any] = {}
        if request.schema is not None:
            form = {"name": "answer", "schema": dict(request.schema), "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.top_logprobs:
            extra |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if self.provider == "azure":
            extra["api_version"] = self._api_version
        return {
            **request.settings, **extra, "model": f"{self.provider}/{self.model}", "messages": messages,
            "api_key": self._key.get_secret_value(), "api_base": self.base_url, "timeout": self.timeout + 30,
            "num_retries": 0, "max_retries": 0, "drop_params": False, "caching": False, "no-log": True,
        }  # fmt: skip

    def _reply(self, attempt: Attempt, answer: Any, seconds: float) -> Reply:
        reply = attempt.reply or _translated(attempt.raw or {}, answer)
        if self.expect_model is not None and reply.model != self.expect_model:
            safe = _SAFE.fullmatch(reply.model) and self._key.get_secret_value() not in reply.model
            served = reply.model if safe else "another model"
            raise CallError("wrong_model", f"asked for {visible(self.expect_model)}, but {served} answered", status=200)
        cost = self.price(reply.input_tokens, reply.output_tokens) if self.price else None
        return replace(reply, cost=cost, seconds=seconds)


def _translated(raw: Mapping[str, Any], answer: Any) -> Reply:
    """The reply in litellm's translation, but model, refusal and filter as the provider's own JSON says."""
    candidates = [one for one in raw.get("candidates") or () if isinstance(one, dict)]
    asked = raw.get("promptFeedback")
    if (isinstance(asked, dict) and asked.get("blockReason")) or any(
        c.get("finishReason") in _BLOCKED for c in candidates
    ):
        raise CallError("filtered", "HTTP 200: the provider's content filter stopped the answer", status=200)
    refused = raw.get("stop_reason") == "refusal"
    if not answer.choices or not (raw.get("content") or candidates or refused):
        raise CallError("malformed", "HTTP 200, but the body holds no answer", status=200)
    message, finish = answer.choices[0].message, str(answer.choices[0].finish_reason or "")
    if not message.content and not refused and finish != "length":
        raise CallError("malformed", "HTTP 200, but the answer holds no text and no refusal", status=200)
    known = bool(raw.get("usage") or raw.get("usageMetadata"))
    used = (answer.usage.prompt_tokens, answer.usage.completion_tokens) if known else (None, None)
    return Reply(
        text=message.content or "", finish_reason="refusal" if refused else finish,
        refusal=(message.content or "refused without a word") if refused else "",
        reasoning=getattr(message, "reasoning_content", None) or "",
        model=str(raw.get("model") or raw.get("modelVersion") or "").removeprefix("models/"),
        input_tokens=used[0], output_tokens=used[1], logprobs=_logprobs(answer.choices[0]),
    )  # fmt: skip


def looks_dated(model: str) -> bool:
    """Whether a model's name fixes a version: a date, month and day, year and month, or a three-digit revision.

    >>> [looks_dated(name) for name in ("gpt-4o-2024-08-06", "claude-sonnet-4-5-20250929", "gemini-2.0-flash-001")]
    [True, True, True]
    >>> [looks_dated(name) for name in ("gpt-4o", "gemini-flash-latest", "llama-3.1-70b")]
    [False, False, False]
    """
    name = model.lower()
    if "latest" in name:
        return False
    month, day = "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
    dates = (rf"20\d\d-?{month}-?{day}", rf"{month}-?{day}", rf"2\d{month}", r"\d{3}$")
    return any(re.search(rf"(?<![0-9a-z.])[@-]?(?<=[@:-]){date}(?![0-9])", name) for date in dates)


def _key(provider: str) -> SecretStr:
    names = PROVIDERS[provider].keys
    for name in names:
        if key := os.environ.get(name, "").strip():
            return SecretStr(key)
    raise InputError(f"the key for {provider} is read from the environment: set {' or '.join(names)}")


def _open_litellm() -> Any:
    guard.wake()
    guard.quiet_environment()
    try:
        import litellm
    except ImportError as error:
        raise MissingExtra("litellm", "api") from error
    litellm.suppress_debug_info = True
    litellm.telemetry = litellm.set_verbose = litellm.global_disable_no_log_param = False
    litellm.drop_params = litellm.modify_params = False
    warnings.filterwarnings(
        "ignore", message="Pydantic serializer warnings", category=UserWarning
    )  # they quote answers
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return litellm


def _client(route: HostedRoute) -> Any:
    """The object that litellm wants as `client`: its own handler or the SDK's, over our transport."""
    import httpx

    carrier = route._transport
    plain = httpx.AsyncClient(transport=carrier, follow_redirects=False, trust_env=False, timeout=route.timeout + 60)
    named: dict[str, Any] = {"api_key": route._key.get_secret_value(), "max_retries": 0, "http_client": plain}
    if route.provider == "openai":
        from openai import AsyncOpenAI

        return AsyncOpenAI(base_url=route.base_url, **named)
    if route.provider == "azure":
        from openai import AsyncAzureOpenAI

        return AsyncAzureOpenAI(azure_endpoint=route.base_url, api_version=route._api_version, **named)
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    class Handler(AsyncHTTPHandler):
        def create_client(self, *_: Any, **__: Any) -> Any:  # after a failure it would send anew over one of its own
            return plain

    return Handler()


def _logprobs(choice: Any) -> tuple[TokenChance, ...] | None:
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    if not content:
        return None
    return tuple(
        TokenChance(one.token, one.logprob, tuple((other.token, other.logprob) for other in one.top_logprobs or ()))
        for one in content
    )
