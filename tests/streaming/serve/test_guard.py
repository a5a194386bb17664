"""Who is let in and how much they may bring: attacks on the application as bytes on a socket."""

import asyncio
import base64
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from streaming.flags import change
from streaming.serve import completions
from streaming.serve.app import create_app
from streaming.serve.download import Fetcher
from streaming.serve.failures import bad_request
from streaming.serve.files import Files
from streaming.serve.media import Media
from streaming.serve.options import ServerOptions
from streaming.serve.streams.streams import Streams
from tests.streaming.serve.conftest import about
from tests.streaming.serve.stub import StubService

KEY = "correct-horse"
BODY = {"messages": [about("file-1")]}
JSON = {"Content-Type": "application/json"}
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
Start = Callable[..., httpx2.Client]


@contextmanager
def serve(service: Any, *, key: str | None = KEY, **settings: Any) -> Iterator[httpx2.Client]:
    """Serve a stub on loopback with small limits."""
    small = {"max_body_mib": 0.01, "max_file_mib": 0.01, "body_seconds": 0.5, **settings}
    options = change(ServerOptions(), small, source="the test")
    files = Files(max_bytes=10**6, max_file_bytes=10_000)
    media = Media(files, options.media, Fetcher(allowed=(), max_bytes=0, seconds=0))
    streams = Streams(service.engine, options, media)
    app = create_app(service, files, streams, options, api_key=key)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http="h11", log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx2.Client(base_url=url, timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        files.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server over a stub that says something."""
    with ExitStack() as running:

        def start(service: Any = None, **settings: Any) -> httpx2.Client:
            stub = StubService("a ", "cat") if service is None else service
            return running.enter_context(serve(stub, **settings))

        yield start


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


PATHS = [
    ("GET", "/"), ("GET", "/version"), ("GET", "/metrics"), ("GET", "/v1/models"),
    ("GET", "/v1/files"), ("POST", "/v1/files"), ("DELETE", "/v1/files/file-1"),
    ("GET", "/v1/files/file-1/content"), ("GET", "/v1/streams"), ("POST", "/v1/streams"),
    ("GET", "/v1/streams/stream-1"), ("GET", "/v1/streams/stream-1/events"),
    ("DELETE", "/v1/streams/stream-1"), ("POST", "/v1/chat/completions"), ("GET", "/docs"),
    ("GET", "/openapi.json"), ("GET", "//health"), ("GET", "/health/"), ("GET", "/HEALTH"),
    ("GET", "/health/../version"), ("POST", "/v1/chat/completions?/health"),
]  # fmt: skip


def test_every_path_but_health_wants_the_key(start: Start) -> None:
    client = start()
    assert client.get("/health").json() == {"status": "ok"}
    for method, path in PATHS:
        answer = client.request(method, path)
        assert code_of(answer) == (401, "invalid_api_key"), path
        assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "shown",
    ["", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer", f"Token {KEY}",
     "Basic !!!", "Basic " + base64.b64encode(KEY.encode()).decode(), f"Bearer {KEY.upper()}"],
)  # fmt: skip
def test_another_key_is_none(start: Start, shown: str) -> None:
    answer = start().get("/version", headers={"Authorization": shown})
    assert code_of(answer) == (401, "invalid_api_key")


def test_a_key_is_a_bearer_s_or_a_browser_s(start: Start) -> None:
    client = start()
    assert client.get("/version", headers=WITH_KEY).status_code == 200
    assert client.get("/version", auth=("anyone", KEY)).status_code == 200


def test_keys_are_compared_in_constant_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert start().get("/version", headers=WITH_KEY).status_code == 401
    ((first, second),) = compared
    assert first == second
    assert len(first) == 32


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "0.0.0.0"],
)
def test_a_name_that_was_pointed_at_this_machine_is_not_its_own(start: Start, host: str) -> None:
    answer = start().get("/health", headers={"Host": host})
    assert code_of(answer) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1:80", "[::1]:8000"])
def test_this_machine_s_names_are_answered(start: Start, host: str) -> None:
    assert start().get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", ""]
)
def test_a_page_of_another_site_is_not_answered(start: Start, origin: str) -> None:
    headers = {**WITH_KEY, "Origin": origin}
    answer = start().post("/v1/chat/completions", json=BODY, headers=headers)
    assert code_of(answer) == (403, "origin_not_allowed")


def test_a_page_of_this_site_is_answered(start: Start) -> None:
    client = start()
    headers = {**WITH_KEY, "Origin": str(client.base_url).rstrip("/")}
    assert client.post("/v1/chat/completions", json=BODY, headers=headers).status_code == 200


def test_behind_a_proxy_the_server_has_another_name_and_no_more(start: Start) -> None:
    client = start(public_host="ask.example")
    for host, origin, status in (
        ("ask.example", "https://ask.example", 200),
        ("localhost", "https://ask.example", 200),
        ("ask.example", "https://evil.example", 403),
        ("evil.example", "https://ask.example", 403),
    ):
        headers = {**WITH_KEY, "Host": host, "Origin": origin}
        assert client.get("/version", headers=headers).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_another_site_is_no_request(start: Start, kind: str) -> None:
    answer = start().post(
        "/v1/chat/completions",
        content=json.dumps(BODY),
        headers={**WITH_KEY, "Content-Type": kind},
    )
    assert code_of(answer) == (415, "content_type")


@pytest.mark.parametrize(
    "content", [b"{", b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"NaN", b""]
)
def test_json_that_is_none_is_refused(start: Start, content: bytes) -> None:
    headers = {**WITH_KEY, **JSON}
    answer = start(max_body_mib=1.0).post("/v1/chat/completions", content=content, headers=headers)
    assert code_of(answer) == (400, "invalid_request")


def test_a_name_that_no_utf_8_holds_is_refused_in_json(start: Start) -> None:
    headers = {**WITH_KEY, **JSON}
    answer = start().post("/v1/chat/completions", content=rb'{"\ud800": 1}', headers=headers)
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "\ud800"


def test_a_long_body_is_read_beside_the_event_loop(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(body: Any, *_: Any) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        raise bad_request("it was read")

    monkeypatch.setattr(completions, "read_chat", read)
    answer = start().post("/v1/chat/completions", json=BODY, headers=WITH_KEY)
    assert answer.json()["error"]["message"] == "it was read"


@contextmanager
def posting(
    client: httpx2.Client,
    path: str,
    content: bytes = b"",
    *,
    length: int,
    kind: str = "application/json",
) -> Iterator[socket.socket]:
    """Send a request by hand, with as much of its body as there is, and return the connection."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {KEY}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
    ]
    address = client.base_url.host, client.base_url.port or 0
    with socket.create_connection(address, timeout=20) as link:
        link.sendall("\r\n".join([*lines, "\r\n"]).encode() + content)
        yield link


