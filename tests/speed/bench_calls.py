"""The call layer against a bare aiohttp loop: wall, CPU a case and memory; and 12-megapixel photos against Pillow.

    python tests/speed/bench_calls.py [--rounds 3] [--many]

Each figure is a median over rounds in which our process and the yardstick's take turns, both against the same server in
a process of its own (200 ms an answer, 64 in flight, a picture of 48 kB in every case). Ours journals every outcome;
"faults" is ours while the server fails. "ideal" is cases x latency / in flight. --many adds a run of 10,000 cases.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LATENCY, IN_FLIGHT, PICTURE = 0.2, 64, 48_000
FAULTS = {"429": 0.05, "500": 0.02, "malformed": 0.01}  # for each attempt; Retry-After is one second


def picture_bytes(case: int) -> bytes:
    return random.Random(case).randbytes(PICTURE)


def report(start: float) -> None:
    """Wall of the loop, CPU of the whole process, peak memory."""
    wall = time.perf_counter() - start
    # Not ru_maxrss, which begins with what the parent had.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"wall": wall, "cpu": time.process_time(), "rss": int(peak[1]) / 1024}))  # type: ignore[index]


def bare(url: str, cases: int) -> None:
    """What anybody would write: a semaphore, a session, one task a case."""
    import aiohttp

    async def main() -> None:
        room = asyncio.Semaphore(IN_FLIGHT)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(case: int) -> None:
                async with room:
                    picture = base64.b64encode(picture_bytes(case)).decode()
                    content = [
                        {"type": "text", "text": f"What is this? item=k{case}"},
                        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}},
                    ]
                    body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
                    async with session.post(f"{url}/chat/completions", json=body) as response:
                        answer = await response.json()
                        answers.append(answer["choices"][0]["message"]["content"])

            await asyncio.gather(*(one(case) for case in range(cases)))

    answers: list[str] = []
    start = time.perf_counter()
    asyncio.run(main())
    report(start)


def ours(url: str, cases: int, folder: str) -> None:
    import hashlib

    from dermjudge.judge.calls.chat import Picture, Request
    from dermjudge.judge.calls.endpoint import EndpointRoute
    from dermjudge.judge.calls.pace import Pace
    from dermjudge.judge.calls.pump import pump
    from dermjudge.judge.run import Run

    def make(case: int) -> Request:
        data = picture_bytes(case)
        picture = Picture(data, "image/jpeg", hashlib.sha256(data).hexdigest())
        return Request(f"k{case}", (f"What is this? item=k{case}", picture))

    start = time.perf_counter()
    jobs = ((f"k{case}", lambda case=case: make(case)) for case in range(cases))
    with Run.open(folder, {"bench": 1}, [f"k{case}" for case in range(cases)]) as run:
        for outcomes in pump(EndpointRoute(url, "tiny"), jobs, pace=Pace(IN_FLIGHT)):
            run.append_many((one.key, {"text": one.reply.text, "model": one.reply.model,
                                       "tokens": [one.reply.input_tokens, one.reply.output_tokens]})
                            for one in outcomes)  # fmt: skip
    report(start)


def measured(which: str, url: str, cases: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", which, url, str(cases), str(Path(folder) / "run")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
        return json.loads(done.stdout)


def calls(rounds: int, many: bool) -> None:
    from tests.fault_server import read_log, spawn

    found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": [], "faults": []}
    cases, most, made = 1000, 0, dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(rounds):
            for which in found:
                log = Path(folder) / f"{which}-{round_}.jsonl"
                faults = FAULTS if which == "faults" else {}
                with spawn(log, latency=LATENCY, rates=faults, seed=round_) as url:
                    found[which].append(measured(which, url, cases))
                lines = read_log(log)
                made[which] = len(lines) / cases
                most = max(most, *(line["in_flight"] for line in lines))
        ideal = cases * LATENCY / IN_FLIGHT
        middle = {w: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for w, rows in found.items()}
        for which, row in middle.items():
            text = f"{which}: wall {row['wall']:.2f} s = {row['wall'] / ideal:.3f} x ideal"
            print(f"{text}, CPU {row['cpu']:.2f} ms a case, peak memory {row['rss']:.0f} MiB")
        cpu, wall = (middle["ours"][name] / middle["bare"][name] for name in ("cpu", "wall"))
        print(f"ours / bare: CPU {cpu:.2f} (goal <= 3), wall {wall:.3f}; goals: wall <= 1.15 x ideal, 120 MiB; most in "
              f"flight {most}")  # fmt: skip
        slower = middle["faults"]["wall"] / middle["ours"]["wall"]
        print(f"5 % 429, 2 % 500, 1 % malformed: {made['faults']:.3f} calls a case (goal <= 1.12, without faults "
              f"{made['ours']:.3f}), wall {slower:.2f} x that without (goal <= 1.6)")  # fmt: skip
        if many:
            with spawn(Path(folder) / "many.jsonl", latency=LATENCY) as url:
                row = measured("ours", url, 10_000)
            print(f"10,000 cases: wall {row['wall'] / ideal / 10:.3f} x ideal, peak memory {row['rss']:.0f} MiB = "
                  f"{row['rss'] / middle['ours']['rss']:.2f} x that at 1,000 (goal <= 1.3)")  # fmt: skip


def photos(rounds: int) -> None:
    """CPU of one photo of 4032 x 3024 with EXIF orientation to 1568 pixels: plain Pillow (decode, bicubic) and ours."""
    import io

    import numpy as np
    from PIL import Image, ImageOps

    from dermjudge.judge.calls import pictures

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (378, 504, 3), dtype=np.uint8))
    values = np.asarray(small.resize((4032, 3024), Image.Resampling.BICUBIC)).astype(np.int16)
    photo = Image.fromarray(np.clip(values + rng.integers(-4, 5, (3024, 4032, 1)), 0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    with tempfile.TemporaryDirectory() as folder:
        photo.save(Path(folder) / "photo.jpg", quality=85, exif=exif)

        def plain() -> None:
            with Image.open(Path(folder) / "photo.jpg") as image:
                upright = ImageOps.exif_transpose(image).resize((1176, 1568), Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            upright.save(buffer, "JPEG", quality=85)
            base64.b64encode(buffer.getvalue())

        def sent() -> None:
            pictures._kept._kept.clear()
            base64.b64encode(pictures.sent(folder, "photo.jpg").data)

        times: dict[str, list[float]] = {"plain": [], "sent": []}
        for _ in range(2 * rounds + 1):
            for name, function in (("plain", plain), ("sent", sent)):
                start = time.process_time()
                function()
                times[name].append(time.process_time() - start)
    one, two = (statistics.median(times[name]) * 1000 for name in ("plain", "sent"))
    print(f"photo: plain Pillow {one:.0f} ms, ours {two:.0f} ms, ratio {two / one:.2f} (goal <= 0.65)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        which, url, cases, folder = sys.argv[2:]
        bare(url, int(cases)) if which == "bare" else ours(url, int(cases), folder)
    else:
        sys.path.insert(0, str(ROOT))
        parser = argparse.ArgumentParser()
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--many", action="store_true")
        arguments = parser.parse_args()
        photos(arguments.rounds)
        calls(arguments.rounds, arguments.many)
