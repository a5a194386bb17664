"""Streams as a resource: their life, their limits, and attacks on both."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streaming.flags import change
from streaming.options import Options
from streaming.result import Answer
from streaming.serve.streams.request import read_stream
from streaming.watch import asker
from streaming.watch.live_clip import LiveClip
from tests.clips import draw_clip
from tests.sources import Content
from tests.sources import serve as serve_contents
from tests.streaming.serve.conftest import about
from tests.streaming.serve.streams.conftest import (
    Counted,
    file_url,
    read_events,
    serve,
    wait_for,
)
from tests.streaming.serve.stub import make_answer
from workers.errors import ModelError, StreamError, WorkerError
from workers.video.live.events import Away

SLOW = {"mr_stream": {"speed": 0.01}}
AT_ONCE = {"mr_stream": {"speed": 0, "fps": 5}}


@pytest.fixture(scope="module")
def contents() -> dict[str, Content]:
    """What a server of live sources has, by path."""
    return {}


@pytest.fixture(scope="module")
def source(contents: dict[str, Content]) -> Iterator[str]:
    """The address of a server of live sources."""
    with serve_contents(contents) as address:
        yield address


@pytest.fixture(scope="module")
def server(folder: Path, source: str) -> Iterator[Counted]:
    """A server that may open what is below live, for two streams."""
    allowed = f"{source.replace('//', '//viewer:s3cret@')}/live"
    limits = {"max_streams": 2, "max_pixels": 20_000}
    with serve(media_folder=str(folder), allow_stream=allowed, **limits) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left(server: Counted) -> Iterator[None]:
    yield
    for stream in server.http.get("/v1/streams").json()["data"]:
        assert server.http.delete(f"/v1/streams/{stream['id']}").json()["deleted"]


def test_a_stream_comes_is_told_of_and_goes(server: Counted, folder: Path) -> None:
    opened = server.open(file_url(folder), name="the door", **SLOW)
    assert opened.status_code == 200, opened.text
    stream = opened.json()
    assert stream["id"].startswith("stream-")
    assert (stream["object"], stream["name"], stream["status"]) == (
        "stream", "the door", "connecting",
    )  # fmt: skip
    live = wait_for(server.http, stream["id"], lambda told: told["status"] == "live")
    assert live["created_at"] == stream["created_at"]
    assert server.http.get("/v1/streams").json()["data"][0]["id"] == stream["id"]
    process = server.streams.get(stream["id"])._source._process
    assert process is not None
    os.kill(process.pid, 0)
    assert "\nmr_stream:streams 1.0" in server.http.get("/metrics").text
    gone = server.http.delete(f"/v1/streams/{stream['id']}")
    assert gone.json() == {"id": stream["id"], "object": "stream", "deleted": True}
    wait_until_gone(process.pid)
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        missing = server.http.request(method, f"/v1/streams/{stream['id']}{path}")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "stream_not_found")
    asked = server.http.post("/v1/chat/completions", json={"messages": [about(stream["id"])]})
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "stream_not_found")


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_that_has_ended_is_kept_until_it_is_deleted(server: Counted, folder: Path) -> None:
    before = server.streams.totals()
    stream_id = server.open(file_url(folder), **AT_ONCE).json()["id"]
    ((kind, value),) = read_events(server.http, stream_id)
    assert (kind, value) == ("end", {"status": "ended", "error": None, "reached_seconds": 4.0})
    told = server.http.get(f"/v1/streams/{stream_id}").json()
    assert (told["status"], told["reached_seconds"], told["num_seen_frames"]) == ("ended", 4.0, 20)
    assert 0 < told["num_held_tokens"] == server.engine.num_tokens <= told["max_held_tokens"]
    assert told["max_held_tokens"] <= 4 * 64
    again = server.http.get(f"/v1/streams/{stream_id}/events", headers={"Last-Event-ID": "1"})
    assert (again.status_code, again.content) == (204, b"")
    server.http.delete(f"/v1/streams/{stream_id}")
    assert server.engine.num_tokens == 0
    assert server.streams.totals() == (0, before[1] + 20, before[2])


def test_a_source_that_gives_up_has_failed_and_nobody_hears_its_password(
    server: Counted, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is refused by the camera: what FFmpeg says of that is for the log, but no address."""
    address = f"{source.replace('//', '//me:pa55word@')}/live/door"
    quick = {"give_up": 2, "silence": 20}
    stream_id = server.open(address, mr_stream=quick).json()["id"]
    failed = wait_for(server.http, stream_id, lambda told: told["status"] == "failed")
    assert failed["name"] == f"{source}/live/door"
    assert failed["error"] == f"{source}/live/door: no picture for 2 s"
    events = read_events(server.http, stream_id)
    assert [value["error"] for kind, value in events if kind == "end"] == [failed["error"]]
    out, log = capfd.readouterr()
    assert f"{stream_id}: failed: {source}/live/door: no picture for 2 s (" in log
    for secret in ("pa55word", "me:", "s3cret", "viewer"):
        assert secret not in out + log + str(failed) + str(events)


