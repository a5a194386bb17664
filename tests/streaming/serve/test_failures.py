"""What a client is told of each kind of error."""

import re

import pytest

from streaming.serve.failures import RequestError, explain
from workers.errors import (
    ContextError,
    EntryError,
    InputError,
    ModelError,
    NoVideoStreamError,
    VideoDecodeError,
    VideoError,
    VideoLimitError,
    VideoOpenError,
    VideoTimeoutError,
)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextError("the context holds 4096 tokens"), 400, "context_length_exceeded"),
        (InputError("budget is below 1"), 400, "invalid_request"),
        (VideoOpenError("no such file"), 422, "media_unreadable"),
        (NoVideoStreamError("a song"), 422, "media_without_video"),
        (VideoDecodeError("all broken"), 422, "media_undecodable"),
        (VideoLimitError("too large"), 422, "media_too_large"),
        (VideoTimeoutError("it hangs"), 422, "media_timeout"),
        (VideoError("something else"), 422, "media_unreadable"),
    ],
)
def test_what_is_the_client_s_is_told_in_our_line(error: Exception, status: int, code: str) -> None:
    told = explain(error)
    assert (told.status, told.code, told.message) == (status, code, str(error))


def test_files_and_options_are_named_as_the_client_names_them() -> None:
    error = VideoOpenError("/media/1f3: no moov (avformat: /usr/lib/x); raise --num-frames")
    told = explain(error, lambda text: text.replace("/media/1f3", "talk.mp4"))
    assert told.message == "talk.mp4: no moov; raise mr_stream.num_frames"


def test_an_entry_of_tokens_is_no_video() -> None:
    told = explain(EntryError("/bank/3f: damaged"))
    assert (told.status, told.code, told.message) == (
        422,
        "media_unreadable",
        "the clip is no video",
    )


def test_what_was_told_is_told_again() -> None:
    told = RequestError(429, "busy", "later", retry=3)
    assert explain(told) is told


@pytest.mark.parametrize("error", [ModelError("/models/secret: gone"), KeyError("/models/secret")])
def test_what_is_not_the_client_s_goes_to_the_log(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    told = explain(error)
    logged = capsys.readouterr().err
    assert (told.status, told.code) == (500, "server_failed")
    assert "secret" not in told.message
    assert "/models/secret" in logged
    (reference,) = re.findall(r"at ([0-9a-f]{8})$", told.message)
    assert reference in logged
