import importlib
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clips import (
    X264_B_FRAMES,
    X265_OPEN_GOP,
    copy_trimmed,
    draw_clip,
    draw_raw,
    read_frame_number,
)
from workers.errors import InputError, VideoDecodeError
from workers.frames import PictureChunk
from workers.video.decode import read_pictures
from workers.video.index import index_video
from workers.video.sampling import sample_frames
from workers.video.segments import cut_segments

has_decord = importlib.util.find_spec("decord") is not None
needs_decord = pytest.mark.skipif(not has_decord, reason="decord is not installed")

READABLE: Mapping[str, Mapping[str, Any]] = {
    "plain.mp4": {},
    "plain.mkv": {},
    "variable_rate.mp4": {"times_ms": [0, 40, 500, 510, 2000, 2040, *range(3000, 4600, 40)]},
    "late_start.mp4": {"times_ms": list(range(1430, 3430, 40))},
    "rotated90.mp4": {"rotation_degrees": 90},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"b": "200k"}},
}
REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "hevc.mp4": ({"codec": "libx265", "options": X265_OPEN_GOP}, "does not read hevc reliably"),
    "plain.ts": ({}, "returns wrong pictures from MPEG streams"),
    "b_frames.avi": ({"codec": "mpeg4", "options": {"bf": "2"}}, "needs a clip whose times"),
    "open_gop.mp4": (
        {"options": {**X264_B_FRAMES, "x264-params": "open-gop=1"}},
        "wrong pictures from open groups of pictures",
    ),
    "mirrored.mp4": (
        {"matrix": (-1, 0, 0, 1), "lay_down": lambda picture: picture[:, ::-1]},
        "does not mirror pictures",
    ),
    "wide_pixels.mp4": ({"pixel_shape": Fraction(2)}, "shows 160x96 instead of 320x96"),
}


def read_clip(path: Path, decoder: str, num_frames: int) -> list[PictureChunk]:
    index = index_video(str(path))
    wanted = sample_frames(index, num_frames=num_frames)
    segments = cut_segments(
        "clip", index, wanted, decoder=decoder, frames_per_chunk=4, max_chunks=5
    )
    return [chunk for segment in segments for chunk in read_pictures(segment)]


def check_equal(by_decord: list[PictureChunk], by_pyav: list[PictureChunk]) -> None:
    for ours, reference in zip(by_decord, by_pyav, strict=True):
        assert ours.clip_id == reference.clip_id
        assert ours.warnings == reference.warnings
        np.testing.assert_array_equal(ours.frame_indices, reference.frame_indices)
        np.testing.assert_array_equal(ours.pts_seconds, reference.pts_seconds)
        for picture, other in zip(ours.pictures, reference.pictures, strict=True):
            np.testing.assert_array_equal(picture, other)


@needs_decord
@pytest.mark.parametrize("num_frames", [7, 100])
@pytest.mark.parametrize("name", READABLE)
def test_frames_and_times_equal_those_of_pyav(tmp_path: Path, name: str, num_frames: int) -> None:
    clip = draw_clip(tmp_path / name, **READABLE[name])
    by_decord = read_clip(clip, "decord", num_frames)
    by_pyav = read_clip(clip, "pyav", num_frames)
    check_equal(by_decord, by_pyav)
    numbers = [read_frame_number(picture) for chunk in by_decord for picture in chunk.pictures]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == min(num_frames, index_video(str(clip)).num_frames)


@needs_decord
def test_an_uncompressed_clip_is_no_mpeg_stream(tmp_path: Path) -> None:
    clip = draw_raw(tmp_path / "raw.y4m", num_frames=20)
    check_equal(read_clip(clip, "decord", 20), read_clip(clip, "pyav", 20))


@needs_decord
@pytest.mark.parametrize("start", [Fraction(1, 25), Fraction(3, 4), Fraction(31, 25)])
def test_a_clip_trimmed_by_an_edit_list_is_refused(tmp_path: Path, start: Fraction) -> None:
    clip = copy_trimmed(draw_clip(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", start=start)
    with pytest.raises(VideoDecodeError, match=r"trimmed\.mp4: decord .* edit list .*pyav"):
        read_clip(clip, "decord", 5)


@needs_decord
@pytest.mark.parametrize("start", [Fraction(0), Fraction(12, 25), Fraction(-1, 2)])
def test_an_edit_list_that_cuts_no_picture_away_is_no_matter(
    tmp_path: Path, start: Fraction
) -> None:
    clip = copy_trimmed(draw_clip(tmp_path / "whole.mp4"), tmp_path / "moved.mp4", start=start)
    check_equal(read_clip(clip, "decord", 100), read_clip(clip, "pyav", 100))


@needs_decord
@pytest.mark.parametrize("name", REFUSED)
def test_what_decord_gets_wrong_is_refused(tmp_path: Path, name: str) -> None:
    clip = draw_clip(tmp_path / name, **REFUSED[name][0])
    message = rf"{name}: decord .*{REFUSED[name][1]}.*; use --decoder pyav"
    with pytest.raises(VideoDecodeError, match=message):
        read_clip(clip, "decord", 5)


def test_a_missing_decord_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(InputError, match=r"pip install 'mr-stream\[decord\]'.*use --decoder pyav"):
        read_clip(draw_clip(tmp_path / "plain.mp4", num_frames=3), "decord", 3)


def test_importing_the_video_reader_does_not_import_decord() -> None:
    code = "import sys, workers.video.decode; sys.exit('decord' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
