"""How often a client is told how far its clip is."""

from functools import partial
from types import SimpleNamespace

import pytest

from streaming.serve import progress
from streaming.serve.progress import EncodeProgress, Teller


def test_it_is_told_a_few_times_a_second_and_of_the_last_frame_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[EncodeProgress] = []
    tell = Teller(5, told.append)
    for seconds, frames_done in ((0, 0), (0.1, 1), (0.3, 2), (0.9, 2), (1, 3), (1.1, 4), (1.2, 5)):
        clock = SimpleNamespace(monotonic=partial(float, 100 + seconds))
        monkeypatch.setattr(progress, "time", clock)
        tell(frames_done)
    assert [each.frames_done for each in told] == [0, 2, 3, 5]
    assert {each.num_frames for each in told} == {5}
