"""What is settled of a clip that grows before its first picture has come."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pruner import METHODS
from streaming.clip_plan import ClipPlan
from streaming.flags import flat
from streaming.form import check_form
from streaming.options import Options
from streaming.ranges import flag
from streaming.rankings import make_pruning
from streaming.sample import check_run, open_checkpoint
from streaming.watch.defaults import DEFAULT_FPS, DEFAULT_WINDOW, FIXED
from streaming.watch.room import Room
from streaming.watch.standing import StandingQuestion
from workers.errors import InputError
from workers.frames import Pruning
from workers.llm.chat_template import ChatTemplate
from workers.messages import Clip
from workers.video.images import ImageSource
from workers.video.segments import Segment
from workers.vision.geometry import TileGeometry

_LONGEST_FRAME = 1 << 40
"""Tokens of a frame, of which nothing is known yet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LivePlan:
    """What is done with a clip that grows.

    The newest ``window`` frames hold at most ``pruning.max_keep`` tokens each, and weigh 1 in the
    budget; on each of ``num_levels`` levels of age (see :class:`streaming.watch.ageing.Ageing`)
    both are half of what they are on the one before.
    """

    clip_id: str
    name: str
    options: Options
    template: ChatTemplate
    tiles: TileGeometry
    budget: int
    window: int
    num_levels: int
    pruning: Pruning

    @property
    def fps(self) -> float:
        """Frames that are sampled a second of media time."""
        return self.options.frames.fps or DEFAULT_FPS

    def cap(self, level: int) -> int:
        """Return the most tokens that a frame of a level holds, at least 1."""
        return self.pruning.max_keep >> level

    def num_tokens(self, size: tuple[int, int], *, level: int) -> int:
        """Return how many tokens a level holds of a frame of (height, width)."""
        return min(self.cap(level), self.tiles.frame(*size).layout.num_tokens)

    @property
    def max_held_tokens(self) -> int:
        """The most tokens that are ever held: at most headroom x budget."""
        return sum(self.window * self.cap(level) for level in range(self.num_levels))

    def clip(self, segments: Sequence[Segment], *, max_keep: int | None = None) -> Clip:
        """Return what workers are told of some frames."""
        pruning = self.pruning
        if max_keep is not None:
            pruning = replace(pruning, max_keep=max_keep)
        return Clip(
            clip_id=self.clip_id,
            name=self.name,
            segments=tuple(segments),
            num_frames=sum(map(len, segments)),
            tiles=self.tiles,
            prunings=(pruning,),
            resize=self.options.frames.resize,
        )

    def snapshot(self, sizes: Sequence[tuple[int, int]], pts_seconds: Sequence[float]) -> ClipPlan:
        """Return the plan of a clip of the frames that are held, by their (height, width)."""
        lengths = [self.tiles.frame(*size).layout.num_tokens for size in sizes]
        return ClipPlan(
            clip=replace(self.clip(()), num_frames=len(sizes)),
            # Their pictures are gone: what is left of them is their size.
            source=ImageSource(pictures=(self.name,) * len(sizes), sizes=np.array(sizes, np.int64)),
            frames=np.arange(len(sizes)),
            template=self.template,
            budget=self.budget,
            num_entering=self.budget,
            pruning=0,
            max_keep=self.pruning.max_keep,
            num_unpruned_tokens=sum(lengths),
            source_seconds=pts_seconds[-1] - pts_seconds[0],
            compact_positions=True,
            options=self.options,
            warnings=(),
        )


def plan_live(
    name: str,
    options: Options,
    questions: Sequence[StandingQuestion],
    *,
    window: int = DEFAULT_WINDOW,
) -> LivePlan:
    """Settle how much is held of a clip that grows, and for how long.

    A frame's nominal share is ``budget / (2 window)``: newest frames get half of the budget, those
    of each further level half of what is left. It holds ``headroom`` times that, which halves with
    each level as long as a token is left of it, so that all levels together hold at most
    ``headroom`` budgets. Fewer levels, at last a smaller window, where the budget does not pay for
    one token (and one timestamp) of every frame, or the context has no room for them.

    Args:
        name: of the source.
        options: of the run.
        questions: the longest of them decides what of the context is left.
        window: newest frames that are held in full, at least 2.

    Raises:
        InputError: the options are not for a clip without an end, or the budget is too small.
        ContextError: a question does not fit the model's context.
        ModelError: the model cannot be found or used.
    """
    _check(options, window)
    check_run(options)
    for question in questions:
        check_form(options.generation, question.choices)
    checkpoint = open_checkpoint(options.model.model)
    tiles = checkpoint.geometry
    tiles = tiles.without_grid() if options.frames.high_resolution == "none" else tiles
    room = Room(checkpoint.template, options, questions)
    frames, num_levels, budget = room.settle(window)
    share = room.share(budget, frames, num_levels)
    pruning = make_pruning(options, share, _LONGEST_FRAME)
    return LivePlan(
        clip_id=hashlib.blake2b(name.encode(errors="backslashreplace")).hexdigest()[:16],
        name=name,
        options=options,
        template=checkpoint.template,
        tiles=tiles,
        budget=budget,
        window=frames,
        num_levels=num_levels,
        pruning=replace(pruning, max_keep=max(1, int(share * options.budget.headroom))),
    )


def _check(options: Options, window: int) -> None:
    for name, value in flat(options).items():
        if name in FIXED and value != FIXED[name]:
            raise InputError(f"{flag(name)} is for clips with an end: leave it out")
    method = METHODS[options.pruning.pruner]
    if method.scope != "frame" or method.enters_unpruned:
        names = ", ".join(n for n, m in METHODS.items() if m.scope == "frame")
        raise InputError(
            f"--pruner {options.pruning.pruner} looks at a whole clip; a stream is pruned by one "
            f"of {names}"
        )
    if options.frames.high_resolution == "gated":
        raise InputError("--high-resolution gated compares frames of a clip: give all or none")
    if window < 2:
        raise InputError(f"--window {window}: must be at least 2 frames")
