"""Routes for clips that are uploaded, as OpenAI has them for files."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.datastructures import UploadFile

from streaming.serve.failures import RequestError, bad_request
from streaming.serve.files import Files, StoredFile
from streaming.serve.pump import RETRY_SECONDS

_BLOCK_BYTES = 2**20
_MOST_FIELDS = 8
_KINDS = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png",
    ".webp": "image/webp", ".gif": "image/gif",
}  # fmt: skip
"""What a file is served as, by the ending of its name: never as a page or a script."""


class Uploads:
    """Takes, lists, returns and removes files.

    Args:
        files: where they are.
        most: that come at a time; others are told to come back.
    """

    def __init__(self, files: Files, most: int) -> None:
        self._files = files
        self._most = most
        self._num = 0

    def add_to(self, app: FastAPI) -> None:
        """Add the routes."""
        app.post("/v1/files")(self.create)
        app.get("/v1/files")(self.list)
        app.get("/v1/files/{file_id}")(self.get)
        app.get("/v1/files/{file_id}/content")(self.content)
        app.delete("/v1/files/{file_id}")(self.delete)

    async def create(self, request: Request) -> dict[str, Any]:
        """Take a file of a form, whose other fields say nothing here."""
        num_bytes = self._num_bytes(request)
        with self._place(), self._files.reserved(num_bytes):
            async with request.form(max_files=1, max_fields=_MOST_FIELDS) as form:
                part = form.get("file")
                if not isinstance(part, UploadFile):
                    raise bad_request("the form must hold a file", "file")
                return (await asyncio.to_thread(self._keep, part, num_bytes)).to_json()

    def _num_bytes(self, request: Request) -> int:
        """Return what a file has at most, by what the request's head says."""
        most, headers = self._files.max_file_bytes, request.headers
        if "transfer-encoding" in headers or "content-length" not in headers:
            return most
        return min(most, int(headers["content-length"][:20]))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._num >= self._most:
            text = f"{self._most} files are on their way in: try again"
            raise RequestError(429, "too_many_requests", text, retry=RETRY_SECONDS)
        self._num += 1
        try:
            yield
        finally:
            self._num -= 1

    def _keep(self, part: UploadFile, num_reserved: int) -> StoredFile:
        with self._files.incoming() as incoming:
            while block := part.file.read(_BLOCK_BYTES):
                incoming.write(block)
            name = part.filename or "clip"
            return self._files.keep(incoming, name, uploaded=True, num_reserved=num_reserved)

    async def list(self) -> dict[str, Any]:
        """List the files that are there."""
        data = [file.to_json() for file in self._files.uploads()]
        return {"object": "list", "data": data, "has_more": False}

    async def get(self, file_id: str) -> dict[str, Any]:
        """Tell of one file."""
        return self._files.get(file_id).to_json()

    async def content(self, file_id: str) -> Response:
        """Return a file, or the range of it that is asked for."""
        file = self._files.get(file_id)
        ending = "." + file.name.rpartition(".")[2].lower()
        return FileResponse(file.path, media_type=_KINDS.get(ending, "application/octet-stream"))

    async def delete(self, file_id: str) -> dict[str, Any]:
        """Remove a file, and the tokens that were made of it."""
        self._files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}
