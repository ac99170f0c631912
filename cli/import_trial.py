"""A script that `doctor` runs in a process of its own: import packages one after the other, report each on a line.

Whatever a broken package does to this process (an error, a crash, a hang), the program that asked goes on. It is run
by its path, so it imports nothing of dermjudge. Its argument is a JSON list of [package, module, attributes].
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any


def trial(package: str, module: str, attributes: Sequence[str]) -> dict[str, Any]:
    """Import one module and ask it for attributes, since lazy packages break only then."""
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = True  # something is there, and not even looking at it works
    report: dict[str, Any] = {"found": found}
    if not found:
        return report
    try:
        report["version"] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        report["version"] = ""
    try:
        loaded = importlib.import_module(module)
        for attribute in attributes:
            getattr(loaded, attribute)
        if package == "torch":
            report["machine"] = torch_machine(loaded)
    except (Exception, SystemExit) as error:
        report["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return report


def torch_machine(torch: Any) -> dict[str, Any]:
    """GPUs that torch sees (name, bytes), and how much faster than float32 a bf16 product is on this CPU.

    Measured, since a CPU may take bf16 and emulate it: least time of five 768 x 768 products in either type.
    """

    def seconds(dtype: Any) -> float:
        a = torch.ones(768, 768, dtype=dtype)
        times = []
        for _ in range(6):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        return min(times[1:])  # the first one sets up

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_properties(i) for i in range(count)]
    return {
        "gpus": [[gpu.name, gpu.total_memory] for gpu in gpus],
        "cuda": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
        "bf16_speed_up": seconds(torch.float32) / seconds(torch.bfloat16),
    }


def main() -> None:
    # What packages print while they are imported goes to stderr: stdout carries the reports alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as reports:
        os.dup2(2, 1)
        for package, module, attributes in json.loads(sys.argv[1]):
            reports.write(json.dumps(trial(package, module, attributes)) + "\n")
            reports.flush()
        os._exit(0)  # what a package does at exit is not on trial


if __name__ == "__main__":
    main()
