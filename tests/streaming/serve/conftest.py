"""A server on loopback with the embedded model, in one process, for all tests of it."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
import pytest
import uvicorn

from streaming.flags import change
from streaming.serve.options import ServerOptions
from streaming.serve.serving import Server, listening, serving
from tests.clips import draw_clip
from workers.run.engine import Engine

KEY = "a-key-of-tests"
SETTINGS = {
    "executor": "local",
    "device": "cpu",
    "port": 0,
    "num_frames": 4,
    "budget": 128,
    "max_new_tokens": 8,
    "max_body_mib": 2.0,
    "max_file_mib": 4.0,
    "max_frames": 16,
    "max_seconds": 60.0,
    "max_pixels": 1_000_000,
}


class Running(NamedTuple):
    """A server that runs: its address, and a client with the key."""

    url: str
    http: httpx2.Client

    def chat(self, *messages: Any, **more: Any) -> httpx2.Response:
        """Post a chat completion."""
        body = {"model": "embedded", "messages": list(messages), **more}
        return self.http.post("/v1/chat/completions", json=body)


@contextmanager
def run_server(**settings: Any) -> Iterator[Running]:
    """Run a server with the settings of the tests, changed."""
    options = change(ServerOptions(), {**SETTINGS, **settings}, source="the test")
    with listening(options) as listener, serving(options, KEY) as (app, streams, _):
        server = Server(uvicorn.Config(app, log_level="error", access_log=False), streams)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            with httpx2.Client(base_url=url, headers=headers, timeout=60) as http:
                while http.get("/health").status_code != 200:
                    time.sleep(0.05)
                yield Running(url, http)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A media folder with four seconds of numbered pictures, some 35 kB."""
    folder = tmp_path_factory.mktemp("folder")
    draw_clip(folder / "numbers.mkv", num_frames=100)
    return folder


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Running]:
    """A server with the limits of ``SETTINGS`` and a media folder."""
    with run_server(media_folder=str(folder)) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Running) -> Iterator[openai.OpenAI]:
    """The client that everybody has, pointed at the server."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty numbered pictures of 160 x 96, 25 a second."""
    return draw_clip(tmp_path_factory.mktemp("served") / "numbers.mp4", num_frames=40)


@pytest.fixture(scope="session")
def uploaded(server: Running, video: Path) -> str:
    """The id of that clip on the server."""
    with video.open("rb") as file:
        answer = server.http.post("/v1/files", files={"file": ("numbers.mp4", file)})
    return str(answer.json()["id"])


def asked_and_left(server: Running, url: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Ask of a model that says nothing, leave, and return whether the question has heard of it."""
    begun, left = threading.Event(), threading.Event()

    def say_nothing(
        engine: Engine, visual: Any, prompt: Any, sampling: Any, check: Callable[[], object]
    ) -> Iterator[str]:
        begun.set()
        try:
            while True:
                check()
                time.sleep(0.01)
        finally:
            left.set()
        yield ""

    monkeypatch.setattr(Engine, "generate", say_nothing)
    body = json.dumps({"messages": [about(url)]})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with closing(HTTPConnection(server.url.removeprefix("http://"))) as link:
        link.request("POST", "/v1/chat/completions", body, headers)
        assert begun.wait(20)
    return left.wait(20)


def data_url(content: bytes, kind: str = "video/mp4") -> str:
    """Return content as a data: URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def about(url: str, question: str = "What number is shown?") -> dict[str, Any]:
    """Return a user message about a clip."""
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": question},
            {"type": "video_url", "video_url": {"url": url}},
        ],
    }
