from dataclasses import replace

import numpy as np
import pytest

from workers.arrays import Int64Array
from workers.errors import InputError
from workers.video.sampling import at_keyframes, sample_frames, thin_frames
from workers.video.video_index import VideoIndex


def make_index(
    pts: Int64Array | list[int] | range, *, time_base: float = 0.001, seekable: bool = True
) -> VideoIndex:
    return VideoIndex(
        path="clip.mp4",
        codec="h264",
        width=16,
        height=16,
        rotation_degrees=0,
        time_base_seconds=time_base,
        pts=np.array(pts, np.int64),
        seekable=seekable,
    )


def steady(num_frames: int, *, first: int = 0, step: int = 40) -> VideoIndex:
    return make_index(range(first, first + num_frames * step, step))


def test_frames_at_the_centres_of_equal_bins() -> None:
    assert sample_frames(steady(100), num_frames=4).tolist() == [12, 37, 62, 87]
    assert sample_frames(steady(100), num_frames=1).tolist() == [50]


def test_the_first_time_of_a_clip_does_not_matter() -> None:
    late = sample_frames(steady(100, first=-7_000), num_frames=9)
    np.testing.assert_array_equal(late, sample_frames(steady(100), num_frames=9))


def test_the_frame_shown_is_the_last_that_has_begun() -> None:
    index = make_index([0, 100, 900, 1000, 1100])
    assert sample_frames(index, num_frames=2).tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_by_number_gives_exactly_as_many_distinct_frames_as_asked_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_pictures = int(rng.integers(1, 60))
    index = make_index(np.cumsum(rng.choice([1, 40, 900, 5000], num_pictures)))
    for num_frames in range(1, num_pictures + 3):
        chosen = sample_frames(index, num_frames=num_frames)
        assert len(chosen) == min(num_frames, num_pictures)
        assert np.all(np.diff(chosen) > 0)
        assert 0 <= chosen[0] <= chosen[-1] < num_pictures
        assert chosen.dtype == np.int64


def test_more_frames_than_there_are_gives_all_of_them_at_no_cost() -> None:
    assert sample_frames(steady(7), num_frames=10**15).tolist() == list(range(7))


def test_repeated_frames_are_pushed_to_their_neighbours() -> None:
    still = make_index([0, 40, 80, 10_000])
    assert sample_frames(still, num_frames=3).tolist() == [1, 2, 3]
    assert sample_frames(make_index([0, 10_000, 10_040, 10_080]), num_frames=3).tolist() == [
        0,
        1,
        2,
    ]


def test_by_rate() -> None:
    assert sample_frames(steady(100), fps=1).tolist() == [0, 25, 50, 75]
    assert sample_frames(steady(100), fps=25).tolist() == list(range(100))
    assert sample_frames(steady(100), fps=1e12).tolist() == list(range(100))
    assert sample_frames(steady(100), fps=0.01).tolist() == [0]


def test_by_rate_equals_a_loop_over_the_samples() -> None:
    pts = np.cumsum(np.random.default_rng(3).integers(1, 3000, 50))
    index = make_index(pts)
    seconds = (pts - pts[0]) / 1000
    end = seconds[-1] + np.median(np.diff(seconds))
    times = 2.5 + np.arange(0, 1000) / 1.7
    shown = {int(np.flatnonzero(seconds <= time)[-1]) for time in times[times < end]}
    start = pts[0] / 1000 + 2.5
    assert sample_frames(index, fps=1.7, start_seconds=start).tolist() == sorted(shown)


@pytest.mark.parametrize("ticks", [10_000, 30_000, 90_000])
def test_by_rate_is_exact_on_whole_seconds(ticks: int) -> None:
    index = make_index(np.arange(3600) * ticks, time_base=1 / ticks)
    np.testing.assert_array_equal(sample_frames(index, fps=1), np.arange(3600))


