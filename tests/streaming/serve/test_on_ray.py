"""A server on Ray, as it is by default."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.serving import workers_of
from tests.streaming.serve.conftest import Running, about, data_url, run_server
from tests.streaming.serve.streams.conftest import file_url, read_events


@pytest.mark.slow
def test_workers_that_are_killed_are_replaced_and_the_answer_is_the_same(
    server: Running, video: Path
) -> None:
    clip = video.read_bytes()
    expected = server.chat(about(data_url(clip))).json()["mr_stream"]
    with run_server(executor="ray", decode_seconds=20.0, decoder_gib=2.0) as on_ray:
        answers = [on_ray.chat(about(data_url(clip)))]
        for pid in workers_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        answers += [on_ray.chat(about(data_url(clip + ending))) for ending in (b"", b"\0")]
        bad = on_ray.chat(about(data_url(clip[:900])))
        assert on_ray.http.get("/health").status_code == 200
    for answer in answers:
        assert answer.status_code == 200, answer.text
        record = answer.json()["mr_stream"]
        assert [record[name] for name in ("answer", "frames")] == [
            expected[name] for name in ("answer", "frames")
        ]
    assert (bad.status_code, bad.json()["error"]["type"]) == (422, "invalid_request_error")


@pytest.mark.slow
def test_a_stream_is_asked_about_as_in_one_process_whoever_is_killed(
    server: Running, folder: Path
) -> None:
    expected = [play(server, folder)]
    with run_server(executor="ray", media_folder=str(folder)) as on_ray:
        found = [play(on_ray, folder)]
        for pid in workers_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        found += [ask_of(on_ray, found[0][0]), play(on_ray, folder)]
    assert [answers for _, answers in found] == 3 * [expected[0][1]]


def play(server: Running, folder: Path) -> tuple[str, list[Any]]:
    """Open a file as a stream and ask about it once it has ended."""
    at_once = {"speed": 0, "fps": 5, "window": 4}
    body = {"url": file_url(folder), "mr_stream": at_once}
    stream_id = server.http.post("/v1/streams", json=body).json()["id"]
    ((kind, value),) = read_events(server.http, stream_id)
    assert (kind, value["status"]) == ("end", "ended")
    return ask_of(server, stream_id)


def ask_of(server: Running, stream_id: str) -> tuple[str, list[Any]]:
    """Return a stream with what is answered about it, and of which frames."""
    answered = server.chat(about(stream_id))
    assert answered.status_code == 200, answered.text
    record = answered.json()["mr_stream"]
    return stream_id, [record[name] for name in ("answer", "frames", "reached_seconds")]
