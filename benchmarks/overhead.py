"""What Ray costs: the time to the first frame, and each frame's way through the actors.

Decoding is real; encoding is replaced by a stage that computes nothing, so that what is left beside
decoding is transport and scheduling. Both executors take turns in one run.

Run: python -m benchmarks.overhead [--frames 256] [--repeats 5] [--json PATH]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pruner import FrameLayout
from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware
from streaming.engine import Stages, open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from workers.frames import RankedFrames, TileChunk
from workers.messages import EncodeNews, EncodeRequest
from workers.stages import ReadStage, Result, note


class NullEncoder:
    """Looks at no pixel and keeps tokens of the size a real checkpoint's would have."""

    hidden_size = 4096

    def run(self, request: EncodeRequest, chunk: TileChunk) -> Iterator[Result]:
        """Yield ``max_keep`` tokens of zeros for each frame and pruning."""
        ranked = tuple(self._zeros(chunk, pruning.max_keep) for pruning in request.prunings)
        news = EncodeNews(prune_seconds=(0.0,) * len(ranked), num_encoded_tiles=0)
        yield ranked, note(news, {})

    def _zeros(self, chunk: TileChunk, num_kept: int) -> RankedFrames:
        num_frames = len(chunk)
        return RankedFrames(
            clip_id=chunk.clip_id,
            frame_indices=chunk.frame_indices,
            pts_seconds=chunk.pts_seconds,
            layouts=(FrameLayout(num_base=576, rows=48, columns=48),) * num_frames,
            counts=np.full(num_frames, num_kept, np.int64),
            order=np.tile(np.arange(num_kept), num_frames),
            features=np.zeros((num_frames * num_kept, self.hidden_size), np.uint16),
            dtype="bfloat16",
            informativeness=np.ones((num_frames, 2)),
        )


class NullModel:
    """Says nothing."""

    def run(self, request: Any, *inputs: Any) -> Iterator[Result]:
        """Yield nothing."""
        yield from ()


def measure(clip: Path, options: Options) -> dict[str, float]:
    """Return seconds until the first frame is read, and seconds per frame after that."""
    plan = plan_clip(sample_clip(str(clip), options), options, ["?"])
    stages: Stages = {"decoder": ReadStage, "encoder": NullEncoder, "llm": NullModel}
    begin = time.perf_counter()
    moments = []
    with open_engine(options, stages) as engine:
        encoded = engine.encode(plan.clip, lambda _: moments.append(time.perf_counter()))
        done = time.perf_counter()
    num_encoded = len(encoded.pts_seconds)
    if num_encoded != plan.clip.num_frames:
        raise RuntimeError(f"frames are missing: {num_encoded = }, {plan.clip.num_frames = }")
    return {"start": moments[0] - begin, "frame": (done - moments[0]) / num_encoded}


def main() -> None:
    """Measure both executors in turn and print medians and spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    settings = {"num_frames": arguments.frames, "budget": 2048, "num_decoders": 1}
    options = change(Options(), settings, source="the benchmark")
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        draw_clip(clip, duration_seconds=20)
        for _ in range(arguments.repeats):
            for executor in ("local", "ray"):
                measured = measure(
                    clip, change(options, {"executor": executor}, source="the benchmark")
                )
                for name, value in measured.items():
                    figures.setdefault(executor, {}).setdefault(name, []).append(value)
    print(describe_hardware())
    print(f"{arguments.repeats} runs of {arguments.frames} frames of 640 x 360, chunks of 8\n")
    print(
        "| executor | first frame, s: median (min-max) | per frame, ms: median (min-max) |\n"
        "|---|---|---|"
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
