import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.clips import X264_B_FRAMES, X265_OPEN_GOP, destroy_bytes, draw_clip, read_frame_number
from workers.arrays import UInt8Array
from workers.errors import InputError
from workers.frames import PictureChunk
from workers.video.decode import read_pictures
from workers.video.images import ImageSource, open_images
from workers.video.index import index_video
from workers.video.segments import Segment, VideoSegment, cut_segments
from workers.video.video_index import VideoIndex

NUM_FRAMES = 60
CLIPS = {
    "plain.mp4": {},
    "open_gop.ts": {"options": {**X264_B_FRAMES, "x264-params": "open-gop=1"}},
    "open_gop_hevc.mp4": {"codec": "libx265", "options": X265_OPEN_GOP},
    "every_keyframe.avi": {"codec": "mjpeg", "options": {}, "pix_fmt": "yuvj420p"},
    "numbered.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "one_keyframe.mkv": {"gop": 250},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module", params=CLIPS)
def clip(request: pytest.FixtureRequest, folder: Path) -> Path:
    return draw_clip(folder / request.param, num_frames=NUM_FRAMES, **CLIPS[request.param])


@pytest.fixture(scope="module")
def index(folder: Path) -> VideoIndex:
    return index_video(str(draw_clip(folder / "clip.mp4", num_frames=NUM_FRAMES)))


def cut(
    source: VideoIndex | ImageSource,
    positions: np.ndarray,
    *,
    frames_per_chunk: int = 4,
    max_chunks: int = 1000,
    min_chunks: int | None = None,
) -> list[Segment]:
    return cut_segments(
        "clip",
        source,
        positions,
        decoder="pyav",
        frames_per_chunk=frames_per_chunk,
        max_chunks=max_chunks,
        min_chunks=min_chunks,
    )


def pictures_of(segment: Segment) -> list[UInt8Array]:
    return [picture for chunk in read_pictures(segment) for picture in chunk.pictures]


def long_index(keyframe_interval: int) -> VideoIndex:
    """Index ten hours at 30 pictures a second."""
    pts = np.arange(10 * 3600 * 30) * 512
    return VideoIndex(
        path="ten_hours.mp4",
        codec="h264",
        width=1920,
        height=1080,
        rotation_degrees=0,
        time_base_seconds=1 / 15360,
        pts=pts,
        seekable=True,
        warnings=("a warning",) * 1000,
        keyframe_pts=pts[::keyframe_interval],
    )


def test_segments_are_contiguous_balanced_and_hold_whole_chunks(index: VideoIndex) -> None:
    segments = cut(index, np.arange(1, 59), max_chunks=5)
    assert [segment.first_frame for segment in segments] == [0, 20, 40]
    assert [len(segment) for segment in segments] == [20, 20, 18]
    joined = np.concatenate([segment.pts for segment in segments])
    np.testing.assert_array_equal(joined, index.pts[1:59])


@pytest.mark.parametrize("num_frames", [1, 4, 5, 23, 60])
@pytest.mark.parametrize("max_chunks", [1, 2, 3, 7])
def test_no_segment_is_longer_than_asked_for(
    index: VideoIndex, num_frames: int, max_chunks: int
) -> None:
    segments = cut(index, np.arange(num_frames), max_chunks=max_chunks)
    num_chunks = [len(list(segment.chunks())) for segment in segments]
    assert max(num_chunks) <= max_chunks
    assert max(num_chunks) - min(num_chunks) <= 1
    assert sum(len(segment) for segment in segments) == num_frames
    starts = np.cumsum([0, *map(len, segments)])[:-1]
    assert [segment.first_frame for segment in segments] == starts.tolist()


@pytest.mark.parametrize("name", ["numbered.avi", "one_keyframe.mkv"])
def test_a_clip_that_is_read_from_its_beginning_is_one_segment(folder: Path, name: str) -> None:
    source = index_video(str(draw_clip(folder / f"whole_{name}", **CLIPS[name])))
    assert [len(segment) for segment in cut(source, np.arange(20), max_chunks=1)] == [20]


def pictures_decoded(positions: np.ndarray, keyframes: np.ndarray) -> int:
    """Count what one decoder reads for these pictures, seeking where that skips any."""
    total, after = 0, 0
    for position in positions.tolist():
        start = max([0, *keyframes[keyframes <= position].tolist()])
        total += position + 1 - max(start, after)
        after = position + 1
    return total


