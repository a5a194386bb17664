"""The answer on the file cut at a time: what a stream of the same pictures must answer then."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from streaming.watch.ageing import Ageing
from streaming.watch.held import Held, HeldFrame
from streaming.watch.plan import LivePlan
from workers.run.engine import Engine
from workers.video.sampling import sample_frames
from workers.video.segments import cut_segments
from workers.video.video_index import VideoIndex


def hold_cut(engine: Engine, plan: LivePlan, source: VideoIndex, end_seconds: float) -> Held:
    """Hold of a file what a stream of it holds when it has come to a time, but read it as a file.

    The frames that a stream would hold are sought by their time, each is encoded for its level, and
    nothing else is read.

    Args:
        engine: with workers.
        plan: of the stream.
        source: the file.
        end_seconds: in source time; pictures from then on are not seen.

    Raises:
        InputError: the time is outside the clip.
        StreamError: a worker failed.
    """
    positions = sample_frames(source, fps=plan.fps, end_seconds=end_seconds)
    ageing = Ageing(plan.window, plan.num_levels)
    for _ in positions:
        ageing.add()
    (every,) = cut_segments(
        plan.clip_id,
        source,
        positions,
        decoder="pyav",
        frames_per_chunk=1,
        max_chunks=len(positions),
    )
    frames: dict[int, HeldFrame] = {}
    seconds: Counter[str] = Counter()
    size = source.size_of(0)
    for level in range(plan.num_levels):
        numbers = [number for number, at in ageing.levels.items() if at == level]
        segments = [every[start:end] for start, end in _runs(numbers)]
        encoded = engine.encode(plan.clip(segments, max_keep=plan.cap(level)))
        seconds.update(encoded.seconds)
        for number, tokens in zip(encoded.pts_seconds, encoded.bank, strict=True):
            frames[number] = HeldFrame(
                tokens=tokens,
                num_tokens=plan.num_tokens(size, level=level),
                pts_seconds=encoded.pts_seconds[number],
                size=size,
                level=level,
            )
    return Held(frames=dict(sorted(frames.items())), num_frames=len(positions), seconds=seconds)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first of consecutive numbers, and the one behind the last."""
    breaks = [i for i, (a, b) in enumerate(pairwise(numbers), 1) if b != a + 1]
    for start, end in pairwise([0, *breaks, len(numbers)] if numbers else []):
        yield numbers[start], numbers[end - 1] + 1
