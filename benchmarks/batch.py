"""Clips a minute: many in flight, one after another in a warm process, and a command a clip.

On a warm engine, several numbers of clips in flight take turns with one clip after another, whose
stages overlap, and in one process with one stage after another, as a plain loop would have it. Then
whole commands are timed, start included.

Run: python -m benchmarks.batch [--clips 16] [--repeats 5] [--json PATH]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware
from streaming.clip_plan import ClipPlan
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip, in_flight
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from workers.messages import AllocateRequest, EncodeRequest, GenerateRequest, ReadRequest
from workers.run.engine import Engine
from workers.stages import EncodeStage, GenerateStage, ReadStage

Stages = tuple[ReadStage, EncodeStage, GenerateStage]
QUESTIONS = ["what number is shown?", "what color is the ball?"]
SETTINGS = {"num_frames": 32, "budget": 160}


def clips_per_minute(work: Callable[[], object], num_clips: int) -> float:
    """Return how many clips a minute some work on so many of them comes to."""
    begin = time.perf_counter()
    work()
    return num_clips * 60 / (time.perf_counter() - begin)


def one_after_another(engine: Engine, plans: list[ClipPlan]) -> None:
    """Answer about clips, each when the one before is done."""
    for plan in plans:
        answer_clip(engine, plan, QUESTIONS)


def stage_after_stage(stages: Stages, plans: list[ClipPlan]) -> None:
    """Answer about clips with no two things done at once: read, encode, share out, answer."""
    read, encode, generate = stages
    for plan in plans:
        clip = plan.clip
        ranked, times = [], []
        for segment in clip.segments:
            for chunk, note in list(read.run(ReadRequest(segment=segment, tiles=clip.tiles))):
                request = EncodeRequest(
                    tiles=clip.tiles, prunings=clip.prunings, frame_indices=note.news.frame_indices
                )
                ranked += [output for output, _ in encode.run(request, chunk)]
                times += note.news.pts_seconds.tolist()
        shared = AllocateRequest(allocation=plan.allocation(times))
        ((visual, note),) = encode.run(shared, *ranked)
        for question in QUESTIONS:
            prompt = plan.prompt(question, note.news)
            asked = GenerateRequest(prompt=prompt, sampling=plan.options.generation)
            list(generate.run(asked, visual))


def side_by_side(engine: Engine, plans: list[ClipPlan], limit: int) -> None:
    """Answer about several clips at a time."""
    for _ in in_flight(lambda plan: answer_clip(engine, plan, QUESTIONS), plans, limit=limit):
        pass


def measure_warm(
    clips: list[Path], executor: str, repeats: int, limits: list[int]
) -> dict[str, list[float]]:
    """Return clips a minute of every round on one warm engine."""
    options = change(Options(), {**SETTINGS, "executor": executor}, source="")
    figures: dict[str, list[float]] = {}
    stages = (ReadStage(), EncodeStage(options.model), GenerateStage(options.model))
    with open_engine(options) as engine:
        plans = [plan_clip(sample_clip(str(clip), options), options, QUESTIONS) for clip in clips]
        one_after_another(engine, plans[:2])
        for _ in range(repeats):
            works = {"one after another": partial(one_after_another, engine, plans)}
            if executor == "local":
                works["one stage after another"] = partial(stage_after_stage, stages, plans)
            works |= {f"{n} in flight": partial(side_by_side, engine, plans, n) for n in limits}
            for name, work in works.items():
                figures.setdefault(f"{executor}, {name}", []).append(
                    clips_per_minute(work, len(clips))
                )
    return figures


def measure_commands(clips: list[Path], folder: Path) -> dict[str, list[float]]:
    """Return clips a minute of whole commands, start included."""
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    manifest = folder / "manifest.jsonl"
    rows = [{"id": clip.name, "video": str(clip), "questions": QUESTIONS} for clip in clips]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def run(*words: object) -> None:
        command = [sys.executable, "-m", *map(str, words), *settings]
        subprocess.run(command, check=True, capture_output=True)

    def ask() -> None:
        for clip in clips[:4]:
            run("streaming.ask", clip, *QUESTIONS, "--executor=local")

    figures = {"ask, a command a clip": [clips_per_minute(ask, 4)]}
    for executor in ("local", "ray"):
        output = folder / executor
        batch = partial(
            run, "streaming.batch", manifest, "--output", output, "--executor", executor
        )
        figures[f"batch --executor {executor}"] = [clips_per_minute(batch, len(clips))]
    return figures


def main() -> None:
    """Measure and print medians, spread and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limits", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = [folder / f"clip-{number}.mp4" for number in range(arguments.clips)]
        for clip in clips:
            draw_clip(clip, duration_seconds=20)
        figures = {
            **measure_warm(clips, "local", arguments.repeats, arguments.limits),
            **measure_warm(clips, "ray", arguments.repeats, arguments.limits),
            **measure_commands(clips, folder),
        }
    print(describe_hardware())
    print(f"\n{arguments.clips} clips of 640 x 360, 32 frames, {len(QUESTIONS)} questions each\n")
    print("| how | clips a minute: median (min-max) | against one after another |\n|---|---|---|")
    for name, values in figures.items():
        base = figures.get(
            f"{name.partition(',')[0]}, one after another", figures[next(iter(figures))]
        )
        ratios = [a / b for a, b in zip(values, base, strict=False)]
        print(
            f"| {name} | {statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f}) | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
