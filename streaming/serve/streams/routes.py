"""Routes for live sources."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from streaming.options import Options
from streaming.serve.completions import read_json
from streaming.serve.pump import Pump
from streaming.serve.streams.request import read_stream
from streaming.serve.streams.stream import Stream
from streaming.serve.streams.streams import Streams

_MOST_DIGITS = 18


class StreamRoutes:
    """Opens, lists, tells of and ends streams, and hands on what happens of them.

    Args:
        streams: of the server.
        options: what a stream is read with where a request says nothing.
        pump: of the server, whose places requests for streams take too.
    """

    def __init__(self, streams: Streams, options: Options, pump: Pump) -> None:
        self._streams = streams
        self._options = options
        self._pump = pump

    def add_to(self, app: FastAPI) -> None:
        """Add the routes."""
        app.post("/v1/streams")(self.create)
        app.get("/v1/streams")(self.list)
        app.get("/v1/streams/{stream_id}")(self.get)
        app.get("/v1/streams/{stream_id}/events")(self.events)
        app.delete("/v1/streams/{stream_id}")(self.delete)

    async def create(self, request: Request) -> dict[str, Any]:
        """Open a source; it is connected to after this has been answered."""
        with self._pump.enter():
            stream = await asyncio.to_thread(self._open, await read_json(request))
        return stream.to_json()

    def _open(self, body: Any) -> Stream:
        return self._streams.open(read_stream(body, self._options))

    async def list(self) -> dict[str, Any]:
        """List the streams, those that have ended too."""
        data = [stream.to_json() for stream in self._streams.all()]
        return {"object": "list", "data": data, "has_more": False}

    async def get(self, stream_id: str) -> dict[str, Any]:
        """Tell how a stream stands."""
        return self._streams.get(stream_id).to_json()

    async def delete(self, stream_id: str) -> dict[str, Any]:
        """End a stream, and let go of what is held of it."""
        await asyncio.to_thread(self._streams.delete, stream_id)
        return {"id": stream_id, "object": "stream", "deleted": True}

    async def events(self, request: Request, stream_id: str) -> Response:
        """Send what happens as events, behind the one that a client saw last.

        Where there will be none the status is 204, which keeps a browser from asking again.
        """
        log = self._streams.get(stream_id).log
        after = _number(request.headers.get("last-event-id", ""))
        if log.is_over(after):
            return Response(status_code=204)
        events = log.read(after)
        await anext(events)  # is refused, or lets in
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0
