"""What is held of a stream at one moment, and the budget shared out among it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from streaming.pipeline import WatchedClip
from streaming.watch.plan import LivePlan
from workers.errors import InputError, VideoDecodeError
from workers.run.clips import EncodedClip
from workers.run.engine import Engine
from workers.video.live.ticks import Ticks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldFrame:
    """A handle on a frame's ranked tokens, its media time, its (height, width) and its level."""

    tokens: Any
    num_tokens: int
    pts_seconds: float
    size: tuple[int, int]
    level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """The frames that are held of the first ``num_frames`` of a stream, by number, in order.

    ``seconds`` are the busy seconds that the stream has taken so far, by stage; ``last_tick`` is
    the tick of the last frame that was fed, -1 where none was.
    """

    frames: Mapping[int, HeldFrame]
    num_frames: int
    seconds: Mapping[str, float]
    last_tick: int = -1

    @property
    def num_tokens(self) -> int:
        """Tokens of all of them."""
        return sum(frame.num_tokens for frame in self.frames.values())


def reached_seconds(held: Held, ticks: Ticks | None, newest_seconds: float | None) -> float | None:
    """Return a media time up to which just the frames were sampled that were fed, None before any.

    That is where the source stands, if it has come to no tick since, else the tick behind the last
    frame. The file cut there holds the same.

    Args:
        held: of a stream.
        ticks: when its pictures are sampled.
        newest_seconds: the media time that the source has reached, which may be ahead.
    """
    if ticks is None or held.last_tick < 0:
        return None
    if newest_seconds is not None and ticks.before(newest_seconds) == held.last_tick + 1:
        return newest_seconds
    return ticks.at(held.last_tick + 1)


def watch_held(engine: Engine, plan: LivePlan, held: Held) -> WatchedClip:
    """Share the budget out among held frames, each level weighing half as much as the one before.

    Args:
        engine: holds the tokens.
        plan: of the clip.
        held: what there is.

    Raises:
        VideoDecodeError: nothing is held.
        InputError: the budget does not pay for a token of each frame.
        StreamError: a worker failed.
    """
    if not held.frames:
        raise VideoDecodeError(f"{plan.name}: nothing has been seen of it")
    frames = list(held.frames.values())
    times = [frame.pts_seconds for frame in frames]
    snapshot = plan.snapshot([frame.size for frame in frames], times)
    encoded = EncodedClip(
        clip=snapshot.clip,
        bank=tuple(frame.tokens for frame in frames),
        pts_seconds=dict(zip(held.frames, times, strict=True)),
        thumbnails={},
        warnings=(),
        seconds=held.seconds,
        prune_seconds=(0.0,),
        elapsed_seconds=0.0,
        num_encoded_tiles=snapshot.num_tiles,
    )
    weights = tuple(0.5**frame.level for frame in frames)
    allocation = replace(snapshot.allocation(times), weights=weights)
    if len(frames) + sum(allocation.num_timestamp_tokens) > plan.budget:
        raise InputError(
            f"--budget {plan.budget} does not pay for each of the {len(frames)} frames that are "
            f"held of {plan.name}: raise it"
        )
    return WatchedClip(plan=snapshot, visual=engine.allocate(encoded, allocation))
