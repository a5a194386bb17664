"""The one reading of an address, for the check and for the fetch alike; and which hosts it may be.

Two readings are how filters are passed by: what one takes for a host is a user's name to the other.
So an address is taken to its parts once, must be made of plain letters, and everything later works
on the parts. A host is checked by name, then by every address that the name stands for.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from streaming.serve.failures import RequestError

Resolver = Callable[[str, int], Sequence[str]]
"""Returns the addresses that a name stands for, as text."""

PLAIN = re.compile(r"[!#-;=?@A-Z\[\]_a-z~]+")
"""Letters, digits and marks of RFC 3986; no blank, quote, backslash, angle or curly bracket."""
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
MOST_LETTERS = 4096
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaUrl:
    """An https: address in parts; ``target`` is path and query as they are asked for."""

    host: str
    port: int
    target: str

    def __str__(self) -> str:
        return f"https://{self.host}:{self.port}{self.target}"


def parse_url(text: str) -> MediaUrl:
    """Take an https: address to its parts.

    Raises:
        RequestError: it is of another scheme, names a user, or is not made of plain letters.
    """
    if len(text) > MOST_LETTERS or not PLAIN.fullmatch(text):
        raise refused("the address is not a valid URL")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise refused("the address is not a valid URL") from None
    if parts.scheme != "https":
        raise refused("only https: addresses are fetched")
    if "@" in parts.netloc:
        raise refused("an address must not name a user")
    if not HOST.fullmatch(host):
        raise refused("the address names no host")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return MediaUrl(host=host, port=port or 443, target=target)


def join_url(base: MediaUrl, location: str) -> MediaUrl:
    """Return where a redirect leads, read like any other address.

    Raises:
        RequestError: see :func:`parse_url`.
    """
    try:
        return parse_url(urljoin(str(base), location))
    except ValueError:
        raise refused("the address is not a valid URL") from None


def check_host(url: MediaUrl, allowed: Sequence[str], resolve: Resolver) -> str:
    """Return the address to connect to: one that was checked, not the name again.

    Args:
        url: where to.
        allowed: names of hosts, in lower case; nothing else matches, no part of a name either.
        resolve: of names.

    Raises:
        RequestError: the host is not allowed, stands for no address, or for one that is not public.
    """
    if url.host not in allowed:
        raise refused("its host is not among those that clips are fetched from here")
    try:
        addresses = resolve(url.host, url.port)
    except OSError:
        raise RequestError(422, "media_unreachable", "the clip's host was not found") from None
    if not addresses or not all(map(is_public, addresses)):
        raise refused("its host stands for an address that is not public")
    return addresses[0]


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public internet, whatever it is wrapped into."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # an interface behind a %, or no address
        return False
    inner: ipaddress.IPv4Address | None = None
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found.is_site_local:
            return False
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    return found.is_global and not (found.is_multicast or found.is_reserved)


def resolve_host(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def refused(reason: str) -> RequestError:
    """Return the refusal of an address."""
    return RequestError(403, "media_not_allowed", f"the clip's address is refused: {reason}")
