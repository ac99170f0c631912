"""How long `dermjudge --help` takes beside a typer program with two commands; prints the ratio (goal <= 1.5).

python tests/speed/bench_start.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HELLO = "import typer\napp = typer.Typer()\n@app.command()\ndef a(): ...\n@app.command()\ndef b(): ...\napp()\n"


def seconds(command: list[str]) -> float:
    """CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        both = {
            "typer hello": [sys.executable, str(hello), "--help"],
            "dermjudge": [sys.executable, "-m", "dermjudge.cli", "--help"],
        }
        times: dict[str, list[float]] = {name: [] for name in both}
        for _ in range(rounds):  # one after the other, so that both meet the same load
            for name, command in both.items():
                times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name}: {1000 * value:.0f} ms CPU")
    print(f"ratio {medians['dermjudge'] / medians['typer hello']:.2f} (goal <= 1.5)")


if __name__ == "__main__":
    main()
