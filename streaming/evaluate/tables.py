"""Writes an evaluation down: JSON, Markdown and a picture of accuracy against cost."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from streaming.evaluate.scoring import ALL, MEAN, Interval, Result, Score
from streaming.flags import flat
from streaming.options import Options
from workers.errors import InputError

_MARKERS = "osD^vP*Xh<>"
_COLORS = ("black", *(f"C{number}" for number in range(10) if number != 7))
_STAGES = ("decode", "tile", "encode", "prune", "prefill", "generate")


def write_tables(folder: Path, result: Result, options: Options) -> str:
    """Write ``table.json``, ``table.md`` and ``tradeoff.png``; return the Markdown.

    Raises:
        InputError: the folder cannot be written to.
    """
    text = to_markdown(result, options)
    values = {"options": flat(options), **dataclasses.asdict(result)}
    try:
        _replace(folder / "table.json", json.dumps(values, indent=1) + "\n")
        _replace(folder / "table.md", text)
        draw_tradeoff(folder / "tradeoff.png", result)
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror}") from None
    return text


def to_markdown(result: Result, options: Options) -> str:
    """Return the table in the form of the pruning papers: by budget, a row for each method."""
    head = ["kept", "method", *result.types, ALL, "95 % interval", f"against {result.baseline}",
            MEAN, "95 % interval", "entering", "tokens a clip", "really kept"]  # fmt: skip
    cost = ["kept", "method", *(f"{stage} ms" for stage in _STAGES), "questions/s", "speed"]
    unpruned = next((s for s in result.scores if s.row == result.baseline), result.scores[0])
    most = max(score.num_questions[ALL] for score in result.scores)
    least = min(score.num_questions[ALL] for score in result.scores)
    asked = f"{most:,}" if most == least else f"{least:,} to {most:,}"
    lines = [
        f"Accuracy of `{options.model.model}` on {result.num_clips} clips, {asked} questions a "
        f"row, seed {options.generation.seed}. Intervals: bootstrap over clips.",
        "",
        _line(head),
        _line(["---"] * len(head)),
        *(_line(_accuracy_cells(score, result.types)) for score in result.scores),
        "",
        "Milliseconds a question that each stage was busy; decoding and encoding are shared by the "
        f"rows and counted once a clip. {_side_by_side(options.run.clips_in_flight)}",
        "",
        _line(cost),
        _line(["---"] * len(cost)),
        *(_line(_cost_cells(score, unpruned)) for score in result.scores),
    ]
    if result.failures:
        number = f"{len(result.failures)} clip{'s' * (len(result.failures) != 1)}"
        lines += ["", f"Left out: {number}, in every row, and why:", ""]
        lines += [f"- {failure.message} ({failure.stage})" for failure in result.failures]
    return "\n".join(lines) + "\n"


def _side_by_side(limit: int) -> str:
    if limit == 1:
        return "One clip at a time."
    return f"Up to {limit} clips side by side: stages of several shared the processor."


def _accuracy_cells(score: Score, types: Sequence[str]) -> list[str]:
    change = "" if score.change is None else f"{100 * score.change:+.1f} "
    return [
        score.kept,
        score.row,
        *(f"{100 * score.accuracy[name]:.1f}" for name in (*types, ALL)),
        _percent(score.interval[ALL]),
        change + (_percent(score.change_interval, sign="+") if score.change_interval else ""),
        f"{100 * score.accuracy[MEAN]:.1f}",
        _percent(score.interval[MEAN]),
        f"{score.num_entering_tokens:.1f}",
        f"{score.num_visual_tokens:.1f}",
        f"{100 * score.kept_share:.1f} %",
    ]


def _cost_cells(score: Score, unpruned: Score) -> list[str]:
    return [
        score.kept,
        score.row,
        *(f"{1000 * score.seconds.get(stage, 0.0):.1f}" for stage in _STAGES),
        f"{score.questions_per_second:.2f}",
        f"{score.questions_per_second / (unpruned.questions_per_second or 1):.2f}x",
    ]


def _percent(interval: Interval, sign: str = "") -> str:
    low, high = (format(100 * value, f"{sign}.1f") for value in interval)
    return f"[{low}, {high}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def draw_tradeoff(path: Path, result: Result) -> None:
    """Draw accuracy with its interval, against tokens kept and against seconds of a question."""
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            f"{path.name} cannot be drawn without matplotlib: pip install 'mr-stream[plot]'"
        ) from None

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (tokens, seconds) = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    _draw_against(tokens, result, lambda score: 100 * score.kept_share)
    _mark_shares(tokens, result)
    tokens.set(
        xlabel="tokens kept, timestamps too, % of the visual ones (log scale)",
        ylabel="questions answered right, %",
    )
    _draw_against(seconds, result, lambda score: 1 / (score.questions_per_second or math.inf))
    seconds.set(xlabel="busy seconds of all stages a question (log scale)")
    figure.legend(*tokens.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _draw_against(axes: Any, result: Result, cost: Callable[[Score], float]) -> None:
    rows = list(dict.fromkeys(score.row for score in result.scores))
    for number, row in enumerate(rows):
        scores = [score for score in result.scores if score.row == row]
        shares = [100 * score.accuracy[ALL] for score in scores]
        low = [max(0.0, s - 100 * c.interval[ALL][0]) for s, c in zip(shares, scores, strict=True)]
        high = [max(0.0, 100 * c.interval[ALL][1] - s) for s, c in zip(shares, scores, strict=True)]
        if len(scores) == 1 and len(rows) > 1:  # the ceiling
            axes.axhline(shares[0], color="0.6", linestyle="--", linewidth=1)
        axes.errorbar(
            [cost(score) for score in scores], shares, yerr=[low, high], label=row,
            marker=_MARKERS[number % len(_MARKERS)], markersize=6, capsize=2, linewidth=1.2,
            color=_COLORS[number % len(_COLORS)], linestyle="-" if number < len(_COLORS) else "--",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.grid(alpha=0.3)


def _mark_shares(axes: Any, result: Result) -> None:
    """Label the columns rather than powers of ten."""
    ticks = sorted({round(100 * score.kept_share, 1) for score in result.scores})
    spaced = [t for i, t in enumerate(ticks) if i == 0 or t > 1.15 * ticks[i - 1]]
    axes.set_xticks(spaced, [f"{tick:g}" for tick in spaced])
    axes.minorticks_off()