def test_a_window_of_time() -> None:
    index = steady(100)
    window = {"start_seconds": 1.0, "end_seconds": 2.0}
    assert sample_frames(index, fps=25, **window).tolist() == list(range(25, 50))
    assert sample_frames(index, num_frames=99, **window).tolist() == list(range(25, 50))
    assert sample_frames(index, num_frames=5, **window).tolist() == [27, 32, 37, 42, 47]
    assert sample_frames(index, num_frames=2, start_seconds=3.9).tolist() == [98, 99]


def test_a_window_begins_with_the_frame_already_shown() -> None:
    index = make_index([0, 1000, 2000])
    assert sample_frames(index, fps=1, start_seconds=0.5, end_seconds=0.7).tolist() == [0]
    assert sample_frames(index, num_frames=5, start_seconds=0.5, end_seconds=1.1).tolist() == [0, 1]


def test_a_window_is_one_of_source_time() -> None:
    late = steady(100, first=1430)
    assert sample_frames(late, fps=1, start_seconds=2.43).tolist() == [25, 50, 75]
    assert sample_frames(late, fps=25, start_seconds=2, end_seconds=2.11).tolist() == [14, 15, 16]
    assert sample_frames(late, num_frames=2, end_seconds=3.43).tolist() == [12, 37]
    times = late.pts_seconds(sample_frames(late, fps=25, start_seconds=3.0, end_seconds=4.0))
    assert 3.0 - 0.04 < times[0] <= 3.0
    assert times[-1] < 4.0


@pytest.mark.parametrize("start_seconds", [-5.0, 0.0, 1.0, 1.43])
def test_a_window_from_before_the_clip_begins_with_its_first_picture(start_seconds: float) -> None:
    late = steady(100, first=1430)
    chosen = sample_frames(late, fps=1, start_seconds=start_seconds)
    np.testing.assert_array_equal(chosen, sample_frames(late, fps=1))
    window = sample_frames(late, num_frames=9, start_seconds=start_seconds, end_seconds=2.43)
    np.testing.assert_array_equal(window, sample_frames(late, num_frames=9, end_seconds=2.43))


def test_an_end_before_a_late_clip_is_refused() -> None:
    with pytest.raises(InputError, match=r"--end 1 s is outside .* from 1\.430 to 5\.430 s"):
        sample_frames(steady(100, first=1430), fps=1, end_seconds=1.0)


def test_an_end_after_the_clip_is_the_end_of_the_clip() -> None:
    late = sample_frames(steady(100), num_frames=4, end_seconds=1e9)
    np.testing.assert_array_equal(late, sample_frames(steady(100), num_frames=4))


def test_the_last_frame_stays_for_a_typical_duration() -> None:
    index = make_index([0, 1000, 2000])
    assert sample_frames(index, num_frames=1, start_seconds=2.9).tolist() == [2]
    with pytest.raises(InputError, match=r"--start 3 s is outside the clip"):
        sample_frames(index, num_frames=1, start_seconds=3.0)


def test_one_picture_alone() -> None:
    assert sample_frames(steady(1), num_frames=8).tolist() == [0]
    assert sample_frames(steady(1), fps=30).tolist() == [0]


def test_a_jump_of_the_clock_does_not_swallow_the_sampling() -> None:
    pts = [*range(0, 1600, 40), *range(50_000_000, 50_001_600, 40)]
    broken = make_index(pts, seekable=False)
    assert sample_frames(broken, num_frames=8).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert sample_frames(broken, fps=1).tolist() == [0, 25, 50, 75]


def test_a_window_is_one_of_source_time_across_a_jump_as_well() -> None:
    pts = [*range(1000, 2600, 40), *range(50_000_000, 50_001_600, 40)]
    broken = make_index(pts, seekable=False)
    after = sample_frames(broken, fps=25, start_seconds=50_000.4, end_seconds=50_000.8)
    assert after.tolist() == list(range(50, 60))
    across = sample_frames(broken, fps=25, start_seconds=2.4, end_seconds=50_000.2)
    assert across.tolist() == list(range(35, 45))
    within = sample_frames(broken, fps=25, start_seconds=10_000, end_seconds=50_000.08)
    assert within.tolist() == [40, 41]


