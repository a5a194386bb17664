import importlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clips import X264_B_FRAMES, X265_OPEN_GOP, draw_clip, read_frame_number
from workers.errors import InputError, VideoDecodeError
from workers.messages import FrameChunk
from workers.video.decode import cut_segments, decode_segment, index_video
from workers.video.sampling import sample_frames

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
}


def read_clip(path: Path, decoder: str, num_frames: int) -> list[FrameChunk]:
    index = index_video(str(path))
    wanted = sample_frames(index, num_frames=num_frames)
    segments = cut_segments(index, wanted, decoder=decoder, frames_per_chunk=4, num_segments=2)
    return [chunk for segment in segments for chunk in decode_segment(segment)]


@needs_decord
@pytest.mark.parametrize("num_frames", [7, 100])
@pytest.mark.parametrize("name", READABLE)
def test_frames_and_times_equal_those_of_pyav(tmp_path: Path, name: str, num_frames: int) -> None:
    clip = draw_clip(tmp_path / name, **READABLE[name])
    by_decord = read_clip(clip, "decord", num_frames)
    by_pyav = read_clip(clip, "pyav", num_frames)
    for ours, reference in zip(by_decord, by_pyav, strict=True):
        assert ours.chunk_index == reference.chunk_index
        assert ours.warnings == reference.warnings
        np.testing.assert_array_equal(ours.frame_indices, reference.frame_indices)
        np.testing.assert_array_equal(ours.pts_seconds, reference.pts_seconds)
        np.testing.assert_array_equal(ours.frames, reference.frames)
    numbers = [read_frame_number(frame) for chunk in by_decord for frame in chunk.frames]
    assert numbers == sorted(set(numbers))


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
    with pytest.raises(InputError, match=r"--decoder decord needs .*use --decoder pyav"):
        read_clip(draw_clip(tmp_path / "plain.mp4", num_frames=3), "decord", 3)


def test_importing_the_video_reader_does_not_import_decord() -> None:
    code = "import sys, workers.video.decode; sys.exit('decord' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
