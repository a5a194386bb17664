"""The sample videos that are not part of the repository; skipped where they are not there."""

import time
from pathlib import Path

import numpy as np
import pytest

from tests.clips import decode_sequentially
from workers.errors import NoVideoStreamError, VideoDecodeError, VideoError, VideoOpenError
from workers.frames import PictureChunk
from workers.video.decode import read_pictures
from workers.video.index import index_video
from workers.video.sampling import sample_frames
from workers.video.segments import cut_segments
from workers.video.video_index import VideoIndex

SAMPLES = Path(__file__).parents[4] / "shared" / "videos"
pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason=f"no sample videos in {SAMPLES}")

GOOD = {
    "bear_720p_hevc.mp4": (82, 0),
    "bear_av1.webm": (82, 0),
    "bear_hevc_hdr10.mp4": (84, 0),
    "bear_vp9.webm": (82, 0),
    "fire_vfr_rot180.mp4": (25, 180),
    "flir_vfr_bframes.mp4": (84, 0),
    "iphone_rot90.mov": (120, 270),
    "makeup_mpeg4asp.avi": (164, 0),
    "nasa_multistream.mp4": (390, 0),
    "no_duration_vp9.webm": (74, 0),
    "pancake.mkv": (310, 0),
    "skatedog_frag_gap_portrait.mp4": (421, 0),
}
# Displayed size of pictures whose pixels are not square: 320 x 240 at 427:320.
NOT_SQUARE = {"bear_vp9.webm": (426, 240)}
# Pictures listed, and pictures that a sequential decode shows undamaged.
DAMAGED = {
    "corrupt_ff_keyframe.mp4": (82, 81),
    "corrupt_ff_mid.mkv": (147, 146),
    "duration_div10.mp4": (82, 82),
    "one_frame.mp4": (1, 1),
    "pts_jump.ts": (164, 164),
    "real_decord_corrupted.mp4": (50, 48),
    "trunc_mid.mkv": (150, 150),
    "trunc_mid.ts": (42, 41),
    "trunc_mid_faststart.mp4": (41, 41),
    "trunc_noindex.avi": (76, 76),
}
UNREADABLE: dict[str, tuple[type[VideoError], str]] = {
    "audio_only.m4a": (NoVideoStreamError, "holds no video stream"),
    "audio_only.mp4": (NoVideoStreamError, "holds no video stream"),
    "encrypted_cenc.mp4": (VideoDecodeError, "is encrypted"),
    "frag_init_only.mp4": (VideoDecodeError, "no pictures"),
    "real_corrupt.mkv": (VideoOpenError, "header is damaged"),
    "real_headers_no_data.mp4": (VideoDecodeError, "no pictures"),
    "real_zero_empty_stsc.mp4": (VideoDecodeError, "not one of its 2 pictures"),
    "text.mp4": (VideoOpenError, "is not a video"),
    "trunc_moov_missing.mp4": (VideoOpenError, "is not a video"),
    "zero.mp4": (VideoOpenError, "the file is empty"),
}


def read_chunks(
    index: VideoIndex, num_frames: int, max_chunks: int
) -> tuple[list[int], list[PictureChunk]]:
    wanted = sample_frames(index, num_frames=num_frames)
    assert len(wanted) == min(num_frames, index.num_frames)
    segments = cut_segments(
        "clip", index, wanted, decoder="pyav", frames_per_chunk=3, max_chunks=max_chunks
    )
    chunks = [chunk for segment in segments for chunk in read_pictures(segment)]
    found = np.concatenate([chunk.frame_indices for chunk in chunks])
    return wanted[found].tolist(), chunks


def check_equals_sequential(path: Path, index: VideoIndex, num_frames: list[int]) -> None:
    shown = decode_sequentially(path, stored_size=NOT_SQUARE.get(path.name))
    by_number = dict(enumerate(frame for _, frame in shown))
    by_time = dict(shown)
    for max_chunks, number in zip([100, 2, 1], num_frames, strict=True):
        positions, chunks = read_chunks(index, number, max_chunks)
        frames = [frame for chunk in chunks for frame in chunk.pictures]
        for position, frame in zip(positions, frames, strict=True):
            times = by_number.get(position), by_time.get(int(index.pts[position]))
            np.testing.assert_array_equal(frame, times[not index.numbered])


@pytest.mark.parametrize("name", GOOD)
def test_sound_clips_equal_a_sequential_decode(name: str) -> None:
    index = index_video(str(SAMPLES / name))
    assert (index.num_frames, index.rotation_degrees) == GOOD[name]
    check_equals_sequential(SAMPLES / name, index, [16, 8, 8])
    positions, chunks = read_chunks(index, 8, 2)
    assert len(positions) == 8
    assert all(chunk.warnings == () for chunk in chunks)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_clips_give_their_readable_part(name: str) -> None:
    num_listed, num_sound = DAMAGED[name]
    index = index_video(str(SAMPLES / "bad" / name))
    assert index.num_frames == num_listed
    positions, chunks = read_chunks(index, num_listed, 1000)
    warnings = [warning for chunk in chunks for warning in chunk.warnings]
    assert len(positions) == num_sound
    assert bool(warnings) == (num_listed > num_sound)
    check_equals_sequential(SAMPLES / "bad" / name, index, [64, 8, 8])


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_clips_give_a_typed_error_soon(name: str) -> None:
    error, reason = UNREADABLE[name]
    start = time.monotonic()
    with pytest.raises(error, match=rf"{name}: .*{reason}") as caught:
        index_video(str(SAMPLES / "bad" / name))
    assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - start < 20


def test_the_table_names_every_sample() -> None:
    listed = {*GOOD, *DAMAGED, *UNREADABLE, "README.md", "bad"}
    assert {path.name for folder in (SAMPLES, SAMPLES / "bad") for path in folder.iterdir()} <= (
        listed
    )
