import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.clips import (
    X264_B_FRAMES,
    X265_OPEN_GOP,
    cut_file,
    decode_sequentially,
    destroy_bytes,
    draw_clip,
    join_files,
    paint_frame,
    read_frame_number,
)
from workers.errors import InputError, VideoOpenError, VideoTimeoutError
from workers.frames import PictureChunk
from workers.video.decode import read_pictures
from workers.video.index import index_video
from workers.video.sampling import sample_frames
from workers.video.segments import VideoSegment, cut_segments
from workers.video.video_index import VideoIndex

X264_OPEN_GOP = {**X264_B_FRAMES, "x264-params": "open-gop=1"}
VARIABLE_RATE_MS = [0, 40, 80, 500, 510, 520, 2000, 2040, 5000, 5033, *range(6000, 8000, 40)]

CLIPS = {
    "gop12.mp4": {},
    "gop250.mp4": {"gop": 250},
    "open_gop_hevc.mp4": {"codec": "libx265", "options": X265_OPEN_GOP},
    "open_gop_hevc.ts": {"codec": "libx265", "options": X265_OPEN_GOP},
    "open_gop.mp4": {"options": X264_OPEN_GOP},
    "open_gop.ts": {"options": X264_OPEN_GOP},
    "plain.ts": {},
    "plain.mkv": {},
    "variable_rate.mp4": {"times_ms": VARIABLE_RATE_MS},
    "variable_rate.mkv": {"times_ms": VARIABLE_RATE_MS},
    "late_start.mp4": {"times_ms": list(range(1430, 3830, 40))},
    "b_frames.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "plain.avi": {"codec": "mpeg4", "options": {}},
    "pictures.avi": {"codec": "mjpeg", "options": {}, "pix_fmt": "yuvj420p"},
    "open_gop.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "interlaced.ts": {"options": {**X264_B_FRAMES, "flags": "+ildct+ilme"}},
    "alt_ref.webm": {"codec": "libvpx-vp9", "options": {"lag-in-frames": "16", "b": "200k"}},
    "no_times.h264": {},
    "rotated90.mp4": {"rotation_degrees": 90},
    "rotated180.mp4": {"rotation_degrees": 180},
    "rotated270.mp4": {"rotation_degrees": 270},
}
NUM_FRAMES = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module", params=CLIPS)
def clip(request: pytest.FixtureRequest, folder: Path) -> Path:
    return draw_clip(folder / request.param, num_frames=NUM_FRAMES, **CLIPS[request.param])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_clip(tmp_path_factory.mktemp("plain") / "plain.mp4", num_frames=NUM_FRAMES)


def read_chunks(
    index: VideoIndex, wanted: np.ndarray, *, max_chunks: int = 1000, frames_per_chunk: int = 4
) -> list[PictureChunk]:
    segments = cut_segments(
        "clip",
        index,
        wanted,
        decoder="pyav",
        frames_per_chunk=frames_per_chunk,
        max_chunks=max_chunks,
    )
    return [chunk for segment in segments for chunk in read_pictures(segment)]


def read_numbers(chunks: list[PictureChunk]) -> list[int]:
    return [read_frame_number(picture) for chunk in chunks for picture in chunk.pictures]


@pytest.mark.parametrize("number", [0, 1, 513, 1023])
@pytest.mark.parametrize("size", [(160, 96), (96, 160), (641, 359)])
def test_painted_numbers_can_be_read(number: int, size: tuple[int, int]) -> None:
    frame = paint_frame(number, width=size[0], height=size[1])
    assert frame.shape == (size[1], size[0], 3)
    assert read_frame_number(frame) == number


@pytest.mark.parametrize("max_chunks", [1, 3, 1000])
@pytest.mark.parametrize("num_frames", [7, NUM_FRAMES])
def test_every_kind_of_clip_gives_the_pictures_asked_for(
    clip: Path, num_frames: int, max_chunks: int
) -> None:
    index = index_video(str(clip))
    wanted = sample_frames(index, num_frames=num_frames)
    chunks = read_chunks(index, wanted, max_chunks=max_chunks)
    assert index.num_frames == NUM_FRAMES
    assert len(wanted) == num_frames
    assert read_numbers(chunks) == wanted.tolist()
    frame_indices = np.concatenate([chunk.frame_indices for chunk in chunks])
    assert frame_indices.tolist() == list(range(num_frames))
    pts_seconds = np.concatenate([chunk.pts_seconds for chunk in chunks])
    np.testing.assert_allclose(pts_seconds, index.pts[wanted] * index.time_base_seconds)
    assert [warning for chunk in chunks for warning in chunk.warnings] == []


