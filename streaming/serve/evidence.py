"""What the language model was shown of each frame, for a page that draws it."""

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from streaming.report.page import seen_area
from workers.arrays import Int64Array
from workers.vision.geometry import Fit
from workers.visual import KeptFrame


def show_frames(frames: Sequence[KeptFrame], fit: Fit) -> list[dict[str, Any]]:
    """Return frames as plain values.

    ``base`` and ``grid`` are ``rows`` x ``columns`` cells, of which those ``kept`` are listed,
    ascending, row by row. The grid's lie over the whole displayed picture, the base's over what is
    ``seen`` of its plane: left, top, width and height in parts of the picture's sides. ``share`` is
    the frame's part of all visual tokens.

    Args:
        frames: of an answer.
        fit: how a frame became its base tile.
    """
    total = sum(frame.num_visual_tokens for frame in frames) or 1
    return [_show(frame, total, fit) for frame in frames]


def _show(frame: KeptFrame, total: int, fit: Fit) -> dict[str, Any]:
    layout = frame.layout
    side = math.isqrt(layout.num_base)
    kept: Int64Array = frame.keep_indices
    lines = kept[kept >= layout.num_base] - layout.num_base
    row, column = np.divmod(lines, layout.columns + 1)
    cells = column < layout.columns  # the last of a line is its newline
    width, height = _size(frame.thumbnail_jpeg)
    base = kept[kept < layout.num_base].tolist()
    return {
        "pts_seconds": round(frame.pts_seconds, 6),
        "num_visual_tokens": frame.num_visual_tokens,
        "share": round(frame.num_visual_tokens / total, 6),
        "novelty": round(frame.novelty, 6),
        "base": {"rows": side, "columns": side, "kept": base, "seen": _seen(width, height, fit)},
        "grid": {
            "rows": layout.rows,
            "columns": layout.columns,
            "kept": (row * layout.columns + column)[cells].tolist(),
        },
        "num_newlines": int((~cells).sum()),
        "thumbnail": {"width": width, "height": height, "url": _data_url(frame.thumbnail_jpeg)},
    }


def _seen(width: int, height: int, fit: Fit) -> list[float]:
    left, top, seen_width, seen_height = seen_area(width, height, fit)
    return [left / width, top / height, seen_width / width, seen_height / height]


def _size(jpeg: bytes) -> tuple[int, int]:
    if not jpeg:
        return 1, 1
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        return picture.size


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""
