"""The options of a stream: those of a run, and how its source is read."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

from streaming.command import suggest
from streaming.flags import change, places
from streaming.options import Options
from streaming.ranges import check_group, group, option
from streaming.serve.chat import client_options
from streaming.serve.failures import RequestError, bad_request, explain
from streaming.watch.defaults import DEFAULT_FPS, DEFAULT_WINDOW, FIXED
from workers.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How a source is read and held, as ``streaming.watch`` has it."""

    window: int = option(
        DEFAULT_WINDOW, "newest frames, held in full; older ones thin out", least=2, most=512
    )
    speed: float = option(
        1.0, "at which a file is played, 0 for as fast as it is encoded", least=0, most=1000
    )
    silence: float = option(
        15.0, "open the source again after so long without a picture", above=0, most=3600
    )
    give_up: float = option(60.0, "end after so long without a picture", above=0, most=86_400)
    max_lag: float = option(
        10.0, "leave out groups of pictures that are later than this", above=0, most=3600
    )

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=())


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions(Options):
    """Every option of a stream."""

    source: SourceOptions = group(SourceOptions, "how a source is read")

    def asking(self) -> Options:
        """Return the options of a run alone."""
        return Options(**{each.name: getattr(self, each.name) for each in fields(Options)})


@cache
def stream_options() -> tuple[str, ...]:
    """Return the options that may be set of a stream when it is opened."""
    own = [name for name, place in places(StreamOptions).items() if place.path[0] == "source"]
    return (*(name for name in client_options() if name not in FIXED), *own)


def settle_options(options: Options, values: Mapping[str, object]) -> StreamOptions:
    """Return the options of a stream: the server's, but for what a clip without an end has not.

    Args:
        options: of the server.
        values: of the request.

    Raises:
        RequestError: names the option.
    """
    for name in values:
        if name in FIXED:
            raise _not_taken(name, "it is for clips with an end")
        if name not in stream_options():
            raise _not_taken(name, f"no stream has it{suggest(name, stream_options())}")
    base = StreamOptions(**{each.name: getattr(options, each.name) for each in fields(Options)})
    fps = options.frames.fps or DEFAULT_FPS
    try:
        return change(base, {**FIXED, "fps": fps, **values}, source="")
    except InputError as error:
        raise explain(error) from None


def _not_taken(name: str, reason: str) -> RequestError:
    return bad_request(f"mr_stream.{name} is not taken: {reason}", f"mr_stream.{name}")