def blocks(number: int) -> Iterator[bytes]:
    """Bytes that come in chunks: their number is not told before."""
    yield from [b" " * 1000] * number


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/nowhere"])
def test_a_body_that_is_too_large_is_refused_by_what_it_says(start: Start, path: str) -> None:
    with posting(start(), path, length=10**12) as link:
        assert link.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_is_too_large_is_refused_by_what_comes(start: Start) -> None:
    client, headers = start(), {**WITH_KEY, **JSON}
    answer = client.post("/v1/chat/completions", content=blocks(40), headers=headers)
    assert code_of(answer) == (413, "body_too_large")


def test_an_upload_that_is_too_large_is_refused(start: Start) -> None:
    client = start()
    for number, code in ((11_000, "media_too_large"), (2_000_000, "body_too_large")):
        answer = client.post("/v1/files", files={"file": bytes(number)}, headers=WITH_KEY)
        assert code_of(answer) == (413, code)
    assert client.get("/v1/files", headers=WITH_KEY).json()["data"] == []


@pytest.mark.parametrize(
    "form",
    [{"data": {"file": "x"}}, {"files": {"other": b"x"}}, {"files": {"file": b""}},
     {"files": [("file", b"x"), ("file", b"y")]}, {"data": {str(n): "x" for n in range(20)}}],
    ids=["a field", "another name", "empty", "two", "many fields"],
)  # fmt: skip
def test_a_form_without_one_file_is_refused(start: Start, form: dict[str, Any]) -> None:
    answer = start().post("/v1/files", headers=WITH_KEY, **form)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_never_comes_is_not_waited_for(start: Start) -> None:
    with posting(start(), "/v1/chat/completions", b"{", length=9) as link:
        assert link.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_too_many_at_a_time_are_told_to_come_back(start: Start) -> None:
    service = StubService("a ", "cat")
    service.go_on.clear()
    client = start(service, max_queue=1)
    body = {**BODY, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body, headers=WITH_KEY) as first:
        lines = first.iter_lines()
        assert "assistant" in next(lines)
        refused = client.post("/v1/chat/completions", json=BODY, headers=WITH_KEY)
        assert code_of(refused) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/health").status_code == 200
        assert "num_requests_running 1.0" in client.get("/metrics", headers=WITH_KEY).text
        service.go_on.set()
        assert "[DONE]" in "".join(lines)
    assert client.post("/v1/chat/completions", json=BODY, headers=WITH_KEY).status_code == 200


FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", "application/json"),
        ("/v1/streams", "application/json"),
        ("/v1/files", FORM),
    ],
)
def test_a_place_is_taken_before_the_body_comes(start: Start, path: str, kind: str) -> None:
    client = start(max_queue=1, body_seconds=20)
    with posting(client, path, b"-", length=9, kind=kind):
        wait_until(lambda: client.post(path, headers=WITH_KEY).status_code == 429)
        refused = client.post(path, headers=WITH_KEY)
        assert code_of(refused) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/health").status_code == 200
    wait_until(lambda: client.post(path, headers=WITH_KEY).status_code != 429)


def test_an_upload_without_room_is_refused_before_it_comes(start: Start) -> None:
    client = start()
    for number in range(102):
        file = number.to_bytes(2) * 4900
        assert client.post("/v1/files", files={"file": file}, headers=WITH_KEY).status_code == 200
    with posting(client, "/v1/files", length=10**4, kind=FORM) as link:
        assert link.recv(65536).startswith(b"HTTP/1.1 507 ")


@pytest.mark.parametrize("stream", [False, True])
def test_work_ends_when_the_client_leaves(start: Start, stream: bool) -> None:
    service = StubService("a ", "cat")
    service.go_on.clear()
    client = start(service)
    content = json.dumps({**BODY, "stream": stream}).encode()
    with posting(client, "/v1/chat/completions", content, length=len(content)):
        wait_until(lambda: service.running == 1)
    wait_until(lambda: service.running == 0)


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/chat/completions", "application/json"), ("/v1/files", FORM)]
)
def test_who_leaves_while_its_body_comes_is_no_failure(
    start: Start, capfd: pytest.CaptureFixture[str], path: str, kind: str
) -> None:
    client = start(max_queue=1, body_seconds=20)
    with posting(client, path, b"-", length=9, kind=kind):
        wait_until(lambda: client.post(path, headers=WITH_KEY).status_code == 429)
    wait_until(lambda: client.post(path, headers=WITH_KEY).status_code != 429)
    assert "server_failed" not in client.get("/metrics", headers=WITH_KEY).text
    assert capfd.readouterr().err == ""


def test_what_the_guard_refuses_is_counted(start: Start) -> None:
    client = start()
    assert client.get("/version").status_code == 401
    told = client.get("/metrics", headers=WITH_KEY).text
    assert 'mr_stream:request_failure_total{code="invalid_api_key"} 1.0' in told


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_text_of_an_exception_goes_to_the_log_alone(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "cannot identify <_io.BytesIO object at 0x7f12345678>, see /srv/secret"
    client = start(StubService(error=RuntimeError(secret)))
    whole = client.post("/v1/chat/completions", json=BODY, headers=WITH_KEY)
    assert code_of(whole) == (500, "server_failed")
    client = start(StubService("a", error=RuntimeError(secret)))
    body = {**BODY, "stream": True}
    streamed = client.post("/v1/chat/completions", json=body, headers=WITH_KEY)
    assert streamed.status_code == 200
    assert streamed.text.endswith("data: [DONE]\n\n")
    logged = capfd.readouterr().err
    for answer in (whole.text, streamed.text):
        assert "0x7f" not in answer
        assert "secret" not in answer
        reference = answer.partition("log tells more at ")[2][:8]
        assert f"error {reference}: RuntimeError: {secret}" in logged


def test_health_tells_of_a_failure(start: Start) -> None:
    service = StubService()
    service.engine.failure = RuntimeError("gone")
    assert start(service).get("/health").status_code == 503


def test_nothing_is_framed_or_guessed(start: Start) -> None:
    headers = start().get("/nowhere", headers=WITH_KEY).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers
