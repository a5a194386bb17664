"""A clip that is encoded, as questions share it."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from streaming.clip_plan import ClipPlan
from streaming.pipeline import WatchedClip, allocate
from streaming.serve.evidence import Picture, show_picture
from workers.run.clips import EncodedClip, Visual
from workers.run.engine import Engine
from workers.visual import Allocation

MOST_VISUALS = 2
"""Budgets of a clip of which the sequence is held: what is shared out again takes milliseconds."""


@dataclass(kw_only=True, eq=False)
class WarmClip:
    """A clip that is encoded; the sequences that were made of it are held for questions to share.

    Questions about one sequence are answered together, so they must be about the same one.
    """

    clip_id: str
    encoded: EncodedClip
    num_bytes: int
    paths: frozenset[str]
    _visuals: OrderedDict[Allocation, Visual] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, engine: Engine, plan: ClipPlan) -> WatchedClip:
        """Share a budget out, unless that was done before."""
        allocation = plan.allocation(list(self.encoded.pts_seconds.values()))
        with self._lock:
            visual = self._visuals.get(allocation)
            if visual is None:
                visual = allocate(engine, plan, self.encoded).visual
                self._visuals[allocation] = visual
            self._visuals.move_to_end(allocation)
            while len(self._visuals) > MOST_VISUALS:
                self._visuals.popitem(last=False)
        return WatchedClip(plan=plan, visual=visual)

    @cached_property
    def pictures(self) -> Mapping[int, Picture]:
        """What a client is told of the frames' pictures, by frame."""
        jpegs = self.encoded.thumbnails.items()
        return {frame: show_picture(self.clip_id, frame, jpeg) for frame, jpeg in jpegs}
