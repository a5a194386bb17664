import math

import pytest

from workers.video.live.clock import MediaClock, Resume


def placed(clock: MediaClock, *times: float | None, elapsed: float | None = None) -> list[object]:
    return [clock.place(time, elapsed) for time in times]


def a_clock(replay: float = 0.0, last: float | None = None, offset: float = 0.0) -> MediaClock:
    resume = None if last is None else Resume(last_seconds=last, offset_seconds=offset)
    return MediaClock(replay_seconds=replay, slack_seconds=10.0, resume=resume)


def test_times_are_those_of_the_source_wherever_they_begin() -> None:
    assert placed(a_clock(), 1.4, 1.44, 1.5) == [1.4, 1.44, 1.5]
    assert placed(a_clock(), -0.5, 0.0, 0.5) == [-0.5, 0.0, 0.5]


def test_a_picture_out_of_order_or_twice_is_left_out() -> None:
    assert placed(a_clock(), 5.0, 5.2, 5.1, 5.2, 5.3) == [5.0, 5.2, None, None, 5.3]


def test_a_clock_that_is_set_back_goes_on_by_the_last_step() -> None:
    clock = a_clock()
    assert placed(clock, 100.0, 100.5, 0.0, 0.25) == [100.0, 100.5, 101.0, 101.25]
    assert clock.num_resets == 1
    assert clock.end_seconds == 101.5


def test_missing_times_go_on_by_the_last_step_or_by_the_wall() -> None:
    assert placed(a_clock(), 1.0, 1.5, None, None) == [1.0, 1.5, 2.0, 2.5]
    assert placed(a_clock(), 1.0, None, elapsed=0.25) == [1.0, 1.25]


@pytest.mark.parametrize(
    ("replay", "first", "elapsed", "expected"),
    [
        (0.0, 64.0, 4.0, 64.0),  # the same timeline, 4 s later
        (0.0, 60.0, 4.0, 60.0),  # nothing was lost: the last picture once more
        (0.0, 0.0, 4.0, 64.0),  # a clock that begins anew
        (0.0, 5000.0, 4.0, 64.0),  # a clock that jumps
        (120.0, 30.0, 4.0, None),  # a playlist read again from an earlier segment
        (math.inf, 0.0, 4.0, None),  # a file read again from its beginning
    ],
)
def test_the_first_picture_of_the_next_connection(
    replay: float, first: float, elapsed: float, expected: float | None
) -> None:
    clock = a_clock(replay, last=60.0)
    assert clock.place(first, elapsed) == expected
    assert clock.num_resets == (expected is not None and first != expected)


def test_what_was_set_anew_stays_so_in_the_next_connection() -> None:
    clock = a_clock(last=60.0, offset=50.0)
    assert placed(clock, 12.0, 12.5, elapsed=2.0) == [62.0, 62.5]


def test_what_was_seen_before_is_passed_over_and_the_last_picture_taken_once_more() -> None:
    clock = a_clock(math.inf, last=60.0)
    times = [0.0, 20.0, 40.0, 59.96, 60.0, 60.04, 0.0]
    assert placed(clock, *times) == [None, None, None, None, 60.0, 60.04, pytest.approx(60.08)]
    assert clock.num_resets == 1


def test_pictures_before_the_first_with_a_time_are_not_placed() -> None:
    assert placed(a_clock(), None, None, 7.0, None) == [None, None, 7.0, pytest.approx(7.04)]
    assert placed(a_clock(), *[None] * 26)[24:] == pytest.approx([0.04, 0.08])
