"""Small pictures: their size is bounded whatever the picture's shape is."""

import io

import numpy as np
import pytest
from PIL import Image

from workers.video.thumbnail import make_thumbnail, most_thumbnail_bytes


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (96, 160, (64, 38)), (20, 30, (30, 20)), (3000, 64, (3, 128)), (70_000, 16, (1, 128)),
        (16, 70_000, (64, 1)), (128, 64, (64, 128)),
    ],
)  # fmt: skip
def test_a_thumbnail_is_so_wide_and_twice_as_high_at_most(
    height: int, width: int, size: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    jpeg = make_thumbnail(noise, 64)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.size == size
    assert len(jpeg) <= most_thumbnail_bytes((height, width), 64) <= 2 * 64 * 64 + 1024
