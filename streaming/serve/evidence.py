"""What the language model was shown of each frame, for a page that draws it."""

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from workers.arrays import Int64Array
from workers.visual import KeptFrame


def show_frames(frames: Sequence[KeptFrame]) -> list[dict[str, Any]]:
    """Return frames as plain values.

    ``base`` and ``grid`` are pictures of ``rows`` x ``columns`` cells over the whole displayed
    picture, of which those ``kept`` are listed, ascending, row by row; ``share`` is the frame's
    part of all visual tokens.
    """
    total = sum(frame.num_visual_tokens for frame in frames) or 1
    return [_show(frame, total) for frame in frames]


def _show(frame: KeptFrame, total: int) -> dict[str, Any]:
    layout = frame.layout
    side = math.isqrt(layout.num_base)
    kept: Int64Array = frame.keep_indices
    lines = kept[kept >= layout.num_base] - layout.num_base
    row, column = np.divmod(lines, layout.columns + 1)
    cells = column < layout.columns  # the last of a line is its newline
    width, height = _size(frame.thumbnail_jpeg)
    return {
        "pts_seconds": round(frame.pts_seconds, 6),
        "num_visual_tokens": frame.num_visual_tokens,
        "share": round(frame.num_visual_tokens / total, 6),
        "novelty": round(frame.novelty, 6),
        "base": {"rows": side, "columns": side, "kept": kept[kept < layout.num_base].tolist()},
        "grid": {
            "rows": layout.rows,
            "columns": layout.columns,
            "kept": (row * layout.columns + column)[cells].tolist(),
        },
        "num_newlines": int((~cells).sum()),
        "thumbnail": {"width": width, "height": height, "url": _data_url(frame.thumbnail_jpeg)},
    }


def _size(jpeg: bytes) -> tuple[int, int]:
    if not jpeg:
        return 0, 0
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        return picture.size


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""