def test_slides_are_no_jumps_even_where_the_clock_may_jump() -> None:
    slides = make_index(range(0, 600_000, 15_000), seekable=False)
    assert sample_frames(slides, fps=1 / 30).tolist() == list(range(0, 40, 2))


def test_a_long_still_picture_of_a_sound_clip_keeps_its_time() -> None:
    slides = make_index([0, 40, 60_000, 60_040])
    assert sample_frames(slides, fps=0.1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of --num-frames and --fps"),
        ({"num_frames": 3, "fps": 1.0}, "give one of --num-frames and --fps"),
        ({"num_frames": 0}, "--num-frames is at least 1, not 0"),
        ({"fps": 0.0}, "--fps is a number above 0, not 0"),
        ({"fps": -1.0}, "--fps is a number above 0, not -1"),
        ({"fps": float("nan")}, "--fps is a number above 0, not nan"),
        ({"fps": float("inf")}, "--fps is a number above 0, not inf"),
        ({"fps": 1, "start_seconds": 4.0}, r"--start 4 s is outside .* from 0\.000 to 4\.000 s"),
        ({"fps": 1, "start_seconds": float("nan")}, "--start nan s is outside the clip"),
        ({"fps": 1, "start_seconds": 2, "end_seconds": 2}, "--end 2 s is not after --start 2 s"),
        ({"fps": 1, "end_seconds": 0}, r"--end 0 s is outside .* from 0\.000 to 4\.000 s"),
        ({"fps": 1, "end_seconds": float("nan")}, "--end nan s is outside the clip"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_frames(steady(100), **options)


def test_thinning_keeps_even_coverage() -> None:
    frames = np.arange(100, 200)
    assert thin_frames(frames, 4).tolist() == [112, 137, 162, 187]
    np.testing.assert_array_equal(thin_frames(frames, 100), frames)
    np.testing.assert_array_equal(thin_frames(frames, 1000), frames)
    for max_frames in range(1, 100):
        kept = thin_frames(frames, max_frames)
        assert len(kept) == max_frames
        assert np.all(np.diff(kept) > 0)


def test_thinning_to_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="max_frames = 0"):
        thin_frames(np.arange(3), 0)


def with_keyframes(index: VideoIndex, *positions: int) -> VideoIndex:
    return replace(index, keyframe_pts=index.pts[list(positions)])


def test_each_frame_gives_way_to_the_last_keyframe_up_to_it_once() -> None:
    index = with_keyframes(steady(100, first=7), 0, 30, 60, 90)
    frames = np.array([0, 29, 30, 31, 59, 61, 99])
    assert at_keyframes(index, frames).tolist() == [0, 30, 60, 90]
    assert at_keyframes(index, frames[3:4]).tolist() == [30]


@pytest.mark.parametrize("seed", range(20))
def test_keyframes_are_those_of_a_loop_over_the_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = make_index(np.cumsum(rng.integers(1, 90, 60)))
    keys = np.sort(rng.choice(60, rng.integers(1, 30), replace=False)).tolist()
    frames = np.sort(rng.choice(60, rng.integers(1, 60), replace=False))
    nearest = {max([key for key in keys if key <= each], default=each) for each in frames.tolist()}
    assert at_keyframes(with_keyframes(index, *keys), frames).tolist() == sorted(nearest)


def test_frames_stay_where_nothing_can_be_sought_or_no_keyframe_comes_before() -> None:
    frames = np.array([3, 50, 99])
    late = with_keyframes(steady(100), 40)
    assert at_keyframes(late, frames).tolist() == [3, 40]
    assert at_keyframes(replace(late, seekable=False), frames) is frames
    assert at_keyframes(steady(100), frames) is frames
