"""What may be watched: addresses, files and pipes, and how FFmpeg is allowed to open each."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workers.errors import InputError, display_name
from workers.video.container import DEMUXERS

Kind = Literal["rtsp", "http", "pipe", "file"]

TAKEN = "a path, an address (rtsp://, rtsps://, http://, https://), or - for stdin"

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_KINDS: Mapping[str, Kind] = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
_PROTOCOLS: Mapping[Kind, str] = {
    # Never file: a playlist or a redirection from elsewhere must not name what is on this machine.
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "rtsp": "rtsp,rtsps,rtp,srtp,udp,tcp,tls",
    "pipe": "pipe",
    "file": "file",
}
_FORMATS: Mapping[Kind, str] = {
    "http": f"{DEMUXERS},hls,aac,ac3,mp3,webvtt",
    "rtsp": "rtsp,rtp,sdp,mpegts",
    "pipe": DEMUXERS,
    "file": DEMUXERS,
}
_OPTIONS: Mapping[Kind, Mapping[str, str]] = {
    "http": {},
    "rtsp": {"rtsp_transport": "tcp"},
    "pipe": {},
    "file": {},
}
_REPLAY_SECONDS: Mapping[Kind, float] = {"rtsp": 0.0, "http": 10.0, "pipe": 0.0, "file": math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A source as it was named, and what follows from that."""

    url: str
    kind: Kind
    options: Mapping[str, str] = field(default_factory=dict)
    """For FFmpeg, beyond what it is allowed to open."""

    @property
    def name(self) -> str:
        """As it was named, fit for a one-line message, without the keys it may hold."""
        return "stdin" if self.kind == "pipe" else display_name(self.url)

    @property
    def is_live(self) -> bool:
        """Whether pictures come when they happen: what is not taken then is gone."""
        return self.kind in ("rtsp", "http")

    @property
    def replay_seconds(self) -> float:
        """How far back the source may begin again after a reconnection, on the same timeline."""
        return _REPLAY_SECONDS[self.kind]

    @property
    def av_options(self) -> dict[str, str]:
        """Options to open it with: nothing but what its kind needs may be opened on its behalf."""
        return {
            **_OPTIONS[self.kind],
            **self.options,
            "protocol_whitelist": _PROTOCOLS[self.kind],
            "format_whitelist": _FORMATS[self.kind],
        }


def parse_address(source: str) -> Address:
    """Return what a source named on the command line is.

    Raises:
        InputError: an address of a kind that is not read.
    """
    if source == "-":
        return Address(url=source, kind="pipe")
    scheme = _SCHEME.match(source)
    if scheme is None:
        return Address(url=source, kind="file")
    kind = _KINDS.get(scheme[1].lower())
    if kind is None:
        raise InputError(f"{display_name(source)}: is an address that is not watched; give {TAKEN}")
    return Address(url=source, kind=kind)
