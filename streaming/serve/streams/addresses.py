"""Which sources may be opened: those that the operator of the server has named, and no other.

FFmpeg connects by itself, so no address can be checked before it is connected to. What decides is
the address as it is written: it is taken to its parts once, must be made of plain letters, and what
is opened is put together from these parts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from streaming.serve.failures import RequestError
from streaming.serve.urls import HOST, MOST_LETTERS, PLAIN

_PORTS: Mapping[str, int] = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_SEGMENT = re.compile(r"[^./\\%][^/\\%]*")
"""Of a path, once decoded: no way up, and nothing that could be decoded again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceUrl:
    """The address of a live source in parts; ``user`` may hold a password."""

    scheme: str
    user: str
    host: str
    port: int
    path: str
    query: str

    @property
    def place(self) -> str:
        """Scheme, host and port: what must be the same, letter by letter."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        return self.place + self.path

    def opened_as(self, default_user: str) -> str:
        """Return the whole address, with its own user if it has one."""
        user = self.user or default_user
        place = self.place.replace("://", f"://{user}@", 1) if user else self.place
        return place + self.path + (f"?{self.query}" if self.query else "")

    def covers(self, other: "SourceUrl") -> bool:
        """Return whether an address is this one or, unless this has a query, lies below it."""
        if self.place != other.place or self.query != other.query:
            return False
        below = self.path if self.path.endswith("/") else f"{self.path}/"
        is_below = not self.query and other.path.startswith(below)
        return other.path == self.path or is_below


def parse_source(text: str) -> SourceUrl:
    """Take the address of a live source to its parts.

    Raises:
        ValueError: says what is wrong with it, without any of it.
    """
    if len(text) > MOST_LETTERS or not PLAIN.fullmatch(text) or text.count("@") > 1:
        raise ValueError("is not a valid URL")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if parts.scheme not in _PORTS:
        raise ValueError(f"is not one of {', '.join(_PORTS)}")
    user, at, _ = parts.netloc.rpartition("@")
    if not HOST.fullmatch(host) or "#" in text or (at and not user) or set(user) & set("[]"):
        raise ValueError("is not a valid URL")
    if not _is_plain(parts.path) or "@" in parts.path + parts.query:
        raise ValueError("has a path that could be read in two ways")
    return SourceUrl(
        scheme=parts.scheme,
        user=user,
        host=host,
        port=port or _PORTS[parts.scheme],
        path=parts.path,
        query=parts.query,
    )


def _is_plain(path: str) -> bool:
    """Return whether every server reads a path in the same way."""
    *folders, last = (unquote(each) for each in path.removeprefix("/").split("/"))
    names = [*folders, last or "none"]
    return all(_SEGMENT.fullmatch(name) and name.isprintable() for name in names)


class AllowedSources:
    """What may be opened.

    Args:
        entries: addresses with commas between them, None for none. One without a query stands for
            every address below it too. Its user, if it has one, is given to the source, and to
            nobody else.

    Raises:
        ValueError: names the entry by its number, as it may hold a password.
    """

    def __init__(self, entries: str | None) -> None:
        self._entries: list[SourceUrl] = []
        for number, entry in enumerate((entries or "").split(","), 1):
            if not entry.strip():
                continue
            try:
                self._entries.append(parse_source(entry.strip()))
            except ValueError as error:
                raise ValueError(f"address {number} {error}") from None

    def admit(self, text: str) -> tuple[str, str]:
        """Return an address as it is opened, and as it is shown.

        Raises:
            RequestError: it is not allowed.
        """
        try:
            asked = parse_source(text)
        except ValueError as error:
            raise refused(str(error)) from None
        for entry in self._entries:
            if entry.covers(asked):
                return asked.opened_as(entry.user), asked.shown
        raise refused("is not among those that may be opened here")


def refused(reason: str) -> RequestError:
    """Return the refusal of an address."""
    return RequestError(403, "source_not_allowed", f"the stream's address {reason}", param="url")
