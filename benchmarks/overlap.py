"""Do stages overlap? A clip through the whole engine, against its slowest stage by itself.

Reading (decoding, cutting tiles) and encoding (the tower, pruning) do their real work with one
thread each, in turns: reading alone, encoding alone, and both in the engine, in this process and on
Ray. Starting is left out. With two idle cores, the whole should take as long as the slower alone.

Run: python -m benchmarks.overlap [--frames 128] [--repeats 5] [--json PATH]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware
from streaming.bench.point import spread
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from workers.frames import TileChunk
from workers.messages import Clip, EncodeRequest, ReadRequest
from workers.run.engine import Engine
from workers.stages import EncodeStage, ReadStage


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def read(stage: ReadStage, clip: Clip) -> list[TileChunk]:
    """Read a clip, with nothing beside it."""
    requests = [ReadRequest(segment=segment, tiles=clip.tiles) for segment in clip.segments]
    return [chunk for request in requests for chunk, _ in stage.run(request)]


def encode(stage: EncodeStage, clip: Clip, chunks: list[TileChunk]) -> None:
    """Encode and rank what has been read, with nothing beside it."""
    for chunk in chunks:
        request = EncodeRequest(
            tiles=clip.tiles, prunings=clip.prunings, frame_indices=chunk.frame_indices
        )
        list(stage.run(request, chunk))


def measure(clip: Clip, engines: dict[str, Engine], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every round."""
    reader, encoder = ReadStage(), EncodeStage(Options().model)
    torch.set_num_threads(1)
    chunks = read(reader, clip)
    encode(encoder, clip, chunks[:1])
    for engine in engines.values():
        engine.encode(clip)
    figures: dict[str, list[float]] = {}
    for _ in range(repeats):
        works: dict[str, Callable[[], object]] = {
            "reading alone": lambda: read(reader, clip),
            "encoding alone": lambda: encode(encoder, clip, chunks),
        }
        works |= {f"both, {name}": partial(engine.encode, clip) for name, engine in engines.items()}
        for name, work in works.items():
            figures.setdefault(name, []).append(seconds(work))
    return figures


def main() -> None:
    """Measure in turns and print medians, spread and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    settings = {"num_frames": arguments.frames, "budget": 512, "num_decoders": 1}
    options = change(Options(), settings, source="")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder, "clip.mp4")
        draw_clip(path, duration_seconds=20)
        clip = plan_clip(sample_clip(str(path), options), options, ["?"]).clip
        engines = {
            name: stack.enter_context(open_engine(change(options, {"executor": name}, source="")))
            for name in ("local", "ray")
        }
        figures = measure(clip, engines, arguments.repeats)
    alone = list(zip(figures["reading alone"], figures["encoding alone"], strict=True))
    slowest = [max(pair) for pair in alone]
    figures["one after the other"] = [sum(pair) for pair in alone]
    print(describe_hardware())
    print(f"\n{arguments.frames} frames of 640 x 360, {arguments.repeats} rounds\n")
    print("| what | s: median (quartiles) | against the slower alone (quartiles) |\n|---|---|---|")
    for name, values in figures.items():
        times = "{:.2f} ({:.2f}-{:.2f})".format(*spread(values))
        ratios = [value / most for value, most in zip(values, slowest, strict=True)]
        print(f"| {name} | {times} | {'{:.2f} ({:.2f}-{:.2f})'.format(*spread(ratios))} |")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
