"""Events for readers who come late, are slow, or too many."""

import asyncio
import json
import threading
from typing import Any

import pytest

from streaming.serve.failures import RequestError
from streaming.serve.streams import event_log
from streaming.serve.streams.event_log import PULSE, EventLog


def read(content: bytes) -> tuple[str, Any]:
    """Return an event's kind and value."""
    fields = dict(line.split(": ", 1) for line in content.decode().splitlines() if line)
    return fields["event"], json.loads(fields["data"])


async def all_of(log: EventLog, after: int = 0) -> list[tuple[str, Any]]:
    return [read(content) async for content in log.read(after) if content != PULSE]


def filled(number: int, **settings: int) -> EventLog:
    log = EventLog(**settings)
    for n in range(1, number + 1):
        log.put("answer", {"n": n})
    return log


def test_who_comes_late_gets_what_is_there_and_is_told_what_is_not() -> None:
    log = filled(5, most_events=3)
    log.put("end", {}, is_last=True)
    log.put("answer", {"n": 6})  # after the last there are none
    events = asyncio.run(all_of(log))
    assert events == [
        ("lost", {"num_events": 3}),
        ("answer", {"n": 4}),
        ("answer", {"n": 5}),
        ("end", {}),
    ]
    assert asyncio.run(all_of(log, after=5)) == [("end", {})]
    assert asyncio.run(all_of(log, after=10**9)) == []
    assert log.is_over(6)
    assert not log.is_over(5)


def test_a_slow_reader_loses_the_oldest_and_holds_nobody_up() -> None:
    async def slow() -> list[tuple[str, Any]]:
        log, events = filled(1, most_events=2), []
        async for content in log.read(0):
            if content == PULSE:
                continue
            events.append(read(content))
            if events[-1] == ("answer", {"n": 1}):  # while this one is on its way
                for n in range(2, 9):
                    log.put("answer", {"n": n})
                log.put("end", {}, is_last=True)
        return events

    expected = [("answer", {"n": 1}), ("lost", {"num_events": 6}), ("answer", {"n": 8})]
    assert asyncio.run(slow()) == [*expected, ("end", {})]


def test_who_waits_is_woken_from_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait() -> list[tuple[str, Any]]:
        log = EventLog()
        reading = asyncio.create_task(all_of(log))
        await asyncio.sleep(0)
        thread = threading.Thread(target=log.put, args=("end", {}), kwargs={"is_last": True})
        thread.start()
        return await asyncio.wait_for(reading, 10)

    assert asyncio.run(wait()) == [("end", {})]


def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "_PULSE_SECONDS", 0.01)

    async def listen() -> list[bytes]:
        events = EventLog().read(0)
        return [await anext(events) for _ in range(3)]

    assert asyncio.run(listen()) == [PULSE] * 3


def test_readers_are_bounded_and_leave_room_when_they_go() -> None:
    async def crowd() -> None:
        log = EventLog(most_readers=1)
        first = log.read(0)
        await anext(first)
        with pytest.raises(RequestError, match="1 clients listen to this stream") as many:
            await anext(log.read(0))
        assert many.value.headers()["Retry-After"]
        await first.aclose()
        await anext(log.read(0))

    asyncio.run(crowd())
