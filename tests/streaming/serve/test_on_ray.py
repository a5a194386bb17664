"""A server whose clips are decoded on Ray, as it does by default."""

import os
import signal
from pathlib import Path

import pytest

from tests.chaos.serving import workers_of
from tests.streaming.serve.conftest import Running, about, data_url, run_server


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
