"""Fetching, from hosts that mean no good: a server on loopback plays them all."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from streaming.serve.download import Fetcher, connect_tls
from streaming.serve.failures import RequestError

PUBLIC = "93.184.216.34"
HEAD = b"HTTP/1.1 200 OK\r\n"


class Host(NamedTuple):
    """Plays hosts: what it was asked, and where clients wanted to connect to."""

    fetcher: Fetcher
    asked: list[bytes]
    connected: list[tuple[str, str]]


@pytest.fixture
def play() -> Iterator[Callable[..., Host]]:
    """Return a function that plays hosts which answer, one request after another, as given."""
    listeners = []

    def start(
        *answers: bytes, names: dict[str, list[str]] | None = None, hold: bool = False
    ) -> Host:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        asked: list[bytes] = []
        connected: list[tuple[str, str]] = []

        def answer() -> None:
            with suppress(OSError):  # the test is over, and the listener closed
                for content in answers:
                    link, _ = listener.accept()
                    with link:
                        asked.append(link.recv(65536))
                        link.sendall(content)
                        if hold:
                            link.recv(1)

        def connect(host: str, address: str, port: int, seconds: float) -> socket.socket:
            connected.append((host, address))
            return socket.create_connection(listener.getsockname(), timeout=seconds)

        def resolve(host: str, port: int) -> list[str]:
            found = (names or {}).get(host)
            return [PUBLIC] if found is None else [found.pop(0)]

        threading.Thread(target=answer, daemon=True).start()
        fetcher = Fetcher(
            allowed=("a.example", "b.example"),
            max_bytes=1000,
            seconds=0.5 if hold else 20,
            resolve=resolve,
            connect=connect,
        )
        return Host(fetcher, asked, connected)

    yield start
    for listener in listeners:
        listener.close()


def fetch(host: Host, address: str = "https://a.example/clip.mp4?x=1") -> bytes:
    blocks: list[bytes] = []
    host.fetcher.fetch(address, blocks.append)
    return b"".join(blocks)


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def test_a_clip_is_fetched_from_the_address_that_was_checked(play: Callable[..., Host]) -> None:
    host = play(HEAD + b"Content-Length: 4\r\n\r\nclip")
    assert fetch(host) == b"clip"
    assert host.connected == [("a.example", PUBLIC)]
    assert host.asked[0].startswith(b"GET /clip.mp4?x=1 HTTP/1.1\r\nHost: a.example\r\n")


def test_a_redirect_to_a_host_that_is_listed_is_followed(play: Callable[..., Host]) -> None:
    host = play(redirect("https://b.example/x"), HEAD + b"Content-Length: 1\r\n\r\nx")
    assert fetch(host) == b"x"
    assert [name for name, _ in host.connected] == ["a.example", "b.example"]


@pytest.mark.parametrize(
    "location",
    ["https://evil.example/", "http://a.example/", "file:///etc/passwd", "//evil.example/x",
     "https://a.example@169.254.169.254/", "https://169.254.169.254/latest/meta-data", "gopher://a"],
)  # fmt: skip
def test_a_redirect_elsewhere_is_refused(play: Callable[..., Host], location: str) -> None:
    host = play(redirect(location), HEAD + b"\r\nsecret")
    with pytest.raises(RequestError, match="refused"):
        fetch(host)
    assert len(host.connected) == 1


def test_redirects_come_to_an_end(play: Callable[..., Host]) -> None:
    host = play(*[redirect("/again")] * 9)
    with pytest.raises(RequestError, match="more than 3 redirects"):
        fetch(host)
    assert len(host.connected) == 4


def test_a_name_that_changes_its_address_is_checked_anew(play: Callable[..., Host]) -> None:
    """Rebinding: public when it is first asked, inside at the redirect to itself."""
    names = {"a.example": [PUBLIC, "127.0.0.1"]}
    host = play(redirect("/again"), HEAD + b"\r\nsecret", names=names)
    with pytest.raises(RequestError, match="not public"):
        fetch(host)
    assert host.connected == [("a.example", PUBLIC)]
    assert names == {"a.example": []}


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"HTTP/1.1 404 Gone\r\n\r\n", 422, "answered 404"),
        (HEAD + b"Content-Length: 1001\r\n\r\n", 413, "at most"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\nxx", 422, "compressed"),
        (HEAD + b"Content-Length: 9\r\n\r\ncut", 422, "cut off"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 422, "could not be fetched"),
        (HEAD + b"X: " + b"x" * 100_000, 422, "could not be fetched"),
    ],
    ids=["missing", "said to be large", "compressed", "cut off", "another protocol", "large head"],
)
def test_what_is_no_whole_clip_is_refused(
    play: Callable[..., Host], answer: bytes, status: int, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        fetch(play(answer))
    assert refused.value.status == status


@pytest.mark.parametrize("answer", [b"", HEAD, HEAD + b"Content-Length: 900\r\n\r\ntrickle"])
def test_a_host_that_never_ends_is_cut_off(play: Callable[..., Host], answer: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(RequestError, match="did not come in time"):
        fetch(play(answer, hold=True))
    assert time.monotonic() - started < 10


def test_a_host_must_show_the_certificate_of_its_name(play: Callable[..., Host]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, pytest.raises(TimeoutError, match="timed out"):
        connect_tls("a.example", "127.0.0.1", listener.getsockname()[1], 0.3)
