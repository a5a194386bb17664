"""A clip that grows: frames are fed to it, and it can be asked at any time."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streaming.pipeline import WatchedClip
from streaming.watch.ageing import Ageing
from streaming.watch.held import Held, HeldFrame, watch_held
from streaming.watch.plan import LivePlan
from workers.errors import TokensLostError
from workers.messages import Clip
from workers.run.engine import Engine
from workers.video.images import ImageSegment
from workers.video.live.events import LiveFrame


class LiveClip:
    """The bounded memory of a stream.

    A fold over the sampled frames in the order of their media time: what is held after n of them
    depends on these n alone, not on when they came. Frames are fed by one thread at a time; any
    number of threads may :meth:`watch` and ask meanwhile, and see the clip between two frames.

    Args:
        engine: with workers, which hold the tokens.
        plan: of the clip.
    """

    def __init__(self, engine: Engine, plan: LivePlan) -> None:
        self.plan = plan
        self._engine = engine
        self._ageing = Ageing(plan.window, plan.num_levels)
        self._held: dict[int, HeldFrame] = {}
        self._feeding = threading.Lock()
        self._changing = threading.Lock()
        self._seconds: Counter[str] = Counter()
        self._num_frames, self._last_tick = 0, -1
        self.num_lost = 0
        """Frames that no worker could encode, or whose machine is gone."""

    @property
    def num_frames(self) -> int:
        """Frames that were fed."""
        return self._num_frames

    def feed(self, frames: Sequence[LiveFrame]) -> None:
        """Encode the next frames, and let older ones age; blocks until that is done.

        Raises:
            StreamError: a model or a worker failed.
        """
        with self._feeding:
            first = self._ageing.num_frames
            tokens = self._encode(frames, first) if frames else {}
            for number, frame in enumerate(frames, first):
                changes = self._age()
                if number in tokens:
                    changes[number] = self._held_frame(frame, tokens[number])
                else:
                    self.num_lost += 1
                with self._changing:
                    self._change(changes)
                    self._num_frames, self._last_tick = number + 1, frame.tick

    def _encode(self, frames: Sequence[LiveFrame], first: int) -> dict[int, Any]:
        """Return handles on the ranked tokens of frames, by number."""
        encoded = self._engine.encode(_clip_of(self.plan, frames, first))
        self._seconds.update(encoded.seconds)
        self._seconds.update({"prune": sum(encoded.prune_seconds)})
        return dict(zip(encoded.pts_seconds, encoded.bank, strict=True))

    def _held_frame(self, frame: LiveFrame, tokens: Any) -> HeldFrame:
        height, width = frame.picture.shape[:2]
        return HeldFrame(
            tokens=tokens,
            num_tokens=self.plan.num_tokens((height, width), level=0),
            pts_seconds=frame.pts_seconds,
            size=(height, width),
        )

    def _age(self) -> dict[int, HeldFrame | None]:
        """Make room for one more frame; return what becomes of those held, None for forgotten."""
        held = {move: self._held.get(move.frame) for move in self._ageing.add()}
        return {
            move.frame: None if move.level is None else self._shorten(frame, move.level)
            for move, frame in held.items()
            if frame is not None
        }

    def _shorten(self, frame: HeldFrame, level: int) -> HeldFrame | None:
        """Return a frame as a level holds it, None where its tokens are gone."""
        clip = self.plan.clip(())
        try:
            tokens = self._engine.shorten(clip, frame.tokens, self.plan.cap(level))
        except TokensLostError:
            self.num_lost += 1
            return None
        num_tokens = self.plan.num_tokens(frame.size, level=level)
        return replace(frame, tokens=tokens, num_tokens=num_tokens, level=level)

    def _change(self, changes: dict[int, HeldFrame | None]) -> None:
        for number, frame in changes.items():
            if frame is None:
                self._held.pop(number, None)
            else:
                self._held[number] = frame

    def hold(self) -> Held:
        """Return what is held now."""
        with self._changing:
            return Held(
                frames=dict(sorted(self._held.items())),
                num_frames=self._num_frames,
                seconds=dict(self._seconds),
                last_tick=self._last_tick,
            )

    def watch(self) -> WatchedClip:
        """Share the budget out among what is held now: a clip like any other, to be asked about.

        Raises:
            VideoDecodeError: nothing is held.
            StreamError: a worker failed.
        """
        return self.look(self.plan)[1]

    def look(self, plan: LivePlan) -> tuple[Held, WatchedClip]:
        """Return what is held now, and share a budget out among it.

        Args:
            plan: of this clip, or one that differs from it in what is asked: a smaller budget,
                another length of the answer.

        Raises:
            VideoDecodeError: nothing is held.
            StreamError: a worker failed.
        """
        held = self.hold()
        try:
            return held, watch_held(self._engine, plan, held)
        except TokensLostError:
            self._forget_lost()
            held = self.hold()
            return held, watch_held(self._engine, plan, held)

    def _forget_lost(self) -> None:
        """Find out whose tokens went with a machine, and forget these frames."""
        with self._feeding:
            held = self.hold().frames
            left = {n: self._shorten(frame, frame.level) for n, frame in held.items()}
            with self._changing:
                self._change(left)


def warm_up(engine: Engine, plan: LivePlan) -> None:
    """Return once frames can be encoded as they come; blocks while models are loaded.

    Raises:
        StreamError: a model cannot be loaded.
    """
    side = plan.tiles.tile_size
    blank = LiveFrame(picture=np.zeros((side, side, 3), np.uint8), pts_seconds=0.0, tick=0)
    engine.encode(_clip_of(plan, [blank], 0))


def _clip_of(plan: LivePlan, frames: Sequence[LiveFrame], first: int) -> Clip:
    """Return frames as a clip of pictures whose handles are one for each."""
    segment = ImageSegment(
        clip_id=plan.clip_id,
        pictures=tuple(frame.picture for frame in frames),
        sizes=np.array([frame.picture.shape[:2] for frame in frames], np.int64),
        pts_seconds=np.array([frame.pts_seconds for frame in frames]),
        first_frame=first,
        frames_per_chunk=1,
    )
    return plan.clip([segment])
