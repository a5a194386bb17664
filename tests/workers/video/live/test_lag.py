import pytest

from workers.video.live.lag import Lag


def test_the_fastest_picture_is_on_time() -> None:
    lag = Lag()
    assert [lag.add(media, now) for media, now in [(0, 105), (1, 104), (2, 107)]] == [0, 0, 2]
    assert lag.origin_seconds == 103


def test_at_a_speed_media_time_passes_faster() -> None:
    lag = Lag(4.0)
    assert [lag.add(media, now) for media, now in [(0, 10), (4, 11), (8, 14)]] == [0, 0, 2]


def test_two_clocks_that_drift_apart_are_compared_anew() -> None:
    lag, lags = Lag(), []
    for second in range(0, 100_000, 10):
        lags.append(lag.add(second * (1 - 1e-3), second))
    assert max(lags) == pytest.approx(0.6, abs=0.05)  # two periods of 300 s, not a hundred
