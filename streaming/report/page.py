"""The page that shows what the language model was given of a clip: one self-contained HTML file.

Every count, percentage and outline on the page is worked out here; the template only lays out.
"""

import base64
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming.report.path import write_page
from streaming.result import Answer
from workers.vision.geometry import Fit
from workers.visual import KeptFrame

BoolArray = NDArray[np.bool_]

TICK_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
MAX_TICK_GAPS = 6


def write_report(path: str | os.PathLike[str], answers: Sequence[Answer]) -> None:
    """Write the page for one clip and the questions asked of it.

    Args:
        path: Where the page goes; see :func:`streaming.report.path.write_page`.
        answers: At least one answer; all were given on the frames of the first.

    Raises:
        OutputError: ``path`` cannot be written.
        ValueError: ``answers`` is empty.
    """
    if not answers:
        raise ValueError(f"a report shows at least one answer: {len(answers) = }")
    write_page(path, _render(answers))


def _render(answers: Sequence[Answer]) -> str:
    """Return the whole page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("streaming.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clock": _clock, "count": "{:,}".format, "share": _share}
    clip = answers[0]
    timings = [dict(answer.seconds) for answer in answers]
    if all(seconds == timings[0] for seconds in timings):
        del timings[1:]
    return environment.get_template("page.html.j2").render(
        clip=clip,
        name=os.path.basename(clip.video) or clip.video,
        answers=answers,
        cards=[_card(frame, clip.fit) for frame in clip.frames],
        axis=_axis([frame.pts_seconds for frame in clip.frames]),
        most_tokens=max((frame.num_visual_tokens for frame in clip.frames), default=0),
        show_novelty=any(frame.novelty != 1 for frame in clip.frames),
        timings=timings,
        stages=list(dict.fromkeys(stage for seconds in timings for stage in seconds)),
        longest=max(sum(seconds.values()) for seconds in timings),
        memory=_memory(answers),
        warnings=_warnings(answers),
        options=list(_options(clip.config)),
    )


def _warnings(answers: Sequence[Answer]) -> list[str]:
    texts = [text for answer in answers for text in answer.warnings]
    if answers[0].num_entering_tokens > answers[0].num_visual_tokens and len(answers) > 1:
        texts.append("tokens are chosen anew for each question: shown is what the first one kept")
    return list(dict.fromkeys(texts))


def _card(frame: KeptFrame, fit: Fit) -> dict[str, Any]:
    """Return what the page shows of one frame beside the numbers it carries itself."""
    layout = frame.layout
    kept = np.zeros(layout.num_tokens, dtype=np.bool_)
    kept[frame.keep_indices] = True
    side = math.isqrt(layout.num_base)
    lines = kept[layout.num_base :].reshape(layout.rows, layout.columns + 1)
    width, height = _picture_size(frame)
    return {
        "frame": frame,
        "jpeg": base64.b64encode(frame.thumbnail_jpeg).decode("ascii"),
        "width": width,
        "height": height,
        "base": _overlay(
            kept[: layout.num_base].reshape(side, side),
            width,
            height,
            seen_area(width, height, fit),
        ),
        "grid": _overlay(
            lines[:, :-1], width, height, grid_area(width, height, layout.rows, layout.columns)
        ),
        "num_newlines": int(lines[:, -1].sum()),
    }


def _picture_size(frame: KeptFrame) -> tuple[int, int]:
    """Return (width, height) of the thumbnail; the grid's shape stands in where there is none."""
    if not frame.thumbnail_jpeg:
        return (frame.layout.columns, frame.layout.rows) if frame.layout.rows else (1, 1)
    from PIL import Image

    with Image.open(io.BytesIO(frame.thumbnail_jpeg)) as picture:
        return picture.size


def seen_area(width: int, height: int, fit: Fit) -> tuple[float, float, float, float]:
    """Return the left, top, width and height of what the base tile shows of a picture's plane."""
    if fit == "stretch":
        return 0, 0, width, height
    side = min(width, height) if fit == "crop" else max(width, height)
    return (width - side) / 2, (height - side) / 2, side, side


