"""A server whose streams are read as ever, and encoded by who only counts."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import uvicorn

from streaming.flags import change
from streaming.serve.app import create_app
from streaming.serve.download import Fetcher
from streaming.serve.files import Files
from streaming.serve.media import Media
from streaming.serve.options import ServerOptions
from streaming.serve.serving import Server, listening
from streaming.serve.streams.streams import Streams
from tests.streaming.serve.stub import StubService
from tests.streaming.watch.test_live_clip import CountingEngine

KEY = "a-key-of-tests"
SECONDS = 60.0


class Counted(NamedTuple):
    """A server over a stub: a client with the key, its streams, and who counts tokens."""

    http: httpx2.Client
    streams: Streams
    engine: CountingEngine
    server: Server

    def open(self, url: str, **body: Any) -> httpx2.Response:
        """Post a stream."""
        return self.http.post("/v1/streams", json={"url": url, **body})


Start = Callable[..., Counted]


@contextmanager
def serve(**settings: Any) -> Iterator[Counted]:
    """Serve streams of small budgets on loopback."""
    values = {"port": 0, "budget": 64, **settings}
    options = change(ServerOptions(), values, source="the test")
    files = Files(max_bytes=10**6, max_file_bytes=10_000)
    media = Media(files, options.media, Fetcher(allowed=(), max_bytes=0, seconds=0))
    engine, service = CountingEngine(), StubService()
    service.options = options.asking()
    streams = Streams(engine, options, media)
    app = create_app(service, files, streams, options, api_key=KEY)
    with listening(options) as listener:
        server = Server(uvicorn.Config(app, log_level="error"), streams)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            with httpx2.Client(base_url=url, headers=headers, timeout=SECONDS) as http:
                yield Counted(http, streams, engine, server)
        finally:
            server.should_exit = True
            thread.join()
            files.close()


def file_url(folder: Path, name: str = "numbers.mkv") -> str:
    """Return the address of a file of the folder."""
    return f"file://{folder}/{name}"


def wait_for(http: httpx2.Client, stream_id: str, is_so: Callable[[Any], bool]) -> dict[str, Any]:
    """Return a stream as it stands once something is so of it."""
    end = time.monotonic() + SECONDS
    while not is_so(stream := http.get(f"/v1/streams/{stream_id}").json()):
        assert time.monotonic() < end, stream
        time.sleep(0.05)
    return dict(stream)


def read_events(http: httpx2.Client, stream_id: str, **headers: str) -> list[tuple[str, Any]]:
    """Return all events of a stream, to its end: kinds and values."""
    path = f"/v1/streams/{stream_id}/events"
    with http.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    kinds = [line[7:] for line in lines if line.startswith("event: ")]
    return list(zip(kinds, (json.loads(t[6:]) for t in lines if t[:6] == "data: "), strict=True))
