"""The pictures of a bench: where seconds go, what one waits for, accuracy, clients at once."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from streaming.bench.point import Point
from streaming.bench.run import Outcome
from streaming.bench.trial import STAGES
from workers.errors import InputError

_MARKERS = "osD^vP*Xh<>"
_MIB = 2**20


def import_matplotlib() -> Any:
    """Return the module that draws; to be called before anything is measured, too.

    Raises:
        InputError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            "the pictures of a bench need matplotlib: pip install 'mr-stream[plot]'"
        ) from None
    return matplotlib


def draw(folder: Path, outcome: Outcome, caption: str) -> list[Path]:
    """Draw what there are figures for; return the pictures.

    Args:
        folder: where they are put.
        outcome: of a bench.
        caption: the command that measured them, under each.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written to.
    """
    import_matplotlib().use("Agg")
    points = [point for point in outcome.points if point.trials]
    pictures: dict[str, Callable[[Any], None]] = {
        "stages.png": lambda figure: _stages(figure, points),
        "latency.png": lambda figure: _latency(figure, points),
    }
    if any(point.accuracy is not None for point in points):
        pictures["accuracy.png"] = lambda figure: _accuracy(figure, points)
    if outcome.loads:
        pictures["clients.png"] = lambda figure: _clients(figure, outcome)
    return [_save(folder / name, paint, caption) for name, paint in pictures.items()]


def _save(path: Path, paint: Callable[[Any], None], caption: str) -> Path:
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, 5), layout="constrained")
    paint(figure)
    figure.supxlabel(caption, fontsize=7, color="0.4", wrap=True)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    finally:
        pyplot.close(figure)
    return path


def _lines(points: Sequence[Point]) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = {}
    for point in points:
        lines.setdefault(point.name, []).append(point)
    return lines


def _stages(figure: Any, points: Sequence[Point]) -> None:
    """Busy seconds of each stage and wall time against frames, a panel for each system."""
    lines = _lines(points)
    panels = figure.subplots(1, len(lines), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, line) in zip(panels, lines.items(), strict=True):
        frames = [point.num_frames for point in line]
        walls = [point.median(lambda t: t.elapsed_seconds) for point in line]
        axes.plot(frames, walls, "k--", linewidth=2, label="wall time")
        for number, stage in enumerate(STAGES):
            busy = [point.stage_seconds().get(stage, math.nan) for point in line]
            style = {"marker": _MARKERS[number % len(_MARKERS)], "color": f"C{number}"}
            axes.plot(frames, busy, markersize=4, label=stage, **style)
        axes.set(title=name.replace(", ", "\n"), xlabel="frames", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("busy seconds, clip and first question")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)


def _latency(figure: Any, points: Sequence[Point]) -> None:
    """First tokens and peak memory against the number of frames."""
    left, middle, right = figure.subplots(1, 3)
    for number, (name, line) in enumerate(_lines(points).items()):
        frames = [point.num_frames for point in line]
        style = {"marker": _MARKERS[number % len(_MARKERS)], "color": f"C{number}", "label": name}
        _with_quartiles(left, frames, line, lambda t: t.first_token_seconds, style)
        _with_quartiles(middle, frames, line, lambda t: t.second_first_token_seconds, style)
        memory = [sum(p.trials[-1].peak_memory_bytes.values()) / _MIB for p in line]
        right.plot(frames, memory, **style)
    titles = ("first token, clip not seen yet, s", "first token of a second question, s",
              "peak memory of all processes, MiB")  # fmt: skip
    for axes, title in zip((left, middle, right), titles, strict=True):
        axes.set(title=title, xlabel="frames", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    _legend(figure, left)


def _legend(figure: Any, axes: Any) -> None:
    """Name the lines of all panels, which are those of one, above them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def _with_quartiles(
    axes: Any, frames: Sequence[int], line: Sequence[Point], figure: Any, style: dict[str, Any]
) -> None:
    middle, low, high = zip(*(point.spread(figure) for point in line), strict=True)
    axes.plot(frames, middle, **style)
    axes.fill_between(frames, low, high, color=style["color"], alpha=0.2)


def _accuracy(figure: Any, points: Sequence[Point]) -> None:
    """Answers that are right against tokens that enter the language model."""
    axes = figure.subplots()
    known = [point for point in points if point.accuracy is not None]
    for number, (name, line) in enumerate(_lines(known).items()):
        tokens = [point.trials[0].num_tokens_entering for point in line]
        right = [100 * (point.accuracy or 0.0) for point in line]
        axes.plot(tokens, right, marker=_MARKERS[number % len(_MARKERS)], label=name)
        for x, y, point in zip(tokens, right, line, strict=True):
            axes.annotate(f"{point.num_frames}", (x, y), fontsize=7, xytext=(3, 3),
                          textcoords="offset points")  # fmt: skip
    axes.set(xscale="log", xlabel="visual tokens that enter the language model (numbers: frames)",
             ylabel="questions answered right, %")  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _clients(figure: Any, outcome: Outcome) -> None:
    """Questions a second, and the slowest of twenty, against clients that ask at once."""
    left, right = figure.subplots(1, 2)
    names = dict.fromkeys(name for name, _ in outcome.loads)
    for number, name in enumerate(names):
        loads = [load for system, load in outcome.loads if system == name]
        clients = [load.num_clients for load in loads]
        style = {"marker": _MARKERS[number % len(_MARKERS)], "label": name}
        left.plot(clients, [load.questions_per_second for load in loads], **style)
        right.plot(clients, [load.seconds_p95 for load in loads], **style)
    numbers = sorted({load.num_clients for _, load in outcome.loads})
    for axes, title in ((left, "questions a second"), (right, "95th percentile of seconds")):
        axes.set(title=title, xlabel="clients at once", xscale="log", yscale="log")
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.xaxis.minorticks_off()
        axes.grid(alpha=0.3)
    _legend(figure, left)
