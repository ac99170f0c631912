"""The litellm route against a bare loop over the litellm package: wall and CPU a call, for two providers.

    python tests/speed/bench_litellm.py [--rounds 3] [--calls 400]

Medians over rounds in which our process and the yardstick's take turns, both against one server in a process of its own
(200 ms an answer, 64 in flight, a picture of 48 kB in every call). The import of litellm is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import statistics
import subprocess
import sys
import time

LATENCY, IN_FLIGHT = 0.2, 64
MODELS = {"openai": "gpt-4o-2024-08-06", "anthropic": "claude-sonnet-4-5-20250929"}
PICTURE = random.Random(0).randbytes(48_000)


def serve() -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(LATENCY)
        usage = {"prompt_tokens": 900, "completion_tokens": 300, "total_tokens": 1200}
        if "messages" in request.path:
            return web.json_response(
                {"id": "m", "type": "message", "role": "assistant", "model": MODELS["anthropic"], "stop_sequence": None,
                 "content": [{"type": "text", "text": "word " * 300}], "stop_reason": "end_turn",
                 "usage": {"input_tokens": 900, "output_tokens": 300}})  # fmt: skip
        message = {"role": "assistant", "content": "word " * 300}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "created": 1, "model": MODELS["openai"], "usage": usage,
             "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})  # fmt: skip

    async def main() -> None:
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/{tail:.*}", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(site._server.sockets[0].getsockname()[1], flush=True)  # type: ignore[union-attr]
        await asyncio.Event().wait()

    asyncio.run(main())


async def loop(one, calls: int) -> tuple[float, float]:
    room = asyncio.Semaphore(IN_FLIGHT)

    async def bounded(number: int) -> None:
        async with room:
            await one(number)

    await bounded(-1)  # whatever is set up once
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(bounded, range(calls)))
    return time.perf_counter() - wall, time.process_time() - cpu


def bare(provider: str, url: str, calls: int) -> tuple[float, float]:
    import litellm

    async def one(number: int) -> None:
        data = f"data:image/jpeg;base64,{base64.b64encode(PICTURE).decode()}"
        content = [{"type": "text", "text": f"case {number}"}, {"type": "image_url", "image_url": {"url": data}}]
        messages = [{"role": "user", "content": content}]
        reply = await litellm.acompletion(f"{provider}/{MODELS[provider]}", messages, api_base=url, api_key="k",
                                          num_retries=0, max_retries=0, max_tokens=500)  # fmt: skip
        assert reply.choices[0].message.content

    return asyncio.run(loop(one, calls))


def ours(provider: str, url: str, calls: int) -> tuple[float, float]:
    from dermjudge.judge.calls.chat import Picture, Request
    from dermjudge.judge.calls.hosted import HostedRoute

    os.environ[f"{provider.upper()}_API_KEY"] = "k"
    route = HostedRoute(f"{provider}/{MODELS[provider]}", base_url=url)
    picture = Picture(PICTURE, "image/jpeg", "0" * 64)

    async def one(number: int) -> None:
        assert (await route.send(Request(str(number), (f"case {number}", picture), settings={"max_tokens": 500}))).text

    return asyncio.run(loop(one, calls))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve()
    if given.one:
        who, provider, url = given.one
        print(json.dumps((bare if who == "bare" else ours)(provider, url, given.calls)))
        return None
    local = ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS")
    environment = {**os.environ, **dict.fromkeys(local, "True")}
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())  # type: ignore[union-attr]
        ideal = given.calls * LATENCY / IN_FLIGHT
        for provider in MODELS:
            url = f"http://127.0.0.1:{port}" + ("/v1" if provider == "openai" else "")
            found: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
            for _ in range(given.rounds):
                for who, figures in found.items():
                    command = [sys.executable, __file__, "--calls", str(given.calls), "--one", who, provider, url]
                    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                    figures.append(json.loads(done.stdout.splitlines()[-1]))
            wall, cpu = (
                {who: statistics.median(one[n] for one in runs) for who, runs in found.items()} for n in (0, 1)
            )
            for who in found:
                per_call = 1000 * cpu[who] / given.calls
                print(f"{provider:10}{who:5} wall {wall[who]:6.2f} s ({wall[who] / ideal:.2f} x ideal)  "
                      f"CPU {per_call:6.2f} ms a call")  # fmt: skip
            print(f"{provider:10}ratio wall {wall['ours'] / wall['bare']:.2f}  CPU {cpu['ours'] / cpu['bare']:.2f}")
    finally:
        server.terminate()
    return None


if __name__ == "__main__":
    main()
