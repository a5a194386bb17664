"""What the language model was shown of each frame, for a page that draws it."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from streaming.report.page import seen_area
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
    ascending, row by row. The grid's lie over the whole displayed picture, the base's over what is
    ``seen`` of its plane: left, top, width and height in parts of the picture's sides. ``share`` is
    the frame's part of all visual tokens.

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
        "base": {"rows": side, "columns": side, "kept": base, "seen": _seen(picture, fit)},
        "grid": {
            "rows": layout.rows,
            "columns": layout.columns,
            "kept": (row * layout.columns + column)[cells].tolist(),
        },
        "num_newlines": int((~cells).sum()),
        "thumbnail": picture._asdict(),
    }


def _seen(picture: Picture, fit: Fit) -> list[float]:
    width, height, _ = picture
    left, top, seen_width, seen_height = seen_area(width, height, fit)
    return [left / width, top / height, seen_width / width, seen_height / height]