def test_pictures_equal_a_sequential_decode_bit_for_bit(clip: Path) -> None:
    index = index_video(str(clip))
    wanted = sample_frames(index, num_frames=9)
    expected = decode_sequentially(clip)
    chunks = read_chunks(index, wanted, max_chunks=1)
    frames = [frame for chunk in chunks for frame in chunk.pictures]
    for position, frame in zip(wanted.tolist(), frames, strict=True):
        np.testing.assert_array_equal(frame, expected[position][1])


def test_times_are_those_of_the_source(folder: Path) -> None:
    index = index_video(str(draw_clip(folder / "times.mp4", times_ms=VARIABLE_RATE_MS)))
    chunks = read_chunks(index, np.arange(index.num_frames))
    pts_seconds = np.concatenate([chunk.pts_seconds for chunk in chunks])
    np.testing.assert_allclose(pts_seconds, np.array(VARIABLE_RATE_MS) / 1000)


def test_chunks_hold_the_frames_of_their_number(plain: Path) -> None:
    index = index_video(str(plain))
    chunks = read_chunks(index, np.arange(0, 60, 6), max_chunks=2, frames_per_chunk=3)
    assert {chunk.clip_id for chunk in chunks} == {"clip"}
    assert [chunk.frame_indices.tolist() for chunk in chunks] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9],
    ]
    assert [picture.shape for picture in chunks[0].pictures] == [(96, 160, 3)] * 3


def test_no_frames_give_no_segments(plain: Path) -> None:
    index = index_video(str(plain))
    assert read_chunks(index, np.arange(0)) == []


def whole_segment(clip: Path, *, decoder: str = "pyav", frames_per_chunk: int = 60) -> VideoSegment:
    index = index_video(str(clip))
    (segment,) = cut_segments(
        "clip",
        index,
        np.arange(index.num_frames),
        decoder=decoder,
        frames_per_chunk=frames_per_chunk,
        max_chunks=index.num_frames,
    )
    assert isinstance(segment, VideoSegment)
    return segment


def test_an_unknown_decoder_is_refused_by_name(plain: Path) -> None:
    with pytest.raises(InputError, match="unknown decoder 'vlc'; --decoder takes one of: pyav"):
        read_pictures(whole_segment(plain, decoder="vlc"))


@pytest.mark.parametrize("max_chunks", [1, 4])
@pytest.mark.parametrize("name", ["gop12.mp4", "plain.ts", "plain.mkv", "open_gop.ts"])
def test_a_destroyed_middle_costs_its_own_pictures_only(
    folder: Path, name: str, max_chunks: int
) -> None:
    source = draw_clip(folder / f"whole_{name}", **CLIPS[name])
    broken = destroy_bytes(source, folder / f"broken_{name}", start_share=0.5, end_share=0.505)
    expected = dict(decode_sequentially(broken))
    index = index_video(str(broken))
    chunks = read_chunks(index, np.arange(index.num_frames), max_chunks=max_chunks)
    found = np.concatenate([chunk.frame_indices for chunk in chunks])
    frames = [frame for chunk in chunks for frame in chunk.pictures]
    assert 50 < len(frames) <= index.num_frames
    for pts, frame in zip(index.pts[found].tolist(), frames, strict=True):
        np.testing.assert_array_equal(frame, expected[pts])


def test_a_missing_picture_is_named_and_not_replaced(folder: Path) -> None:
    source = draw_clip(folder / "whole.mp4")
    broken = destroy_bytes(source, folder / "broken.mp4", start_share=0.4, end_share=0.5)
    index = index_video(str(broken))
    chunks = read_chunks(index, np.arange(index.num_frames), frames_per_chunk=60)
    assert len(chunks[0]) < 60
    (warning,) = chunks[0].warnings
    missing = np.setdiff1d(np.arange(60), chunks[0].frame_indices)
    times = ", ".join(f"{number / 25:.3f}" for number in missing)
    assert f"{len(missing)} sampled frames cannot be decoded, shown at {times} s" in warning
    assert "broken packets" in warning


