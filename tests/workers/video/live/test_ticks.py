"""Pictures chosen as they come are those that are chosen of the whole file."""

import random

import numpy as np
import pytest

from workers.video.live.ticks import Ticks
from workers.video.sampling import sample_frames
from workers.video.video_index import VideoIndex

TICKS_PER_SECOND = 90_000


def make_index(pts: list[int]) -> VideoIndex:
    return VideoIndex(
        path="clip",
        codec="h264",
        width=16,
        height=16,
        rotation_degrees=0,
        time_base_seconds=1 / TICKS_PER_SECOND,
        pts=np.array(pts, np.int64),
        seekable=True,
    )


def chosen_online(index: VideoIndex, fps: float, end_seconds: float) -> list[int]:
    """Return the sampled pictures, each known once the next one has come, before a time."""
    times = index.pts_seconds(np.arange(index.num_frames)).tolist()
    tolerance = index.time_base_seconds / 1000
    ticks = Ticks(first_seconds=times[0], fps=fps, tolerance_seconds=tolerance)
    due = ticks.before(end_seconds)
    number = [ticks.before(time) for time in times] + [ticks.before(end_seconds)]
    sampled = [i for i in range(len(times)) if number[i] < number[i + 1]]
    return [i for i in sampled if number[i] < due and times[i] < end_seconds]


@pytest.mark.parametrize("fps", [0.3, 1.0, 7.0, 25.0, 40.0])
@pytest.mark.parametrize("first", [0, 131_072, 3_000_000_017])
def test_they_are_those_of_the_file_cut_there(fps: float, first: int) -> None:
    chance = random.Random(f"{fps} {first}")
    steps = [chance.choice([1, 3600, 3600, 3600, 3003, 90_000, 200_001]) for _ in range(150)]
    index = make_index([first + sum(steps[:i]) for i in range(len(steps) + 1)])
    start = first / TICKS_PER_SECOND
    last = float(index.pts_seconds(np.array([index.num_frames - 1]))[0])
    ends = [start + k * 0.5 for k in range(1, int(2 * (last - start)))] + [start + 1e-3]
    for end in [*ends, *(chance.uniform(start + 0.01, last) for _ in range(100))]:
        expected = sample_frames(index, fps=fps, end_seconds=end)
        assert chosen_online(index, fps, end) == expected.tolist(), end
