"""Fetching a clip from an address that was checked: at most so many bytes, in so many seconds."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from streaming.serve.failures import RequestError
from streaming.serve.incoming import too_large
from streaming.serve.urls import (
    MediaUrl,
    Resolver,
    check_host,
    join_url,
    parse_url,
    refused,
    resolve_host,
)

Connector = Callable[[str, str, int, float], socket.socket]
"""Connects to (host, address, port) within some seconds; the host is for the certificate."""

_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK_BYTES = 2**18


def connect_tls(host: str, address: str, port: int, seconds: float) -> socket.socket:
    """Connect to an address as it is, and make sure that it is the host that was meant."""
    plain = socket.create_connection((address, port), timeout=seconds)
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Fetches from hosts that are allowed, each redirect checked like the first address."""

    allowed: Sequence[str]
    max_bytes: int
    seconds: float
    resolve: Resolver = resolve_host
    connect: Connector = connect_tls

    def fetch(self, address: str, write: Callable[[bytes], object]) -> None:
        """Hand what stands at an https: address to ``write``, block by block.

        Raises:
            RequestError: the address is refused, or nothing complete came of it in time.
        """
        end = time.monotonic() + self.seconds
        url = parse_url(address)
        for _ in range(_MOST_REDIRECTS + 1):
            following = self._follow(url, write, end)
            if following is None:
                return
            url = join_url(url, following)
        raise refused(f"more than {_MOST_REDIRECTS} redirects")

    def _follow(self, url: MediaUrl, write: Callable[[bytes], object], end: float) -> str | None:
        """Fetch, or return where a redirect leads."""
        address = check_host(url, self.allowed, self.resolve)
        with _told(), closing(self._connect(url, address, end)) as link, _ended_at(link, end):
            connection = http.client.HTTPSConnection(url.host, url.port)
            connection.sock = link
            headers = {"Accept-Encoding": "identity", "User-Agent": "mr-stream"}
            connection.request("GET", url.target, headers=headers)
            with closing(connection), connection.getresponse() as response:
                if response.status in _REDIRECTS:
                    return response.getheader("Location", "")
                self._read(response, write)
        return None

    def _connect(self, url: MediaUrl, address: str, end: float) -> socket.socket:
        return self.connect(url.host, address, url.port, max(0.1, end - time.monotonic()))

    def _read(self, response: http.client.HTTPResponse, write: Callable[[bytes], object]) -> None:
        if response.status != 200:
            raise _unreachable(f"its host answered {response.status}")
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise _unreachable("its host sent it compressed")
        length = response.getheader("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > self.max_bytes:
            raise too_large(self.max_bytes)
        while block := response.read(_BLOCK_BYTES):
            write(block)
        if response.length:  # else a body that is cut off ends like any other
            raise _unreachable("it was cut off")


@contextmanager
def _ended_at(link: socket.socket, end: float) -> Iterator[None]:
    """Cut a connection off when its time is over, whatever it trickles until then."""
    timer = threading.Timer(max(0.0, end - time.monotonic()), _cut, [link])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if time.monotonic() >= end:
            raise _unreachable("it did not come in time") from None


def _cut(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        link.close()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException):
        raise _unreachable("it could not be fetched") from None


def _unreachable(reason: str) -> RequestError:
    return RequestError(422, "media_unreachable", f"the clip was not had: {reason}")
