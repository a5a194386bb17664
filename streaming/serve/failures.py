"""What clients are told when something goes wrong: a status, a code and one line of our own.

The text of an exception, which may hold paths and addresses, goes to the log beside a reference;
the client gets that.
"""

import json
import re
import secrets
from collections.abc import Callable
from typing import Any

from streaming.command import say
from workers.errors import (
    ContextError,
    EntryError,
    InputError,
    NoVideoStreamError,
    StreamError,
    VideoDecodeError,
    VideoError,
    VideoLimitError,
    VideoOpenError,
    VideoTimeoutError,
)

_MOST_LETTERS = 1000


class RequestError(Exception):
    """A request that is refused: an HTTP status, a code for programs and a line for people.

    A line that repeats what a client said does not repeat all of it, however long that was.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry: int = 0
    ) -> None:
        message = _cut(message)
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = None if param is None else _cut(param)
        self.retry_seconds = retry

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response, in OpenAI's form."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def body(self) -> bytes:
        """Return it as bytes; what no UTF-8 holds, as JSON of a client may, is escaped."""
        return json.dumps(self.to_json()).encode()

    def headers(self) -> dict[str, str]:
        """Return what the response's head says beside."""
        return {"Retry-After": str(self.retry_seconds)} if self.retry_seconds else {}


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def bad_request(message: str, param: str | None = None) -> RequestError:
    """Return the refusal of a request that cannot be understood, or asks for what is not had."""
    return RequestError(400, "invalid_request", message, param=param)


_MEDIA_CODES: dict[type[VideoError], str] = {
    VideoOpenError: "media_unreadable",
    NoVideoStreamError: "media_without_video",
    VideoDecodeError: "media_undecodable",
    VideoLimitError: "media_too_large",
    VideoTimeoutError: "media_timeout",
}


def explain(error: Exception, show: Callable[[str], str] = str) -> RequestError:
    """Return what a client is told of an error; what it is not told goes to the log.

    Args:
        error: of any kind.
        show: puts what the client calls its files in the place of their names here.
    """
    if isinstance(error, RequestError):
        return error
    text = _shown(show(str(error)))
    if isinstance(error, VideoError):
        return RequestError(422, _MEDIA_CODES.get(type(error), "media_unreadable"), text)
    if isinstance(error, EntryError):
        return RequestError(422, "media_unreadable", "the clip is no video")
    if isinstance(error, ContextError):
        return RequestError(400, "context_length_exceeded", text)
    if isinstance(error, InputError):
        return bad_request(text)
    return _failed(error)


def _failed(error: Exception) -> RequestError:
    """Log what is no fault of the client's, with its place if it was unforeseen."""
    reference = secrets.token_hex(4)
    place = ""
    if not isinstance(error, StreamError):
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
    text = " ".join(str(error).split())
    say(f"error {reference}: {type(error).__name__}: {text}{place}")
    message = f"the answer failed here; the server's log tells more at {reference}"
    return RequestError(500, "server_failed", message)


def _shown(text: str) -> str:
    """Return a line of ours without what libraries had to say, which stands in parentheses.

    Options are named as a request names them.
    """
    text = re.sub(r"\s*\([^()]*\)", "", _cut(text))
    return re.sub(
        r"--([a-z][a-z-]+)", lambda option: "mr_stream." + option[1].replace("-", "_"), text
    )