@pytest.mark.parametrize("first_keyframe", [0, 7])
@pytest.mark.parametrize("keyframe_interval", [1, 48, 250, 9000])
@pytest.mark.parametrize("stride", [1, 4, 15, 90])
def test_segments_are_cut_where_at_most_a_tenth_is_decoded_twice(
    stride: int, keyframe_interval: int, first_keyframe: int
) -> None:
    source = long_index(keyframe_interval)
    keyframes = np.searchsorted(source.pts, source.keyframe_pts) + first_keyframe
    source = replace(source, keyframe_pts=source.pts[keyframes[keyframes < source.num_frames]])
    positions = 3 + np.arange(401) * stride
    segments = cut(source, positions, max_chunks=8, min_chunks=2)
    np.testing.assert_array_equal(
        np.concatenate([segment.pts for segment in segments]), source.pts[positions]
    )
    assert all(segment.first_frame % 4 == 0 for segment in segments)
    assert all(len(segment) >= 8 for segment in segments)
    parts = [positions[s.first_frame : s.first_frame + len(s)] for s in segments]
    decoded = sum(pictures_decoded(part, keyframes) for part in parts)
    assert decoded <= 1.1 * pictures_decoded(positions, keyframes)
    if keyframe_interval < 8 * 4 * stride / 2:  # two keyframes in the longest segment
        assert max(map(len, segments)) <= 8 * 4 + 8
    if keyframe_interval <= stride:
        assert [*map(len, segments)] == [8] * 49 + [9]


def test_a_cut_goes_to_the_keyframe_rather_than_into_what_hangs_on_it() -> None:
    source = long_index(250)
    positions = np.arange(128) * 4  # the keyframe at 250 is before frame 63
    starts = [s.first_frame for s in cut(source, positions, max_chunks=8, min_chunks=2)]
    assert starts == [0, 64]
    evenly = [s.first_frame for s in cut(source, positions, max_chunks=8)]
    assert evenly == [0, 32, 64, 96]


@pytest.mark.parametrize("name", ["numbered.avi", "one_keyframe.mkv"])
def test_a_clip_read_from_its_beginning_is_not_cut_again(folder: Path, name: str) -> None:
    source = index_video(str(draw_clip(folder / f"again_{name}", **CLIPS[name])))
    assert len(cut(source, np.arange(20), min_chunks=1)) == 1


def test_no_frames_give_no_segments(index: VideoIndex) -> None:
    assert cut(index, np.arange(0)) == []
    assert cut(index, np.arange(0), min_chunks=1) == []


