import threading

import numpy as np

from workers.video.live.buffer import TOO_FAST, EventBuffer
from workers.video.live.events import Away, End, Gap, LiveFrame


def frame(number: int) -> LiveFrame:
    return LiveFrame(picture=np.zeros((2, 2, 3), np.uint8), pts_seconds=float(number), tick=number)


def test_the_newest_frames_are_kept_and_what_is_lost_is_one_gap() -> None:
    buffer = EventBuffer(waits=False, most_frames=3)
    for number in range(10):
        buffer.put(frame(number))
    buffer.reach(9.5)
    events, reached = buffer.take(0)
    assert events[0] == Gap(start_seconds=0.0, end_seconds=6.0, wall_seconds=0.0, reason=TOO_FAST)
    assert [event.tick for event in events[1:] if isinstance(event, LiveFrame)] == [7, 8, 9]
    assert (reached, buffer.num_dropped) == (9.5, 7)


def test_what_is_no_frame_is_never_lost() -> None:
    buffer = EventBuffer(waits=False, most_frames=1)
    away = Away(reason="gone", pause_seconds=1.0)
    for event in (frame(0), away, frame(1), End()):
        buffer.put(event)
    events, _ = buffer.take(0)
    assert [type(event) for event in events] == [Gap, Away, LiveFrame, End]


def test_a_file_waits_until_there_is_room() -> None:
    buffer = EventBuffer(waits=True, most_frames=1)
    thread = threading.Thread(target=lambda: [buffer.put(frame(i)) for i in range(30)])
    thread.start()
    taken: list[int] = []
    while len(taken) < 30:
        events, _ = buffer.take(1)
        assert len(events) <= 2
        taken += [event.tick for event in events if isinstance(event, LiveFrame)]
    thread.join()
    assert taken == list(range(30))
    assert buffer.num_dropped == 0


def test_more_is_to_come_while_some_waits() -> None:
    buffer = EventBuffer(waits=False)
    for number in range(12):
        buffer.put(frame(number))
    buffer.reach(11.0)
    assert [(len(events), reached) for events, reached in [buffer.take(0), buffer.take(0)]] == [
        (8, None),
        (4, 11.0),
    ]


def test_closing_wakes_who_waits() -> None:
    buffer = EventBuffer(waits=True, most_frames=0)
    buffer.put(frame(0))
    thread = threading.Thread(target=lambda: buffer.put(frame(1)))
    thread.start()
    buffer.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
