"""`generate` with two candidates and two arms against a bare aiohttp loop: wall, CPU a call, memory.

    python tests/speed/bench_generate.py [--rounds 3] [--many]

Medians over rounds in which our process and the yardstick's take turns, each candidate against a server of its own
(200 ms an answer, 32 in flight each, JPEGs of 640 x 480). The yardstick reads the picture, posts it and keeps the
answer in memory; ours prepares it once for both candidates, parses differential and triage, and journals. "ideal" is
calls a candidate x latency / in flight. --many adds a run of ten times as many cases.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
LATENCY, IN_FLIGHT, PICTURES = 0.2, 32, 100
ARMS = ("image_context", "image_only")


def bare(urls: list[str], cases: int, folder: Path) -> None:
    import aiohttp

    from tests.speed.bench_calls import report

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(url: str, room: asyncio.Semaphore, case: int) -> None:
                async with room:
                    picture = base64.b64encode((folder / f"{case % PICTURES}.jpg").read_bytes()).decode()
                    content = [
                        {"type": "text", "text": f"What is this? item=k{case}"},
                        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}},
                    ]
                    body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
                    async with session.post(f"{url}/chat/completions", json=body) as response:
                        answers.append((await response.json())["choices"][0]["message"]["content"])

            rooms = {url: asyncio.Semaphore(IN_FLIGHT) for url in urls}
            await asyncio.gather(*(one(url, rooms[url], c) for c in range(cases) for _ in ARMS for url in urls))

    answers: list[str] = []
    start = time.perf_counter()
    asyncio.run(main())
    report(start)


def ours(urls: list[str], cases: int, folder: Path) -> None:
    from dermjudge.benchmarks.candidates import generate
    from dermjudge.benchmarks.open_systems import make_systems
    from dermjudge.judge.records import Case, Image
    from tests.speed.bench_calls import report

    start = time.perf_counter()
    made = [Case(f"c{k}", (Image(f"{k % PICTURES}.jpg"),), context=f"item=c{k}") for k in range(cases)]
    systems = make_systems([f"s{k}=endpoint:{url}#tiny" for k, url in enumerate(urls)], in_flight=IN_FLIGHT)
    with tempfile.TemporaryDirectory() as out:
        generate(made, systems, Path(out) / "run", root=folder, arms=list(ARMS))
    report(start)


def main(rounds: int, many: bool) -> None:
    import json

    import numpy as np
    from PIL import Image as Pillow

    from tests.fault_server import spawn

    def measured(which: str, urls: list[str], cases: int) -> dict[str, float]:
        command = [sys.executable, __file__, "--child", which, str(cases), str(folder), *urls]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
        return json.loads(done.stdout)

    cases = 250
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for k in range(PICTURES):
            small = Pillow.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
            small.resize((640, 480), Pillow.Resampling.BICUBIC).save(folder / f"{k}.jpg", quality=85)
        urls = [stack.enter_context(spawn(folder / f"log{k}", latency=LATENCY)) for k in range(2)]
        found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
        for _ in range(rounds):
            for which, rows in found.items():
                rows.append(measured(which, urls, cases))
        calls = cases * len(ARMS)
        ideal = calls * LATENCY / IN_FLIGHT
        middle = {w: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for w, rows in found.items()}
        for which, row in middle.items():
            cpu = row["cpu"] / calls / len(urls) * 1000
            print(f"{which}: wall {row['wall'] / ideal:.3f} x ideal, CPU {cpu:.2f} ms a call (start-up included), peak "
                  f"memory {row['rss']:.0f} MiB")  # fmt: skip
        cpu, wall = (middle["ours"][name] / middle["bare"][name] for name in ("cpu", "wall"))
        print(f"ours / bare: CPU {cpu:.2f}, wall {wall:.3f}")
        if many:
            row = measured("ours", urls, 10 * cases)
            grown = row["rss"] / middle["ours"]["rss"]
            print(f"{10 * cases} cases: wall {row['wall'] / ideal / 10:.3f} x ideal, peak memory {row['rss']:.0f} MiB, "
                  f"{grown:.2f} x that at {cases}")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        which, cases_, folder_, *urls_ = sys.argv[2:]
        (bare if which == "bare" else ours)(urls_, int(cases_), Path(folder_))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--many", action="store_true")
        arguments = parser.parse_args()
        main(arguments.rounds, arguments.many)