@pytest.mark.parametrize("counts", [(0, 1), (1, 0)])
def test_chunks_and_segments_are_at_least_one(index: VideoIndex, counts: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least one"):
        cut(index, np.arange(3), frames_per_chunk=counts[0], max_chunks=counts[1])


def test_a_slice_begins_anywhere_and_keeps_its_place(index: VideoIndex) -> None:
    (whole,) = cut(index, np.arange(3, 23))
    part = whole[5:12]
    assert (part.first_frame, len(part)) == (5, 7)
    np.testing.assert_array_equal(part.pts, index.pts[8:15])
    assert [chunk.first_frame for chunk in part.chunks()] == [5, 9]
    assert [len(chunk) for chunk in part.chunks()] == [4, 3]
    assert (part[2:3].first_frame, part[-1:].first_frame, len(part[9:])) == (7, 11, 0)
    assert repr(part) == "VideoSegment(clip, frames 5 to 11, pyav)"


@pytest.mark.parametrize("kind", ["video", "images"])
def test_a_segment_has_no_gaps(index: VideoIndex, kind: str) -> None:
    source = {"video": index, "images": open_images([np.zeros((2, 2, 3), np.uint8)] * 5)}[kind]
    (segment,) = cut(source, np.arange(5))
    with pytest.raises(ValueError, match="a segment is contiguous"):
        segment[::2]


@pytest.mark.parametrize("keyframe_interval", [1, 15, 250])
@pytest.mark.parametrize("stride", [1, 33_000])
def test_a_segment_of_a_long_clip_is_small(keyframe_interval: int, stride: int) -> None:
    whole = long_index(keyframe_interval)
    positions = 20_000 + np.arange(32) * stride
    (segment,) = cut(whole, positions)
    assert len(pickle.dumps(whole)) > 8_000_000
    assert len(pickle.dumps(segment)) < 100_000
    assert len(pickle.dumps(segment[3:4])) < 2_000
    np.testing.assert_array_equal(segment.pts, whole.pts[positions])


def test_a_cut_index_keeps_the_keyframes_that_reading_may_start_from() -> None:
    whole = long_index(250)
    (segment,) = cut(whole, np.array([500_123]))
    kept = np.searchsorted(whole.keyframe_pts, segment.index.keyframe_pts)
    back = [0, *(2000 - (2**step - 1) for step in range(10, -1, -1))]
    assert kept.tolist() == back


def test_a_numbered_segment_keeps_the_numbers_of_its_pictures(folder: Path) -> None:
    whole = index_video(str(draw_clip(folder / "count.avi", **CLIPS["numbered.avi"])))
    (segment,) = cut(whole, np.array([10, 20, 30]))
    for part, numbers in (
        (segment, [10, 20, 30]),
        (segment[1:], [20, 30]),
        (segment[1:][1:], [30]),
    ):
        assert part.index.numbers.tolist() == list(numbers)
        np.testing.assert_array_equal(part.index.pts, whole.pts[list(numbers)])


def test_a_segment_of_a_long_numbered_clip_is_small() -> None:
    whole = replace(long_index(250), numbered=True, seekable=False)
    (segment,) = cut(whole, np.array([5, 1_000_000]))
    assert len(pickle.dumps(segment)) < 2_000


def test_cut_segments_read_the_same_as_uncut_ones(clip: Path) -> None:
    whole = index_video(str(clip))
    for segment in cut(whole, np.arange(2, NUM_FRAMES, 3), max_chunks=1):
        assert isinstance(segment, VideoSegment)
        uncut = replace(segment, index=whole)
        for ours, reference in zip(pictures_of(segment), pictures_of(uncut), strict=True):
            np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize("start_share", [0.4, 0.5, 0.6])
@pytest.mark.parametrize("name", ["plain.mkv", "open_gop.ts"])
def test_cut_segments_of_a_damaged_clip_read_the_same_as_uncut_ones(
    folder: Path, name: str, start_share: float
) -> None:
    source = draw_clip(folder / f"sound_{name}", **CLIPS.get(name, {}))
    clip = destroy_bytes(
        source, folder / f"{start_share}_{name}", start_share=start_share, end_share=0.7
    )
    whole = index_video(str(clip))
    for segment in cut(whole, np.arange(1, whole.num_frames, 2), max_chunks=2):
        assert isinstance(segment, VideoSegment)
        chunks = [*read_pictures(segment)]
        uncut = [*read_pictures(replace(segment, index=whole))]
        assert [chunk.warnings for chunk in chunks] == [chunk.warnings for chunk in uncut]
        for ours, reference in zip(chunks, uncut, strict=True):
            np.testing.assert_array_equal(ours.frame_indices, reference.frame_indices)
            np.testing.assert_array_equal(np.array(ours.pictures), np.array(reference.pictures))


def slice_at_random(segment: Segment, rng: np.random.Generator) -> list[Segment]:
    """Cut a segment in two, each part of some again, at random places."""
    at = int(rng.integers(0, len(segment) + 1))
    pieces: list[Segment] = []
    for part in filter(len, (segment[:at], segment[at:])):
        again = len(part) > 3 and rng.random() < 0.6
        pieces += slice_at_random(part, rng) if again else [part]
    return pieces


@pytest.mark.parametrize("seed", range(4))
def test_however_a_clip_is_cut_each_picture_comes_once_and_in_order(clip: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = index_video(str(clip))
    positions = np.flatnonzero(rng.random(NUM_FRAMES) < rng.uniform(0.1, 1.0))
    segments = cut(
        source,
        positions,
        frames_per_chunk=int(rng.integers(1, 9)),
        max_chunks=int(rng.integers(1, 5)),
    )
    pieces = [piece for segment in segments for piece in slice_at_random(segment, rng)]
    chunks: list[PictureChunk] = [chunk for piece in pieces for chunk in read_pictures(piece)]
    numbers = [read_frame_number(picture) for chunk in chunks for picture in chunk.pictures]
    assert numbers == positions.tolist()
    frame_indices = [number for chunk in chunks for number in chunk.frame_indices.tolist()]
    assert frame_indices == list(range(len(positions)))
    seconds = np.concatenate([chunk.pts_seconds for chunk in chunks])
    np.testing.assert_array_equal(seconds, source.pts_seconds(positions))
