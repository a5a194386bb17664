"""What every request must pass before a route sees it: who asks, from where, and how much comes."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streaming.serve.failures import RequestError

OPEN_PATHS = ("/health",)
"""Paths that need no key."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
}


class Guard:
    """Wraps an application.

    Args:
        app: that sees what passes.
        api_key: that clients must show, None for none.
        is_loopback: whether the server listens to this machine only: it then answers to its names
            only, as a name that somebody else points here would let a web page in.
        max_bytes: of a request's body.
        max_upload_bytes: of one that uploads a file.
        body_seconds: that a body may take to come.
        public_host: by which clients know the server, if by another name than it is asked for.
        failed: told the code of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_key: str | None,
        is_loopback: bool,
        max_bytes: int,
        max_upload_bytes: int,
        body_seconds: float,
        public_host: str | None = None,
        failed: Callable[[str], object] = lambda code: None,
    ) -> None:
        self._app = app
        self._key = None if api_key is None else _digest(api_key)
        self._is_loopback = is_loopback
        self._max_bytes = max_bytes
        self._max_upload_bytes = max_upload_bytes
        self._body_seconds = body_seconds
        self._public_host = public_host
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send)
        try:
            self._check(scope, Headers(scope=scope))
        except RequestError as error:
            self._failed(error.code)
            await refuse(send, error)
            return
        await self._app(scope, self._limited(scope, receive), send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._is_loopback and not (_is_local(host) or host == self._public_host):
            raise RequestError(403, "host_not_allowed", "the server answers to its own names only")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] not in (host, self._public_host):
            raise RequestError(403, "origin_not_allowed", "other sites' pages are not answered")
        if scope["path"] not in OPEN_PATHS:
            self._check_key(headers.get("authorization", ""))
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most(scope):
            raise self._too_large(scope)

    def _check_key(self, shown: str) -> None:
        if self._key is not None and not hmac.compare_digest(_digest(_key_in(shown)), self._key):
            raise RequestError(401, "invalid_api_key", "the API key is missing or wrong")

    def _most(self, scope: Scope) -> int:
        return self._max_upload_bytes if scope["path"] == "/v1/files" else self._max_bytes

    def _too_large(self, scope: Scope) -> RequestError:
        mib = self._most(scope) / 2**20
        return RequestError(413, "body_too_large", f"a body may have at most {mib:g} MiB here")

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Count a body as it comes, in whatever pieces, and stop it when it is too much or late."""
        left = self._most(scope)
        end = asyncio.get_running_loop().time() + self._body_seconds
        is_coming = True

        async def receive_limited() -> Message:
            nonlocal left, is_coming
            if not is_coming:
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise RequestError(408, "body_timeout", "the body took too long to come") from None
            left -= len(message.get("body", b""))
            is_coming = bool(message.get("more_body", False))
            if left < 0:
                raise self._too_large(scope)
            return message

        return receive_limited


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def _key_in(shown: str) -> str:
    """Return the key of an Authorization header: a bearer's, or a browser's, as its password."""
    scheme, _, value = shown.partition(" ")
    if scheme.lower() != "basic":
        return value.strip() if scheme.lower() == "bearer" else ""
    try:
        return base64.b64decode(value, validate=True).decode("latin-1").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _is_local(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers


async def refuse(send: Send, error: RequestError) -> None:
    """Answer a request with an error."""
    body = error.body()
    extra: Mapping[str, Any] = error.headers()
    if error.status == 401:
        extra = {**extra, "WWW-Authenticate": 'Basic realm="mr-stream", charset="UTF-8"'}
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode(), str(value).encode()) for name, value in extra.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
