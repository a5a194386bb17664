"""What a user waits for: seconds from the command to the first frame read, and to the answer.

Runs ``python -m streaming.ask`` in processes of its own, in turns with that of another checkout.

Run: python -m benchmarks.start [--against CHECKOUT] [--repeats 5] [--json PATH]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.clip import draw_clip
from benchmarks.hardware import describe_hardware

_FIRST_FRAME = re.compile(rb"decode: .*\| [1-9]\d*/")
_HERE = Path(__file__).parents[1]


def measure(checkout: Path, clip: Path, executor: str) -> tuple[float, float]:
    """Return seconds until the bar of frames read first moves, and until the command has ended."""
    command = [sys.executable, "-m", "streaming.ask", str(clip), "what number is shown?"]
    command += ["--executor", executor, "--num-frames", "32", "--budget", "160"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if process.stderr is None:
        raise RuntimeError("no stderr to read")
    seen, first = b"", 0.0
    while piece := os.read(process.stderr.fileno(), 65536):
        seen += piece
        if not first and _FIRST_FRAME.search(seen):
            first = time.perf_counter() - begin
    if process.wait() or not first:
        raise RuntimeError(f"{checkout}: {seen.decode()}")
    return first, time.perf_counter() - begin


def main() -> None:
    """Measure in turns and print medians and spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    checkouts = {"this": _HERE} | ({"other": arguments.against} if arguments.against else {})
    figures: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        draw_clip(clip, duration_seconds=20)
        for _ in range(arguments.repeats):
            for executor in ("local", "ray"):
                for name, checkout in checkouts.items():
                    measured = measure(checkout, clip, executor)
                    figures.setdefault(f"{executor}, {name}", []).append(measured)
    print(describe_hardware())
    print(f"\n{arguments.repeats} runs each, in turns: 32 frames of 640 x 360; median (min-max)\n")
    print("| executor, version | first frame read, s | answered, s |\n|---|---|---|")
    for name, values in figures.items():
        cells = [
            f"{statistics.median(column):.2f} ({min(column):.2f}-{max(column):.2f})"
            for column in zip(*values, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
