"""What a user waits for: seconds from the command to the first frame read, and to the answer.

Runs ``python -m streaming.ask`` in processes of its own, in turns with that of another checkout.

Run: python -m benchmarks.start [--against CHECKOUT] [--repeats 5] [--json PATH]
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware

_FIRST_FRAME = re.compile(rb"decode: .*\| [1-9]\d*/")
_HERE = Path(__file__).parents[1]


def run(
    checkout: Path, clip: Path, executor: str, *, frames_per_chunk: int
) -> Generator[float, None, None]:
    """Yield the seconds until the bar of frames read first moves, and until the command has ended.

    Whoever does not ask for the second interrupts the command.
    """
    command = [sys.executable, "-m", "streaming.ask", str(clip), "what number is shown?"]
    command += ["--executor", executor, "--num-frames", "32", "--budget", "160"]
    command += ["--frames-per-chunk", str(frames_per_chunk)]
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
    seen = b""
    try:
        while not _FIRST_FRAME.search(seen):
            piece = os.read(process.stderr.fileno(), 65536)
            if not piece:
                raise RuntimeError(f"{checkout}: {seen.decode()}")
            seen += piece
        yield time.perf_counter() - begin
        _, rest = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{checkout}: {rest.decode()}")
        yield time.perf_counter() - begin
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate()


def measure(checkout: Path, clip: Path, executor: str) -> tuple[float, float, float]:
    """Return seconds until the first frame is read, the first chunk of 8, and the answer is out."""
    with closing(run(checkout, clip, executor, frames_per_chunk=1)) as times:
        first_frame = next(times)
    first_chunk, answered = run(checkout, clip, executor, frames_per_chunk=8)
    return first_frame, first_chunk, answered


def main() -> None:
    """Measure in turns and print medians and spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    checkouts = {"this": _HERE} | ({"other": arguments.against} if arguments.against else {})
    figures: dict[str, list[tuple[float, float, float]]] = {}
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
    print("| executor, version | first frame read, s | first chunk of 8, s | answered, s |")
    print("|---|---|---|---|")
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
