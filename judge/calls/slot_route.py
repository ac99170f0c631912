"""Score slots over an API: the log-probabilities of the token that would follow the prompt and "Name:".

Two ways. `next_tokens`: the OpenAI chat format with the begin of an answer that the server continues (vLLM, SGLang),
one call of one token per slot, since the alternatives of generated tokens are what such servers list. The prompt is the
same in all, so a server with a prefix cache reads it once. `decide`: /v1/systemone of `transformers serve`, one call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from .chat import CallError, Reply, Request
from .endpoint import MAX_ANSWER, MAX_ERROR, EndpointRoute, _Pieces, _read, _same_model, typed
from .wire import body, failure, read_reply

ALTERNATIVES = 20  # what vLLM lists at most unless it was started with --max-logprobs
# As vLLM names them: go on with the last message, one token, and name tokens by their number in the vocabulary.
SETTINGS: Mapping[str, Any] = {
    "max_tokens": 1,
    "temperature": 0.0,
    "add_generation_prompt": False,
    "continue_final_message": True,
    "return_tokens_as_token_ids": True,
}


class NoProbabilities(InputError):
    """The server answers without log-probabilities: slots cannot be read there."""

    def __init__(self, route: EndpointRoute, why: str = "answers without token log-probabilities"):
        super().__init__(
            f"{route.name} {why}: score slots cannot be read there, and nothing is sampled in their place; take a "
            "server that lists the probabilities of 20 tokens (vLLM), or transformers serve with a merged judge"
        )


class SlotRoute(EndpointRoute):
    """An endpoint whose next-token probabilities are read instead of its words."""

    async def next_tokens(self, content: Sequence[Any], begun: Sequence[str]) -> list[Reply]:
        """For each begin of an answer the reply that holds the one token that would follow, with its alternatives.

        content: the user's turn, pictures and texts in reading order. The first call ends before the others start, so
        that the prompt is in the server's cache by then. CallError as of `send`, NoProbabilities.
        """
        first = await self._next_token(content, begun[0])
        return [first, *await asyncio.gather(*(self._next_token(content, words) for words in begun[1:]))]

    async def decide(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answers of /v1/systemone to one request (see `training.decision.decision_request`), by question."""
        data = await self._send("systemone", [json.dumps({"model": self.model, **request}).encode("ascii")])
        try:
            return dict(json.loads(data)["answers"])
        except (ValueError, TypeError, KeyError):
            raise CallError("malformed", "HTTP 200, but the body holds no answers of a decision pipeline") from None

    async def _next_token(self, content: Sequence[Any], begun: str) -> Reply:
        request = Request("", tuple(content), settings=SETTINGS, top_logprobs=ALTERNATIVES)
        pieces = body(request, self.model, self._encoded)
        turn = json.dumps({"role": "assistant", "content": [{"type": "text", "text": begun}]})
        pieces[-1] = pieces[-1].removesuffix(b"]}") + f", {turn}]}}".encode("ascii")
        try:
            reply = read_reply(await self._send("chat/completions", pieces))
        except CallError as error:
            if error.kind != "bad_request":
                raise
            raise NoProbabilities(self, f"refuses to list token log-probabilities ({error})") from None
        if self.expect_model is not None and not _same_model(reply.model, self.expect_model):
            raise CallError("wrong_model", f"another model than {self.expect_model} answered")
        if not reply.logprobs or len(reply.logprobs[0].top) < 2:
            raise NoProbabilities(self)
        return reply

    async def _send(self, where: str, pieces: list[bytes]) -> bytes:
        try:
            async with self._open().post(f"{self.url}/{where}", data=_Pieces(pieces), allow_redirects=False,
                                         proxy=self._proxy) as response:  # fmt: skip
                if response.status != 200:
                    headers, status = dict(response.headers), response.status
                    raise failure(status, headers, await _read(response, MAX_ERROR) or b"")
                if (data := await _read(response, MAX_ANSWER)) is not None:
                    return data
            problem = CallError("malformed", f"HTTP 200, but the body has more than {MAX_ANSWER:,} bytes")
        except CallError as caught:
            problem = caught
        except Exception as caught:
            if (found := typed(caught)) is None:
                raise
            problem = found
        raise problem  # out here nothing hangs on it, see `EndpointRoute.send`
