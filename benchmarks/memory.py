"""Peak memory of every process as the number of frames grows, at one budget.

The checkpoint has random weights, and the token counts of the real ones (336 px tiles).

Run: python -m benchmarks.memory [--frames 16 64 256 1024] [--budget 2048] [--json PATH]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware
from streaming.bench.random_checkpoint import write_checkpoint


def measure(clip: Path, model: Path, executor: str, num_frames: int, budget: int) -> dict[str, Any]:
    """Run ``streaming.ask`` in a process of its own and return what it prints."""
    command = [sys.executable, "-m", "streaming.ask", str(clip), "What moves?", "--json"]
    command += ["--executor", executor, "--num-frames", str(num_frames), "--budget", str(budget)]
    command += ["--model", str(model), "--max-new-tokens", "8"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answer = json.loads(done.stdout)
    if answer["num_frames"] != num_frames or answer["num_visual_tokens"] > budget:
        raise RuntimeError(f"not what was asked for: {answer['num_frames'] = }, {num_frames = }")
    return dict(answer)


def main() -> None:
    """Measure, and print a Markdown table in MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 256, 1024])
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        draw_clip(clip, duration_seconds=max(arguments.frames) // 15 + 1)
        model = Path(folder, "model")
        write_checkpoint(model)
        for executor in ("local", "ray"):
            for num_frames in arguments.frames:
                answer = measure(clip, model, executor, num_frames, arguments.budget)
                results[f"{executor} {num_frames}"] = answer["peak_memory_bytes"]
    print(describe_hardware())
    print(f"\n| process | {' | '.join(f'{n} frames' for n in arguments.frames)} |")
    print("|---|" + "---:|" * len(arguments.frames))
    for executor in ("local", "ray"):
        of_runs = [results[f"{executor} {n}"] for n in arguments.frames]
        for process in sorted({process for of_run in of_runs for process in of_run}):
            peaks = [of_run.get(process) for of_run in of_runs]  # a worker may have had no work
            cells = ["-" if peak is None else f"{peak / 2**20:.0f}" for peak in peaks]
            print(f"| {executor}: {process} | {' | '.join(cells)} |")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
