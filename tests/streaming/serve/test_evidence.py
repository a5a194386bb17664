"""What a page is told of a frame: in which picture, and where in it, each kept token lies."""

import io

import numpy as np
import pytest
from PIL import Image

from pruner import FrameLayout
from streaming.serve.evidence import Picture, show_frames, show_picture
from workers.vision.geometry import Fit
from workers.visual import KeptFrame


def frame(*keep_indices: int) -> KeptFrame:
    """A frame of 2 x 2 base tokens, and lines of three grid tokens and a newline."""
    return KeptFrame(
        frame_index=0,
        pts_seconds=1.5,
        layout=FrameLayout(num_base=4, rows=2, columns=3),
        keep_indices=np.array(keep_indices, np.int64),
        num_timestamp_tokens=0,
        base_informativeness=1.0,
        grid_informativeness=1.0,
        novelty=0.5,
    )


PICTURES = {0: Picture(40, 20, "/v1/clips/c/frames/0")}


def test_each_token_is_where_it_lies() -> None:
    """In the flat order: base 0 to 3, line 4 5 6 with newline 7, line 8 9 10 with newline 11."""
    first, second = show_frames([frame(0, 3, 4, 6, 7, 9), frame(11, 10)], "stretch", PICTURES)
    assert first["base"]["kept"] == [0, 3]
    seen = [0, -0.166667, 1, 1.333333]  # of 40 x 20, in cells of a third of 40
    assert first["grid"] == {"rows": 2, "columns": 3, "kept": [0, 2, 4], "seen": seen}
    assert (first["num_newlines"], first["share"]) == (1, 0.75)
    assert (second["grid"]["kept"], second["num_newlines"]) == ([5], 1)
    assert first["thumbnail"] == {"width": 40, "height": 20, "url": "/v1/clips/c/frames/0"}


@pytest.mark.parametrize(
    ("fit", "seen"),
    [("stretch", [0, 0, 1, 1]), ("crop", [0.25, 0, 0.5, 1]), ("pad", [0, -0.5, 1, 2])],
)
def test_the_base_picture_may_be_of_less_or_more(fit: Fit, seen: list[float]) -> None:
    (shown,) = show_frames([frame(0)], fit, PICTURES)
    assert shown["base"]["seen"] == seen


def test_a_picture_is_told_of_by_size_and_address() -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (30, 50)).save(jpeg, "JPEG")
    assert show_picture("c", 7, jpeg.getvalue()) == (30, 50, "/v1/clips/c/frames/7")
