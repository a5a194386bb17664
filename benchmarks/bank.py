"""A second question about a clip: from the bank against from the video.

In one process that has its models loaded (opening, planning, watching and answering, in turns; the
language model's prefix cache holds neither), and as whole ``ask`` commands; then how large entries
are. The same answer is demanded of both.

Run: python -m benchmarks.bank VIDEO [--num-frames 64] [--budget 512] [--repeats 7] [--commands 5]
    [--json PATH]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware
from streaming.bench.random_checkpoint import write_checkpoint
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import ask, watch
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import sample_clip
from workers.disk.store import TokenStore, open_store
from workers.run.engine import Engine

_QUESTION = "what moves?"
_SIZED = ("mr_pruner", "evs")
_HERE = Path(__file__).parents[1]

Times = dict[str, list[float]]


def ask_once(engine: Engine, video: str, options: Options, store: TokenStore | None) -> Answer:
    """Open, plan, watch and answer."""
    return ask_timed(engine, video, options, store)[1]


def ask_timed(
    engine: Engine, video: str, options: Options, store: TokenStore | None
) -> tuple[float, Answer]:
    """Return the seconds until the visual sequence stood ready, and the answer."""
    start = time.perf_counter()
    plan = plan_clip(sample_clip(video, options), options, [_QUESTION])
    watched = watch(engine, plan, store=store)
    ready = time.perf_counter() - start
    (answer,) = (each for each in ask(engine, watched, _QUESTION) if isinstance(each, Answer))
    return ready, answer


def measure_warm(
    video: str, other: str, options: Options, store: TokenStore, repeats: int
) -> tuple[Times, Times]:
    """Return the seconds until a clip is ready and until its answer, from video and from bank."""
    ready: Times = {"video": [], "bank": []}
    answered: Times = {"video": [], "bank": []}
    with open_engine(options) as engine:
        expected = ask_once(engine, video, options, store).answer
        for _ in range(repeats):
            for name, used in (("video", None), ("bank", store)):
                ask_once(engine, other, options, None)  # takes the prefix' place in the cache
                start = time.perf_counter()
                seconds, said = ask_timed(engine, video, options, used)
                answered[name].append(time.perf_counter() - start)
                ready[name].append(seconds)
                hit = said.bank is not None and said.bank.hit
                if said.answer != expected or hit != (name == "bank"):
                    raise RuntimeError(f"{name}: {said.answer = } {expected = } {said.bank = }")
    return ready, answered


def measure_commands(video: str, settings: Sequence[str], folder: str, repeats: int) -> Times:
    """Return the seconds of whole commands without a bank, with one that is empty, and full."""
    times: Times = {"video": [], "bank, first": [], "bank, second": []}
    command = [sys.executable, "-m", "streaming.ask", video, _QUESTION, *settings]
    for number in range(repeats):
        said = set()
        bank = ["--bank", os.path.join(folder, str(number))]
        for name, more in zip(times, ([], bank, bank), strict=True):
            start = time.perf_counter()
            done = subprocess.run([*command, *more], cwd=_HERE, check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
            said.add(done.stdout)
        if len(said) != 1:
            raise RuntimeError(f"the bank gave another answer: {said}")
    return times


def measure_sizes(video: str, options: Options, folder: str) -> dict[str, dict[str, float]]:
    """Return the bytes of an entry, and the seconds to write and to read it, by method."""
    sizes = {}
    for pruner in _SIZED:
        changed = change(options, {"pruner": pruner}, source="")
        store = open_store(os.path.join(folder, pruner), 20.0)
        with open_engine(changed) as engine:
            answers = [ask_once(engine, video, changed, store) for _ in range(2)]
        (path,) = Path(store.folder).glob("*.safetensors")
        sizes[pruner] = {
            "bytes": path.stat().st_size,
            "save": answers[0].seconds["save"],
            "load": answers[1].seconds["load"],
        }
    return sizes


def describe(times: Times) -> None:
    """Print median and spread of each, and the first against the last, pair by pair."""
    for name, values in times.items():
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(f"| {name} | {statistics.median(values):.2f} s ({spread}) |")
    first, *_, last = times.values()
    ratios = [one / other for one, other in zip(first, last, strict=True)]
    print(f"| ratio | {statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}) |\n")


def main() -> None:
    """Measure in turns, on the embedded model and on one of real token counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--num-frames", type=int, default=64)
    parser.add_argument("--budget", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--commands", type=int, default=5)
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    figures: dict[str, object] = {}
    print(describe_hardware(), arguments, "\n")
    with tempfile.TemporaryDirectory() as folder:
        other, random = Path(folder, "other.mp4"), Path(folder, "random")
        draw_clip(other, duration_seconds=1)
        write_checkpoint(random)
        for model in ("embedded", str(random)):
            name = Path(model).name
            values = {"model": model, "num_frames": arguments.num_frames, "cache_tokens": 1,
                      "budget": arguments.budget,
                      "max_new_tokens": 16}  # fmt: skip
            options = change(Options(), values, source="")
            store = open_store(os.path.join(folder, name, "warm"), 20.0)
            warm = measure_warm(arguments.video, str(other), options, store, arguments.repeats)
            for what, times in zip(("ready", "answered"), warm, strict=True):
                print(f"{name}, one process, until {what}")
                describe(times)
            settings = [f"--{k.replace('_', '-')}={v}" for k, v in values.items()]
            place = os.path.join(folder, name)
            commands = measure_commands(arguments.video, settings, place, arguments.commands)
            print(f"{name}, whole commands")
            describe(commands)
            sizes = measure_sizes(arguments.video, options, place)
            print(sizes, "\n")
            figures[name] = {"warm": warm, "commands": commands, "sizes": sizes}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
