"""The options of the server, beside those of a run: where it listens and what it refuses."""

import ipaddress
import os
import re
from dataclasses import dataclass, fields

from streaming.options import Options
from streaming.ranges import check_group, group, option
from streaming.serve.streams.addresses import AllowedSources
from workers.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressOptions:
    """Where the server listens, and to whom."""

    host: str = option("127.0.0.1", "address to listen at; any but this machine's own needs a key")
    port: int = option(8000, "port to listen at; 0 takes a free one", least=0, most=65535)
    public_host: str | None = option(
        None, "HOST or HOST:PORT that clients know the server by, where a proxy stands before it"
    )
    api_key_file: str | None = option(
        None, "file that holds the key clients must show (default: MR_STREAM_API_KEY, if set)"
    )

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=())

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    """Where clips may come from beside data: URLs and uploads, and how large they may be."""

    allow_domain: str | None = option(
        None, "hosts that https: URLs may name, with commas between them (default: none)"
    )
    media_folder: str | None = option(
        None, "folder of whose files file: URLs may name any (default: none)"
    )
    max_body_mib: float = option(
        64.0, "largest body of a request, its data: URLs included", above=0, most=4096
    )
    max_file_mib: float = option(
        1024.0, "largest clip that is uploaded or fetched", above=0, most=1_000_000
    )
    files_gib: float = option(
        20.0, "room for clips that were sent or fetched; what was not uploaded goes first",
        above=0, most=1_000_000,
    )  # fmt: skip
    body_seconds: float = option(
        300.0, "longest that a request's body may take to come", above=0, most=86_400
    )
    fetch_seconds: float = option(
        30.0, "longest that a clip at an address may take to come", above=0, most=86_400
    )
    max_seconds: float = option(14_400.0, "longest clip, in seconds", above=0, most=10_000_000)
    max_pixels: int = option(4096 * 2160, "largest picture, in pixels", least=1, most=64_000_000)
    max_frames: int = option(512, "most frames looked at in a clip", least=1, most=1_000_000)

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=())
        for name in self.allowed_domains:
            if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", name):
                raise InputError(f"--allow-domain {name!r}: must be names of hosts, as example.org")
        if self.media_folder is not None and not os.path.isdir(self.media_folder):
            raise InputError(f"--media-folder {self.media_folder}: no such folder")

    @property
    def allowed_domains(self) -> tuple[str, ...]:
        """The hosts that may be named."""
        names = (self.allow_domain or "").split(",")
        return tuple(name.strip().lower().rstrip(".") for name in names if name.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How much the server takes on at a time, and what it keeps for the next question."""

    max_queue: int = option(
        32, "requests that are answered or wait; others are told to come back", least=1, most=1000
    )
    max_answer_tokens: int = option(
        1024, "longest answer that may be asked for", least=1, most=1_000_000
    )
    max_text_letters: int = option(
        32_768, "longest conversation, in letters, its choices included", least=1, most=100_000_000
    )
    request_seconds: float = option(
        600.0, "longest that a request may take, its wait included", above=0, most=86_400
    )
    warm_gib: float = option(
        2.0, "tokens of clips that are kept for the next question", above=0, most=1_000_000
    )
    warm_clips: int = option(64, "clips whose tokens are kept", least=1, most=1_000_000)

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=())


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Which live sources may be opened, and how many at a time."""

    allow_stream: str | None = option(
        None,
        "addresses (rtsp, rtsps, http, https), with commas between them, that streams may be "
        "opened at or below (default: none; files of --media-folder may be played)",
    )
    max_streams: int = option(4, "streams that are kept at a time", least=0, most=1000)

    def __post_init__(self) -> None:
        """Refuse values no server can work with."""
        check_group(self, rivals=())
        try:
            AllowedSources(self.allow_stream)
        except ValueError as error:
            raise InputError(f"--allow-stream: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(Options):
    """Every option of ``streaming.serve``: those of a run are what a request is asked with."""

    address: AddressOptions = group(AddressOptions, "where the server listens, and to whom")
    media: MediaOptions = group(MediaOptions, "which clips are taken")
    load: LoadOptions = group(LoadOptions, "how much is taken on at a time, and kept")
    streams: StreamLimits = group(StreamLimits, "which live sources may be opened")

    def __post_init__(self) -> None:
        """Refuse values no server can work with.

        Raises:
            InputError: names the flag.
        """
        Options.__post_init__(self)
        if self.generation.max_new_tokens > self.load.max_answer_tokens:
            raise InputError(
                f"--max-new-tokens {self.generation.max_new_tokens}: must be at most "
                f"--max-answer-tokens {self.load.max_answer_tokens}"
            )

    def asking(self) -> Options:
        """Return the options of a run alone."""
        return Options(**{each.name: getattr(self, each.name) for each in fields(Options)})