def grid_area(
    width: int, height: int, rows: int, columns: int
) -> tuple[float, float, float, float]:
    """Return the left, top, width and height of what the grid covers of a picture's plane.

    Its cells are square. Along one side they fit; along the other they end up to half a cell
    beyond the picture, since as many rows (or columns) are cut off a canvas on either side.
    """
    if not rows:
        return 0, 0, width, height
    cell = max(width / columns, height / rows)
    return (width - columns * cell) / 2, (height - rows * cell) / 2, columns * cell, rows * cell


def _overlay(
    cells: BoolArray, width: int, height: int, seen: tuple[float, float, float, float]
) -> dict[str, Any]:
    """Return the SVG paths, in units of cells, that dim all but the kept cells of a picture.

    The cells cover what is ``seen`` (left, top, width, height). ``veil`` is filled even-odd: a
    rectangle around the whole picture, then each row's runs of kept cells, which therefore stay
    clear. ``border`` runs along the kept cells' outer sides only.
    """
    rows, columns = cells.shape
    left, top, seen_width, seen_height = seen
    moved = f"translate({left:.6g} {top:.6g}) " if left or top else ""
    scaled = f"scale({seen_width / max(columns, 1):.6g} {seen_height / max(rows, 1):.6g})"
    cells_x, cells_y = columns / seen_width, rows / seen_height  # of a pixel
    corner = f"M{0 - left * cells_x:.6g} {0 - top * cells_y:.6g}"
    across, down = f"{width * cells_x:.6g}", f"{height * cells_y:.6g}"
    framed = np.pad(cells, 1)
    above = framed[1:, 1:-1] ^ framed[:-1, 1:-1]
    beside = framed[1:-1, 1:] ^ framed[1:-1, :-1]
    return {
        "num_cells": cells.size,
        "num_kept": int(cells.sum()),
        "transform": moved + scaled,
        "veil": f"{corner}h{across}v{down}h-{across}z"
        + "".join(f"M{x} {y}h{run}v1h-{run}z" for y, x, run in _runs(cells)),
        "border": "".join(f"M{x} {y}h{run}" for y, x, run in _runs(above))
        + "".join(f"M{x} {y}v{run}" for x, y, run in _runs(beside.T)),
    }


def _runs(mask: BoolArray) -> list[tuple[int, int, int]]:
    """Return the runs of true values of each row as (row, first column, length)."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(steps == 1)
    length = np.nonzero(steps == -1)[1] - first
    return list(zip(row.tolist(), first.tolist(), length.tolist(), strict=True))


def _axis(pts_seconds: Sequence[float]) -> dict[str, Any]:
    """Return where the timeline starts, its span, a bar's width and its ticks, all in seconds.

    A bar is as wide as the smallest gap between two frames, so that none covers the next.
    """
    times = sorted(set(pts_seconds)) or [0.0]
    width = min((after - before for before, after in pairwise(times)), default=1.0)
    start, span = times[0], times[-1] - times[0] + width
    gap = next((gap for gap in TICK_SECONDS if span / gap <= MAX_TICK_GAPS), TICK_SECONDS[-1])
    marks = range(math.ceil(start / gap), math.floor((start + span) / gap) + 1)
    return {"start": start, "span": span, "width": width, "ticks": [gap * i for i in marks]}


def _memory(answers: Sequence[Answer]) -> dict[str, str]:
    """Return the highest peak of each process over the answers, as text."""
    peaks: dict[str, int] = {}
    for answer in answers:
        for process, num_bytes in answer.peak_memory_bytes.items():
            peaks[process] = max(peaks.get(process, 0), num_bytes)
    return {
        process: f"{peak / 2**30:.2f} GiB" if peak >= 2**30 else f"{peak / 2**20:.0f} MiB"
        for process, peak in peaks.items()
    }


def _options(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the resolved options as (dotted name, value), nested mappings laid flat."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _share(part: float, whole: float) -> str:
    """Return ``part`` in percent of ``whole``, 0 of nothing; fit for text and for CSS."""
    return f"{100 * part / whole if whole else 0:.1f}%"


def _clock(seconds: float) -> str:
    """Return a time of the source as h:mm:ss.mmm."""
    milliseconds = round(abs(seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    sign = "-" if seconds < 0 and milliseconds else ""
    return f"{sign}{minutes // 60}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
