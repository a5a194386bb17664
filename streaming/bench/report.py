"""Writes a bench down: JSON with every trial, Markdown, and four pictures."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from streaming.bench.hardware import describe_hardware
from streaming.bench.point import Point, spread
from streaming.bench.run import Outcome
from streaming.bench.trial import STAGES
from streaming.flags import flat
from streaming.options import Options
from workers.errors import InputError
from workers.version import package_version

_LIBRARIES = ("torch", "transformers", "ray", "av", "numpy", "pillow")
_MIB = 2**20


def describe_run(options: Options, arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the figures were measured on, and how to measure them again."""
    return {
        "command": f"python -m streaming.bench {shlex.join(arguments)}",
        "hardware": describe_hardware(),
        "versions": {"mr-stream": package_version(), **_versions()},
        "options": flat(options),
    }


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_report(folder: Path, described: Mapping[str, Any], outcome: Outcome) -> str:
    """Write ``bench.json`` and ``bench.md``; return the Markdown.

    Raises:
        InputError: the folder cannot be written to.
    """
    text = to_markdown(described, outcome)
    values = {
        **described,
        "peak_flops": outcome.peak_flops,
        "points": [point.to_json() for point in outcome.points],
        "pruners": [times.to_json() for times in outcome.pruners],
        "loads": [{"system": name, **load.to_json()} for name, load in outcome.loads],
    }
    try:
        _replace(folder / "bench.json", json.dumps(values, indent=1) + "\n")
        _replace(folder / "bench.md", text)
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror}") from None
    return text


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def to_markdown(described: Mapping[str, Any], outcome: Outcome) -> str:
    """Return the tables: what a user waits for, where it goes, clients at once, pruners."""
    versions = ", ".join(f"{name} {number}" for name, number in described["versions"].items())
    measured = [point for point in outcome.points if point.trials]
    parts = [
        f"`{described['command']}`",
        "",
        f"{described['hardware']}; {versions}. Matrix products reach "
        f"{outcome.peak_flops / 1e9:,.0f} GFLOP/s here. Medians (quartiles) of the trials, which "
        "took turns; the models are loaded: starting is a column of its own.",
        "",
        *_table(_WAITING, [_waiting(p, _first(p, outcome.points)) for p in outcome.points]),
        "",
        "Busy seconds by stage of a clip and its first question, over all workers. **sum** adds "
        "them up, **wall** is what passed; shares of the peak are of the vision tower in *encode* "
        "and of the language model in *prefill*.",
        "",
        *_table(_stage_head(measured), [_stages(point, measured) for point in measured]),
    ]
    if outcome.loads:
        rows = [
            [name, str(load.num_clients), f"{load.questions_per_second:.2f}",
             f"{load.seconds_p50:.2f}", f"{load.seconds_p95:.2f}"]
            for name, load in outcome.loads
        ]  # fmt: skip
        parts += ["", "Clients that ask at once about one clip that stands ready:", ""]
        parts += _table(["system", "clients", "questions/s", "p50, s", "p95, s"], rows)
    if outcome.pruners:
        parts += ["", "Pruners as they are run, beside their straightforward forms:", ""]
        head = ["method", "fast, ms a frame", "plain, ms a frame", "ratio (quartiles)"]
        parts += _table(head, [_pruner(times) for times in outcome.pruners])
    return "\n".join(parts) + "\n"


_WAITING = [
    "frames", "system", "method", "executor", "tokens seen", "tokens entering", "first token, s",
    "second question's, s", "answer p50, s", "p95", "times as long as the first", "frames/s",
    "CPU s", "CPU s a video hour", "memory, MiB", "start, s", "accuracy", "remark",
]  # fmt: skip


def _first(point: Point, points: Sequence[Point]) -> Point:
    """Return what took its turns first at the same number of frames."""
    return next(other for other in points if other.num_frames == point.num_frames)


def _times_as_long(point: Point, first: Point) -> str:
    """Return how many times as long as the first it took to answer, pair by pair."""
    pairs = zip(point.trials, first.trials, strict=False)
    ratios = [trial.elapsed_seconds / other.elapsed_seconds for trial, other in pairs]
    return _with_spread(spread(ratios)) if ratios and point is not first else ""


def _waiting(point: Point, first: Point) -> list[str]:
    head = [str(point.num_frames), point.system, point.method, point.executor]
    if not point.trials:
        return [*head, *[""] * 13, point.remark]
    row = point.to_json()
    return [
        *head,
        f"{row['tokens_seen']:,}",
        f"{row['tokens_entering']:,}",
        _with_spread(row["first_token_seconds"]),
        _with_spread(row["second_first_token_seconds"]),
        f"{row['answer_seconds_p50']:.2f}",
        f"{row['answer_seconds_p95']:.2f}",
        _times_as_long(point, first),
        f"{row['frames_per_second']:.1f}",
        f"{row['cpu_seconds'][0]:.2f}",
        f"{row['cpu_seconds_per_video_hour']:.0f}",
        f"{row['peak_memory_bytes_sum'] / _MIB:,.0f}",
        f"{point.start_seconds:.1f}",
        "" if point.accuracy is None else f"{100 * point.accuracy:.1f} %",
        point.remark,
    ]


def _stage_head(points: Sequence[Point]) -> list[str]:
    seen = {name for point in points for name in point.stage_seconds()}
    stages = [name for name in STAGES if name in seen]
    return ["frames", "system", "method", "executor", *stages, "sum", "wall", "vision, of peak",
            "prefill, of peak"]  # fmt: skip


def _stages(point: Point, points: Sequence[Point]) -> list[str]:
    row, names = point.to_json(), _stage_head(points)[4:-4]
    seconds, shares = row["stage_seconds"], row["utilization"]
    return [
        str(point.num_frames), point.system, point.method, point.executor,
        *(f"{seconds[name]:.3f}" if name in seconds else "" for name in names),
        f"{row['stage_seconds_sum']:.2f}",
        f"{row['critical_path_seconds'][0]:.2f}",
        f"{100 * shares['vision']:.0f} %",
        f"{100 * shares['prefill']:.0f} %",
    ]  # fmt: skip


def _pruner(times: Any) -> list[str]:
    fast, plain, ratio = map(spread, (times.fast_seconds, times.plain_seconds, times.ratios))
    return [times.method, f"{1000 * fast[0]:.2f}", f"{1000 * plain[0]:.2f}", _with_spread(ratio)]


def _with_spread(figures: Sequence[float]) -> str:
    middle, low, high = figures
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