def test_a_source_over_http_that_dies_has_a_gap_that_is_told(
    server: Counted, folder: Path, contents: dict[str, Content], source: str
) -> None:
    data = (folder / "numbers.mkv").read_bytes()
    contents["live/numbers.mkv"] = Content(data, fault_at=len(data) // 2)
    stream_id = server.open(f"{source}/live/numbers.mkv", mr_stream={"fps": 5}).json()["id"]
    events = read_events(server.http, stream_id)
    assert [kind for kind, _ in events] == ["gap", "end"]
    assert events[0][1]["reason"] == "the connection ended"
    assert events[1][1]["status"] == "ended"
    told = server.http.get(f"/v1/streams/{stream_id}").json()
    assert (told["num_seen_frames"], told["num_gaps"]) == (20, 1)
    assert told["gaps"] == [events[0][1]]


ELSEWHERE = {
    "another path": "{source}/secret/numbers.mkv",
    "a way up": "{source}/live/../secret/numbers.mkv",
    "another host": "http://169.254.169.254/live",
    "another scheme": "rtsp://127.0.0.1/live",
    "a file": "file:///etc/passwd",
    "beside the folder": "file://{folder}/../numbers.mkv",
    "a path": "{folder}/numbers.mkv",
    "stdin": "-",
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_nothing_else_is_opened(
    server: Counted, folder: Path, contents: dict[str, Content], source: str, what: str
) -> None:
    contents["secret/numbers.mkv"] = Content((folder / "numbers.mkv").read_bytes())
    refused = server.open(ELSEWHERE[what].format(source=source, folder=folder))
    assert refused.status_code == 403, refused.text
    assert contents["secret/numbers.mkv"].num_requests == 0
    assert server.http.get("/v1/streams").json()["data"] == []


def test_there_are_so_many_and_no_more(server: Counted, folder: Path) -> None:
    opened = [server.open(file_url(folder), **SLOW) for _ in range(3)]
    assert [answer.status_code for answer in opened] == [200, 200, 429]
    assert opened[2].json()["error"]["message"].startswith("2 streams are kept here at a time")
    assert int(opened[2].headers["retry-after"]) > 0


ASKED = {"questions": [{"question": "?", "every": 0.5}], **AT_ONCE}


class Model:
    """Answers standing questions as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Any], Any]) -> None:
        self.asked = threading.Event()
        self.answer = answer
        monkeypatch.setattr(asker, "ask", self.ask)
        monkeypatch.setattr(LiveClip, "watch", lambda clip: None)

    def ask(self, *_: Any, check: Callable[[], None], **__: Any) -> Iterator[Answer]:
        self.asked.set()
        self.answer(check)
        yield make_answer("yes")


def test_a_deleted_stream_asks_no_further(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(check: Callable[[], None]) -> None:
        while True:
            check()
            time.sleep(0.01)

    model = Model(monkeypatch, answer)
    with serve(media_folder=str(folder)) as running:
        stream_id = running.open(file_url(folder), **ASKED).json()["id"]
        assert model.asked.wait(20)
        thread = running.streams.get(stream_id).thread
        running.http.delete(f"/v1/streams/{stream_id}")
        thread.join(20)
        assert not thread.is_alive()


def test_a_deleted_stream_takes_its_place_until_its_work_has_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    model = Model(monkeypatch, lambda check: go_on.wait(20))
    with serve(media_folder=str(folder), max_streams=1) as running:
        stream_id = running.open(file_url(folder), **ASKED).json()["id"]
        assert model.asked.wait(20)
        thread = running.streams.get(stream_id).thread
        running.http.delete(f"/v1/streams/{stream_id}")
        assert running.http.get("/v1/streams").json()["data"] == []
        assert running.open(file_url(folder), **ASKED).status_code == 429
        go_on.set()
        thread.join(20)
        assert running.open(file_url(folder), **ASKED).status_code == 200


@pytest.mark.parametrize("error", [ModelError("broke off"), WorkerError("died")])
def test_a_stream_goes_on_without_an_answer_that_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: StreamError
) -> None:
    failures = iter([error])

    def answer(_: Any) -> None:
        for failure in failures:
            raise failure

    Model(monkeypatch, answer)
    with serve(media_folder=str(folder)) as running:
        stream_id = running.open(file_url(folder), **ASKED).json()["id"]
        events = read_events(running.http, stream_id)
    (_, missed), *answers, (_, end) = events
    assert missed.keys() == {"source", "media_seconds", "error"}
    assert (missed["source"], missed["media_seconds"]) == ("numbers.mkv", 0.5)
    assert missed["error"].startswith("the answer failed here")
    assert [value["answer"] for _, value in answers] == ["yes"] * 7
    assert end["status"] == "ended"


def test_a_stream_of_which_no_answer_comes_has_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_: Any) -> None:
        raise ModelError("cannot be reached")

    Model(monkeypatch, answer)
    body = {**AT_ONCE, "questions": [{"question": "?", "every": 0.2}]}
    with serve(media_folder=str(folder)) as running:
        stream_id = running.open(file_url(folder), **body).json()["id"]
        events = read_events(running.http, stream_id)
    assert [kind for kind, _ in events] == ["answer"] * 9 + ["end"]
    assert events[-1][1]["status"] == "failed"


def test_pictures_that_are_too_large_end_a_stream(server: Counted, folder: Path) -> None:
    draw_clip(folder / "large.mkv", num_frames=2, width=160, height=128)
    stream_id = server.open(file_url(folder, "large.mkv"), **AT_ONCE).json()["id"]
    ((_, value),) = read_events(server.http, stream_id)
    assert value["error"] == "pictures of 160x128 exceed the 20,000 pixels taken here"
    assert server.engine.num_tokens == 0


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "more tokens": ({"mr_stream": {"headroom": 100}}, "a stream holds at most 256 tokens here"),
    "a larger budget": ({"mr_stream": {"budget": 128}}, "lower mr_stream.budget"),
    "a longer answer": ({"mr_stream": {"max_new_tokens": 2000}}, "must be at most 1024 here"),
    "another method": ({"mr_stream": {"pruner": "vidcom2"}}, "mr_stream.pruner vidcom2 looks at"),
    "a long question": ({"questions": ["€" * 30_000]}, "the model's context leaves"),
    "a book": ({"questions": ["?", "why " * 50_000]}, "the text has 200000 letters"),
    "an unknown name": ({"mr_stream": {"ffps": 1}}, "did you mean fps?"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_held_is_refused(server: Counted, folder: Path, what: str) -> None:
    body, words = REFUSED[what]
    refused = server.open(file_url(folder), **body)
    error = refused.json()["error"]
    assert refused.status_code == 400
    assert words in error["message"]
    assert "\n" not in error["message"]


def test_a_form_of_another_site_opens_nothing(server: Counted, folder: Path) -> None:
    content = f'{{"url": "{file_url(folder)}"}}'
    answer = server.http.post(
        "/v1/streams", content=content, headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415


def test_shutting_down_ends_all_streams_and_whoever_listens(folder: Path) -> None:
    with serve(media_folder=str(folder)) as running:
        stream_id = running.open(file_url(folder), **SLOW).json()["id"]
        wait_for(running.http, stream_id, lambda told: told["status"] == "live")
        process = running.streams.get(stream_id)._source._process
        assert process is not None
        path = f"/v1/streams/{stream_id}/events"
        with running.http.stream("GET", path) as answer:
            running.server.should_exit = True
            lines = list(answer.iter_lines())
    assert 'data: {"status":"deleted","error":null,"reached_seconds":' in "\n".join(lines)
    assert not Path(f"/proc/{process.pid}").exists()


def test_who_is_away_is_reconnecting_until_more_comes(folder: Path) -> None:
    with serve(media_folder=str(folder)) as running:
        options = change(Options(), {"budget": 64}, source="the test")
        stream = running.streams.open(read_stream({"url": file_url(folder)}, options))
    source = SimpleNamespace(newest_seconds=None, address=stream._source.address)
    stream._source, stream._outcome = source, None  # type: ignore[assignment]
    seen = []
    for newest, is_away in ((None, True), (0.5, False), (0.5, True), (0.5, False), (0.6, False)):
        source.newest_seconds = newest
        if is_away:
            stream._hear(Away(reason="the connection ended", pause_seconds=1))
        seen.append(stream.status)
    assert seen == ["connecting", "live", "reconnecting", "reconnecting", "live"]
