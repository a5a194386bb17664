from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.clips import draw_clip, read_frame_number
from workers.arrays import UInt8Array
from workers.errors import VideoLimitError
from workers.video.decode import read_pictures
from workers.video.index import index_video
from workers.video.segments import cut_segments
from workers.video.video_index import VideoIndex

# The matrix as (a, b, c, d), how FFmpeg's filter of that name lays a picture down (each is its own
# inverse), and the rotation that precedes a swap of left and right.
MIRRORS: dict[str, tuple[tuple[int, ...], Callable[[UInt8Array], UInt8Array], int]] = {
    "hflip": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1], 0),
    "vflip": ((1, 0, 0, -1), lambda picture: picture[::-1], 180),
    "transpose": ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1), 270),
    "antitranspose": ((0, -1, -1, 0), lambda picture: picture[::-1, ::-1].swapaxes(0, 1), 90),
}


def read_all(index: VideoIndex) -> list[UInt8Array]:
    segments = cut_segments(
        "clip",
        index,
        np.arange(index.num_frames),
        decoder="pyav",
        frames_per_chunk=4,
        max_chunks=2,
    )
    chunks = [chunk for segment in segments for chunk in read_pictures(segment)]
    return [picture for chunk in chunks for picture in chunk.pictures]


@pytest.mark.parametrize("name", MIRRORS)
def test_mirrored_pictures_are_shown_upright(tmp_path: Path, name: str) -> None:
    matrix, lay_down, rotation_degrees = MIRRORS[name]
    index = index_video(
        str(
            draw_clip(
                tmp_path / f"{name}.mp4",
                matrix=matrix,
                lay_down=lay_down,
                num_frames=20,
                first_number=5,
            )
        )
    )
    assert (index.rotation_degrees, index.mirrored) == (rotation_degrees, True)
    assert index.size_of(3) == (96, 160)
    pictures = read_all(index)
    assert {picture.shape for picture in pictures} == {(96, 160, 3)}
    assert [read_frame_number(picture) for picture in pictures] == list(range(5, 25))


@pytest.mark.parametrize(
    ("pixel_shape", "width"),
    [
        (Fraction(2, 1), 320),
        (Fraction(64, 45), 226),  # 227.6 and down to an even number
        (Fraction(1, 2), 80),
        (Fraction(1, 1), 160),
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_pixels_that_are_not_square_are_made_so(
    tmp_path: Path, pixel_shape: Fraction, width: int, ending: str
) -> None:
    index = index_video(str(draw_clip(tmp_path / f"clip.{ending}", pixel_shape=pixel_shape)))
    assert index.size_of(0) == (96, width)
    pictures = read_all(index)
    assert {picture.shape for picture in pictures} == {(96, width, 3)}
    assert [read_frame_number(picture) for picture in pictures] == list(range(60))


def test_pixels_are_made_square_before_a_picture_is_turned(tmp_path: Path) -> None:
    clip = draw_clip(
        tmp_path / "clip.mp4",
        rotation_degrees=90,
        width=96,
        height=160,
        pixel_shape=Fraction(2, 1),
        num_frames=3,
    )
    index = index_video(str(clip))
    assert index.size_of(0) == (320, 96)
    assert [read_frame_number(picture) for picture in read_all(index)] == [0, 1, 2]


def test_square_pixels_keep_an_odd_width(tmp_path: Path) -> None:
    clip = draw_clip(
        tmp_path / "odd.mkv", codec="ffv1", options={}, pix_fmt="yuv444p", width=161, num_frames=3
    )
    assert index_video(str(clip)).size_of(0) == (96, 161)


def test_pictures_that_become_too_large_are_refused(tmp_path: Path) -> None:
    clip = draw_clip(
        tmp_path / "wide.mkv", width=1920, height=1920, pixel_shape=Fraction(60, 1), num_frames=1
    )
    with pytest.raises(VideoLimitError, match=r"pictures of 115200x1920 exceed the limit of 64"):
        index_video(str(clip))


def test_a_turn_by_other_than_right_angles_is_named(tmp_path: Path) -> None:
    clip = draw_clip(
        tmp_path / "askew.mp4",
        rotation_degrees=30,
        lay_down=lambda picture: picture,
        num_frames=3,
    )
    index = index_video(str(clip))
    assert (index.rotation_degrees, index.mirrored) == (0, False)
    assert "a rotation of 30 degrees is ignored" in index.warnings[0]
    assert [read_frame_number(picture) for picture in read_all(index)] == [0, 1, 2]
