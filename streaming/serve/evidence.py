"""What the language model was shown of each frame, for a page that draws it."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from streaming.report.page import grid_area, seen_area
from workers.arrays import Int64Array
from workers.vision.geometry import Fit
from workers.visual import KeptFrame


class Picture(NamedTuple):
    """A frame's picture: its size in pixels, and its address on this server."""

    width: int
    height: int
    url: str


_NO_PICTURE = Picture(1, 1, "")


def show_picture(clip_id: str, frame: int, jpeg: bytes) -> Picture:
    """Return what a client is told of a picture, which it fetches where it shows it."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        width, height = picture.size
    return Picture(width, height, f"/v1/clips/{clip_id}/frames/{frame}")


def show_frames(
    frames: Sequence[KeptFrame], fit: Fit, pictures: Mapping[int, Picture]
) -> list[dict[str, Any]]:
    """Return frames as plain values.

    ``base`` and ``grid`` are ``rows`` x ``columns`` cells, of which those ``kept`` are listed,
    ascending, row by row. They lie over what is ``seen`` of the picture's plane: left, top, width
    and height in parts of its sides. ``share`` is the frame's part of all visual tokens.

    Args:
        frames: of an answer.
        fit: how a frame became its base tile.
        pictures: by frame.
    """
    total = sum(frame.num_visual_tokens for frame in frames) or 1
    return [
        _show(frame, total, fit, pictures.get(frame.frame_index, _NO_PICTURE)) for frame in frames
    ]


def _show(frame: KeptFrame, total: int, fit: Fit, picture: Picture) -> dict[str, Any]:
    layout = frame.layout
    width, height = picture[:2] if picture.url else (layout.columns or 1, layout.rows or 1)
    on_base = seen_area(width, height, fit)
    on_grid = grid_area(width, height, layout.rows, layout.columns)
    side = math.isqrt(layout.num_base)
    kept: Int64Array = frame.keep_indices
    lines = kept[kept >= layout.num_base] - layout.num_base
    row, column = np.divmod(lines, layout.columns + 1)
    cells = column < layout.columns  # the last of a line is its newline
    base = kept[kept < layout.num_base].tolist()
    return {
        "pts_seconds": round(frame.pts_seconds, 6),
        "num_visual_tokens": frame.num_visual_tokens,
        "share": round(frame.num_visual_tokens / total, 6),
        "novelty": round(frame.novelty, 6),
        "base": {
            "rows": side,
            "columns": side,
            "kept": base,
            "seen": _parts(on_base, width, height),
        },
        "grid": {
            "rows": layout.rows,
            "columns": layout.columns,
            "kept": (row * layout.columns + column)[cells].tolist(),
            "seen": _parts(on_grid, width, height),
        },
        "num_newlines": int((~cells).sum()),
        "thumbnail": picture._asdict(),
    }


def _parts(area: tuple[float, float, float, float], width: int, height: int) -> list[float]:
    left, top, seen_width, seen_height = area
    parts = (left / width, top / height, seen_width / width, seen_height / height)
    return [round(part, 6) for part in parts]
