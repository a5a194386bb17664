"""A server as a client sees it: clips are sent once, questions answered as a stream of events."""

import hashlib
import http.client
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from streaming.serve.files import is_file_id
from streaming.serve.streams.ids import is_stream_id
from workers.errors import InputError, ServerError, VideoOpenError, display_name
from workers.video.limits import check_file

_BLOCK_BYTES = 2**20
_SECONDS = 660.0
"""A little more than a server lets a question take by default."""
_OF_THE_REQUEST = (400, 401, 403, 404)
"""Statuses that say that something else must be asked, or by someone else."""


class Client:
    """Speaks to one server.

    Args:
        url: of the server, with a path before ``/v1`` if it has one.
        key: that it wants, None for none.

    Raises:
        InputError: the address is none.
    """

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        try:
            self._host, self._port = parts.hostname, parts.port
        except ValueError:
            self._host = None
        if parts.scheme not in ("http", "https") or not self._host:
            raise InputError(f"--server {url}: give http://HOST:PORT")
        self._url, self._path = url, parts.path.rstrip("/").removesuffix("/v1")
        self._make = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[
            parts.scheme
        ]
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def send(self, video: str) -> str:
        """Return what the server calls a clip: one it has not is sent.

        Args:
            video: a path; an https: address, and the id of an upload or a stream, are for the
                server to find.

        Raises:
            VideoOpenError: it is no file.
            StreamError: the server cannot be reached, or does not take it.
        """
        if is_file_id(video) or is_stream_id(video) or video[:6].lower() == "https:":
            return video
        size = check_file(video).st_size
        file_id = _file_id(video)
        with self._asked("GET", f"/v1/files/{file_id}", missing_ok=True) as answer:
            is_missing = answer.status == 404
        if is_missing:
            self._upload(video, size)
        return file_id

    def ask(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the chunks of an answer.

        Raises:
            StreamError: the server cannot be reached, or does not answer.
        """
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with self._asked("POST", "/v1/chat/completions", content, headers) as answer:
            for line in answer:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                chunk: dict[str, Any] = json.loads(line[len(b"data: ") :])
                if "error" in chunk:
                    raise ServerError(f"{self._url}: {chunk['error']['message']}")
                yield chunk

    def _upload(self, video: str, size: int) -> None:
        boundary = secrets.token_hex(16)
        name = os.path.basename(video).translate({ord(letter): "_" for letter in '"\r\n\\'})
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode(errors="replace")
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
        }
        with self._asked("POST", "/v1/files", chain([head], _blocks(video), [tail]), headers):
            pass

    @contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        missing_ok: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._make(self._host or "", self._port, timeout=_SECONDS)
        with closing(connection), self._told():
            connection.connect()
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                connection.request(
                    method, self._path + path, body, {**self._headers, **(headers or {})}
                )
            with connection.getresponse() as answer:
                if answer.status >= 400 and not (missing_ok and answer.status == 404):
                    raise self._refusal(answer)
                yield answer

    def _refusal(self, answer: http.client.HTTPResponse) -> InputError | ServerError:
        try:
            text = json.loads(answer.read(_BLOCK_BYTES))["error"]["message"]
        except (ValueError, LookupError, TypeError):
            text = f"answered {answer.status} {answer.reason}, as no server of streaming.serve does"
        kind = InputError if answer.status in _OF_THE_REQUEST else ServerError
        return kind(f"{self._url}: {' '.join(str(text).split())}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error) or "nothing came"
            raise ServerError(f"{self._url}: cannot be reached ({reason})") from None
        except (http.client.HTTPException, ValueError) as error:
            raise ServerError(f"{self._url}: {type(error).__name__} of its answer") from None


def _file_id(path: str) -> str:
    """Return the id that a file has on every server: of its content."""
    digest = hashlib.blake2b(digest_size=16)
    for block in _blocks(path):
        digest.update(block)
    return f"file-{digest.hexdigest()}"


def _blocks(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                yield block
    except OSError as error:
        raise VideoOpenError(f"{display_name(path)}: {error.strerror}") from None
