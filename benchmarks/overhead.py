"""What Ray costs: the start of the workers, and each frame's way through the actors.

Decoding is real; encoding is replaced by a stage that computes nothing, so that what is left beside
decoding is transport and scheduling. Both executors take turns in one run.

Run: python -m benchmarks.overhead [--frames 256] [--repeats 5] [--json PATH]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.clip import draw_clip
from benchmarks.hardware import describe_hardware
from streaming.config import Options
from streaming.pipeline import open_pool
from streaming.plan import open_source, plan_clip
from workers.messages import Candidates, FrameChunk, ModelOptions, PruneOptions
from workers.process import Stage
from workers.run.pool import StageMakers
from workers.stages import EncodeStage


class NullEncoder(EncodeStage):
    """Looks at no pixel and keeps tokens of the size a real checkpoint's would have."""

    hidden_size = 4096

    def __init__(self, options: ModelOptions) -> None:
        Stage.__init__(self)

    def encode(self, chunk: FrameChunk, prunings: Sequence[PruneOptions]) -> tuple[Candidates, ...]:
        """Return ``max_keep`` tokens of zeros for each frame and pruning."""
        return tuple(self._zeros(chunk, prune.max_keep) for prune in prunings)

    def _zeros(self, chunk: FrameChunk, num_kept: int) -> Candidates:
        num_frames = len(chunk.frames)
        return Candidates(
            frame_indices=chunk.frame_indices,
            pts_seconds=chunk.pts_seconds,
            counts=np.full(num_frames, num_kept, np.int64),
            order=np.tile(np.arange(num_kept), num_frames),
            features=np.zeros((num_frames * num_kept, self.hidden_size), np.uint16),
            dtype="bfloat16",
            informativeness=np.ones((num_frames, 2)),
            num_base=576,
            rows=1,
            columns=1,
            thumbnails=(),
        )


def measure(clip: Path, options: Options) -> dict[str, float]:
    """Return seconds until the workers are up, and seconds per frame after that."""
    source = open_source(str(clip), options)
    begin = time.perf_counter()
    with open_pool(options, StageMakers(encode=NullEncoder)) as pool:
        plan = plan_clip(source, options, ["?"], pool.measure, num_segments=2, thumbnail_width=0)
        started = time.perf_counter()
        num_encoded = sum(
            progress.num_encoded for progress in pool.encode(plan.segments, [plan.prune])
        )
        done = time.perf_counter()
    if num_encoded != plan.num_frames:
        raise RuntimeError(f"frames are missing: {num_encoded = }, {plan.num_frames = }")
    return {"start": started - begin, "frame": (done - started) / num_encoded}


def main() -> None:
    """Measure both executors in turn and print medians and spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    options = Options(num_frames=arguments.frames, budget=2048, num_decoders=1, num_encoders=1)
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        draw_clip(clip, duration_seconds=20)
        for _ in range(arguments.repeats):
            for executor in ("local", "ray"):
                measured = measure(clip, replace(options, executor=executor))
                for name, value in measured.items():
                    figures.setdefault(executor, {}).setdefault(name, []).append(value)
    print(describe_hardware())
    print(f"{arguments.repeats} runs of {arguments.frames} frames of 640 x 360, chunks of 8\n")
    print(
        "| executor | start, s: median (min-max) | per frame, ms: median (min-max) |\n|---|---|---|"
    )
    for executor, values in figures.items():
        cells = []
        for name, scale in (("start", 1), ("frame", 1000)):
            scaled = [value * scale for value in values[name]]
            cells.append(f"{statistics.median(scaled):.2f} ({min(scaled):.2f}-{max(scaled):.2f})")
        print(f"| {executor} | {' | '.join(cells)} |")
    extra = [
        (ray - local) * 1000
        for local, ray in zip(figures["local"]["frame"], figures["ray"]["frame"], strict=True)
    ]
    print(f"\nRay adds {statistics.median(extra):.2f} ms a frame (paired, median)")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
