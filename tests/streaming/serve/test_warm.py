"""Clips that are held: encoded once for all who ask, within a bound."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from streaming.serve.failures import RequestError
from streaming.serve.patience import ClientLeftError, Patience
from streaming.serve.warm import WarmClips
from workers.errors import VideoDecodeError
from workers.run.clip_job import Progress


def clips(**bounds: Any) -> WarmClips:
    return WarmClips(**{"max_bytes": 100, "max_clips": 3, "at_once": 2, **bounds})


def nothing(note: object) -> Any:
    """Encode a clip of which only that it is held is asked."""


def get(
    warm: WarmClips,
    name: str,
    num_bytes: int = 10,
    encode: Callable[[Any], Any] = nothing,
    show: Callable[[int], object] = print,
) -> bool:
    return warm.get(name, num_bytes, (f"/{name}",), encode, Patience(20), show)[1]


def test_those_used_longest_ago_make_room() -> None:
    warm = clips()
    assert not any(get(warm, name) for name in "abc")
    assert get(warm, "a")
    assert not get(warm, "d")
    assert [get(warm, name) for name in "acd"] == [True, True, True]
    assert not get(warm, "large", num_bytes=90)
    assert [get(warm, name) for name in ("large", "d")] == [True, True]


def test_a_clip_that_is_larger_than_all_is_refused_before_it_is_encoded() -> None:
    with pytest.raises(RequestError, match="tokens would take"):
        get(clips(), "a", num_bytes=101, encode=lambda note: pytest.fail("it was encoded"))


def test_what_is_deleted_is_forgotten() -> None:
    warm = clips()
    get(warm, "a")
    warm.forget("/a")
    assert not get(warm, "a")


@pytest.mark.parametrize("error", [None, VideoDecodeError("damaged")])
def test_whoever_asks_at_once_gets_what_the_first_gets(error: Exception | None) -> None:
    warm, asked, go_on = clips(), threading.Barrier(6), threading.Event()
    encoded = []

    def encode(note: object) -> Any:
        encoded.append(1)
        go_on.wait(20)
        if error is not None:
            raise error
        return None

    def ask(_: int) -> object:
        asked.wait(20)
        try:
            return get(warm, "a", encode=encode)
        except VideoDecodeError as failure:
            return failure

    with ThreadPoolExecutor(6) as threads:
        results = threads.map(ask, range(5))
        asked.wait(20)
        threading.Timer(0.2, go_on.set).start()
        found = list(results)
    expected = [False, True, True, True, True] if error is None else [error] * 5
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert len(encoded) == 1


def test_whoever_waits_hears_how_far_the_clip_is() -> None:
    warm, begun, heard = clips(), threading.Event(), threading.Event()
    told: dict[str, list[int]] = {"first": [], "second": []}

    def encode(note: Callable[[Progress], None]) -> Any:
        note(Progress(num_read=5))
        note(Progress(num_encoded=3))
        begun.set()
        assert heard.wait(20)
        note(Progress(num_encoded=2))

    def listen(frames_done: int) -> None:
        told["second"].append(frames_done)
        heard.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(get, warm, "a", encode=encode, show=told["first"].append)
        begun.wait(20)
        second = threads.submit(get, warm, "a", show=listen)
        assert (first.result(), second.result()) == (False, True)
    assert told["first"] == [0, 0, 3, 5]
    assert told["second"][0] == 3


def test_where_the_first_has_left_the_next_goes_on() -> None:
    warm, begun, leave = clips(), threading.Event(), threading.Event()

    def left(note: object) -> Any:
        begun.set()
        leave.wait(20)
        raise ClientLeftError

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(get, warm, "a", encode=left)
        begun.wait(20)
        second = threads.submit(get, warm, "a")
        threading.Timer(0.1, leave.set).start()
        assert not second.result()
        with pytest.raises(ClientLeftError):
            first.result()


def test_who_waits_does_so_no_longer_than_it_is_wanted() -> None:
    warm, begun, end = clips(), threading.Event(), threading.Event()

    def hang(note: object) -> Any:
        begun.set()
        end.wait(20)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(get, warm, "a", encode=hang)
        begun.wait(20)
        with pytest.raises(RequestError, match="took too long"):
            warm.get("a", 1, (), nothing, Patience(0.1), print)
        end.set()
        first.result()
