import os
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from workers.video.live.clock import Resume
from workers.video.live.order import ReadOrder
from workers.video.live.ticks import Ticks
from workers.video.live.wire import SilenceError, receive, send

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_what_is_told_comes_as_it_was_told(pipe: Pipe) -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    send(pipe[1], {"kind": "frame", "seconds": 0.1}, picture)
    send(pipe[1], {"kind": "pulse"})
    os.close(pipe[1])
    assert receive(pipe[0], 1) == ({"kind": "frame", "seconds": 0.1}, picture.tobytes())
    assert receive(pipe[0], 1) == ({"kind": "pulse"}, b"")
    assert receive(pipe[0], 1) is None


def test_silence_is_told_also_within_a_message(pipe: Pipe) -> None:
    with pytest.raises(SilenceError):
        receive(pipe[0], 0.01)
    os.write(pipe[1], struct.pack("<II", 2, 100) + b"{}")
    with pytest.raises(SilenceError):
        receive(pipe[0], 0.01)


def test_a_message_that_is_cut_off_is_the_end(pipe: Pipe) -> None:
    os.write(pipe[1], struct.pack("<II", 2, 100) + b"{}" + bytes(99))
    os.close(pipe[1])
    assert receive(pipe[0], 1) is None


def test_what_is_no_message_is_refused_before_memory_is_taken_for_it(pipe: Pipe) -> None:
    os.write(pipe[1], b"\xff" * 8)
    with pytest.raises(ValueError, match=r"^a message of 4294967295 and 4294967295 bytes$"):
        receive(pipe[0], 1)


@pytest.mark.parametrize("stands", [True, False])
def test_an_order_is_one_line(stands: bool) -> None:
    order = ReadOrder(source="rtsp://a/b\n c", fps=0.1, speed=2.0)
    if stands:
        told = {
            "first_seconds": 0.1,
            "tolerance_seconds": 1e-5,
            "last_seconds": 12.3,
            "offset_seconds": -0.7,
            "num_settled": 3,
            "arrived": 99.5,
        }
        order = order.after(told)
        assert order.ticks == Ticks(first_seconds=0.1, fps=0.1, tolerance_seconds=1e-5)
        assert order.resume == Resume(last_seconds=12.3, offset_seconds=-0.7)
    assert "\n" not in order.to_text()
    assert ReadOrder.from_text(order.to_text()) == order