def test_a_chunk_without_a_picture_is_still_yielded(folder: Path) -> None:
    source = draw_clip(folder / "whole_gap.mp4", gop=250)
    broken = destroy_bytes(source, folder / "gap.mp4", start_share=0.3, end_share=0.6)
    index = index_video(str(broken))
    chunks = read_chunks(index, np.arange(index.num_frames), frames_per_chunk=2)
    empty = [chunk for chunk in chunks if len(chunk) == 0]
    assert len(chunks) == 30
    assert empty
    assert empty[0].pictures == ()
    assert "2 sampled frames cannot be decoded" in empty[0].warnings[0]


def test_a_change_of_size_is_scaled_to_the_first(folder: Path) -> None:
    small = draw_clip(folder / "small.ts", num_frames=40)
    times_ms = list(range(3000, 4600, 40))
    large = draw_clip(
        folder / "large.ts", width=240, height=144, times_ms=times_ms, first_number=40
    )
    index = index_video(str(join_files([small, large], folder / "sizes.ts")))
    chunks = read_chunks(index, np.arange(index.num_frames), max_chunks=5)
    assert index.num_frames == 80
    assert {picture.shape for chunk in chunks for picture in chunk.pictures} == {(96, 160, 3)}
    assert read_numbers(chunks) == list(range(80))


def test_only_one_chunk_of_frames_is_held(folder: Path) -> None:
    clip = draw_clip(folder / "memory.mp4", width=640, height=384, num_frames=40, gop=10)
    index = index_video(str(clip))
    segment = whole_segment(clip, frames_per_chunk=8)
    tracemalloc.start()
    for chunk in read_pictures(segment):
        assert len(chunk) == 8
        del chunk
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 8 * index.frame_bytes


def test_reading_stops_when_nothing_comes(plain: Path) -> None:
    with pytest.raises(VideoTimeoutError, match=r"plain\.mp4: nothing came of reading for 1e-06 s"):
        list(read_pictures(whole_segment(plain), timeout_seconds=1e-6))


def test_whoever_keeps_a_chunk_for_long_uses_up_no_time(plain: Path) -> None:
    chunks = read_pictures(whole_segment(plain, frames_per_chunk=30), timeout_seconds=0.5)
    next(chunks)
    time.sleep(0.7)
    assert len(next(chunks)) == 30


def test_a_file_that_went_away_is_an_open_error(plain: Path, folder: Path) -> None:
    copy = cut_file(plain, folder / "gone.mp4", keep_share=1)
    index = index_video(str(copy))
    copy.unlink()
    with pytest.raises(VideoOpenError, match=r"gone\.mp4: No such file"):
        read_chunks(index, np.arange(3))


def test_many_readers_leave_no_open_file(plain: Path) -> None:
    index = index_video(str(plain))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        index_video(str(plain))
    for _ in range(20):
        read_chunks(index, np.array([5, 40]), max_chunks=1, frames_per_chunk=1)
    next(read_pictures(whole_segment(plain, frames_per_chunk=2)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lack_of_memory_is_no_damage(tmp_path: Path) -> None:
    clip = draw_clip(tmp_path / "large.mp4", num_frames=6, width=3200, height=1920)
    code = f"""
import resource
import numpy as np
from workers.process import limit_memory
from workers.video.decode import read_pictures
from workers.video.segments import cut_segments
from workers.video.source import open_source
source = open_source({str(clip)!r})
(segment,) = cut_segments(
    "clip", source, np.arange(6), decoder="pyav", frames_per_chunk=6, max_chunks=1
)
limit_memory(2**30)
most, _ = resource.getrlimit(resource.RLIMIT_DATA)
for mib in [0, 500, *range(700, 1024, 12)]:
    resource.setrlimit(resource.RLIMIT_DATA, (most - mib * 2**20, resource.RLIM_INFINITY))
    try:
        print(sum(map(len, read_pictures(segment))))
    except MemoryError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outcomes = done.stdout.split()
    assert set(outcomes) == {"6", "refused"}
