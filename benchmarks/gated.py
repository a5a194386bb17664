"""What ``--high-resolution gated`` gains: frames per second against ``all``, on four drawn clips.

Both take turns at each clip, from the file to its ranked tokens, in one process with a warm engine:
a clip that stands still, one that drifts a pixel a frame, one that pans 16, and one cut every four
frames. Without ``--model`` the tower is one random layer of half CLIP-L's width at its real
geometry (336 px tiles of 24 x 24 tokens), and narrow behind it, lest pruning outweigh so
thin a tower; what encoding alone gains stands in the last column.
CPU seconds, of all threads, are told beside wall time: other work on the machine moves them less.

Run: python -m benchmarks.gated [--model embedded] [--frames 64] [--clips static pan]
     [--repeats 3] [--json PATH]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streaming.bench.hardware import describe_hardware
from streaming.bench.random_checkpoint import write_checkpoint
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from workers.arrays import UInt8Array
from workers.messages import Clip
from workers.run.clips import EncodedClip
from workers.run.engine import Engine

_WIDTH, _HEIGHT, _RATE = 640, 480, 15
_MODES = ("all", "gated")


def draw_scene(seed: int, width: int) -> UInt8Array:
    """Return a picture (480, width, 3) of soft colours with hard-edged boxes."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 215, (8, width // 60, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((width, _HEIGHT), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(width // 40):
        left, top = (int(rng.integers(0, side - 20)) for side in (width, _HEIGHT))
        across, down = rng.integers(20, 120, 2).tolist()
        colour = tuple(rng.integers(0, 256, 3).tolist())
        draw.rectangle((left, top, left + across, top + down), fill=colour)
    return np.asarray(picture)


def _moving(step: int) -> Callable[[int], UInt8Array]:
    scene = draw_scene(0, _WIDTH + 64 * step)

    def frame(number: int) -> UInt8Array:
        left = number % 65 * step
        return scene[:, left : left + _WIDTH]

    return frame


CLIPS: dict[str, Callable[[], Callable[[int], UInt8Array]]] = {
    "static": lambda: _moving(0),
    "drift": lambda: _moving(1),
    "pan": lambda: _moving(16),
    "cuts": lambda: lambda number: draw_scene(number // 4, _WIDTH),
}


def draw_clip(path: Path, frame: Callable[[int], UInt8Array], num_frames: int) -> None:
    """Write an H.264 clip of these frames, 15 of 640 x 480 a second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for number in range(num_frames):
            picture = np.ascontiguousarray(frame(number))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def plan(path: Path, options: Options, mode: str) -> Clip:
    """Return what the workers do of a clip with one value of the option."""
    chosen = change(options, {"high_resolution": mode}, source="the benchmark")
    return plan_clip(sample_clip(str(path), chosen), chosen, ["what is there?"]).clip


def measure(engine: Engine, path: Path, options: Options, repeats: int) -> list[dict[str, Any]]:
    """Return a record of each run, both modes in turns."""
    clips = {mode: plan(path, options, mode) for mode in _MODES}
    records = []
    for number in range(repeats):
        for mode in _MODES[:: 1 if number % 2 else -1]:
            begun = time.process_time()
            encoded = engine.encode(clips[mode])
            used = time.process_time() - begun
            records.append({"clip": path.stem, "mode": mode, "cpu": used, **_record(encoded)})
    return records


def _record(encoded: EncodedClip) -> dict[str, Any]:
    return {
        "seconds": encoded.elapsed_seconds,
        "frames": len(encoded.pts_seconds),
        "tiles": encoded.num_encoded_tiles,
        "encode": encoded.seconds["encode"],
        "prune": sum(encoded.prune_seconds),
    }


def row(clip: str, records: Sequence[dict[str, Any]]) -> str:
    """Return a clip's line of the table: medians, and ranges of what was paired."""
    runs = {mode: [r for r in records if (r["clip"], r["mode"]) == (clip, mode)] for mode in _MODES}
    share = runs["gated"][0]["tiles"] / runs["all"][0]["tiles"]
    rates = [statistics.median(r["frames"] / r["seconds"] for r in runs[mode]) for mode in _MODES]
    ratios = [
        _spread([a[name] / b[name] for a, b in zip(*runs.values(), strict=True)])
        for name in ("seconds", "cpu", "encode")
    ]
    cells = [clip, f"{share:.0%}", *(f"{rate:.2f}" for rate in rates), *ratios]
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}x ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clips", nargs="+", choices=tuple(CLIPS), default=tuple(CLIPS))
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    records = []
    print(describe_hardware())
    print(f"{arguments.model or 'real geometry'}, {arguments.frames} frames, median (min-max)\n")
    print("| clip | tiles | all, frames/s | gated | gated / all | by CPU seconds | of encoding |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or str(folder / "model")
        if not arguments.model:
            write_checkpoint(folder / "model", vision_size=512, text_size=64, num_layers=2)
        settings = {"model": model, "num_frames": arguments.frames, "executor": "local"}
        options = change(Options(), settings, source="the benchmark")
        with open_engine(options) as engine:
            warm = folder / "warm.mp4"
            draw_clip(warm, CLIPS["static"](), 4)
            measure(engine, warm, options, 1)
            for clip in arguments.clips:
                path = folder / f"{clip}.mp4"
                draw_clip(path, CLIPS[clip](), arguments.frames)
                records += measure(engine, path, options, arguments.repeats)
                print(row(clip, records), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
