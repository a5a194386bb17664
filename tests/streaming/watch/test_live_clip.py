import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from streaming.pipeline import ask
from streaming.result import Answer
from streaming.watch.live_clip import LiveClip
from tests.clips import paint_frame
from tests.streaming.watch.conftest import PlanMaker
from workers.errors import TokensLostError, VideoDecodeError
from workers.messages import Clip
from workers.run.clips import EncodedClip
from workers.run.engine import Engine
from workers.video.live.events import LiveFrame


def frames_of(numbers: Sequence[int]) -> list[LiveFrame]:
    return [
        LiveFrame(picture=paint_frame(n % 1024, width=40, height=24), pts_seconds=n / 4, tick=n)
        for n in numbers
    ]


class CountingEngine:
    """Holds as many numbers as an encoder would hold tokens, and knows how many that is."""

    failure = None

    def __init__(self) -> None:
        self.banks: weakref.WeakSet[Tokens] = weakref.WeakSet()

    def encode(self, clip: Clip) -> EncodedClip:
        (segment,), (pruning,) = clip.segments, clip.prunings
        numbers = range(segment.first_frame, segment.first_frame + len(segment))
        layouts = [clip.tiles.frame(*size).layout for size in segment.sizes.tolist()]
        held = [self._hold(min(pruning.max_keep, layout.num_tokens)) for layout in layouts]
        return EncodedClip(
            clip=clip,
            bank=tuple(held),
            pts_seconds=dict(zip(numbers, segment.pts_seconds.tolist(), strict=True)),
            thumbnails={},
            warnings=(),
            seconds={},
            prune_seconds=(0.0,),
            elapsed_seconds=0.0,
        )

    def shorten(self, clip: Clip, frame: "Tokens", max_keep: int) -> "Tokens":
        return self._hold(min(frame.count, max_keep))

    def _hold(self, count: int) -> "Tokens":
        tokens = Tokens(count)
        self.banks.add(tokens)
        return tokens

    @property
    def num_tokens(self) -> int:
        return sum(tokens.count for tokens in self.banks)


class Tokens:
    def __init__(self, count: int) -> None:
        self.count = count


@pytest.mark.parametrize("values", [{"budget": 64}, {"budget": 1000, "headroom": 2.0}])
def test_what_is_held_never_exceeds_the_cap(make_plan: PlanMaker, values: dict[str, Any]) -> None:
    plan, engine = make_plan("camera", window=6, **values), CountingEngine()
    clip, most = LiveClip(engine, plan), 0
    for number in range(8000):
        clip.feed(frames_of([number]))
        held = clip.hold()
        assert engine.num_tokens == held.num_tokens <= plan.max_held_tokens
        assert len(held.frames) <= plan.window * plan.num_levels
        most = max(most, held.num_tokens)
    assert plan.max_held_tokens <= plan.options.budget.headroom * plan.budget
    assert most > 0.5 * plan.max_held_tokens
    assert 8000 - min(held.frames) > plan.window * 2 ** (plan.num_levels - 1)
    by_age = [frame.num_tokens for _, frame in sorted(held.frames.items(), reverse=True)]
    assert by_age == sorted(by_age, reverse=True)


def test_what_workers_hold_is_what_is_said(engine: Engine, make_plan: PlanMaker) -> None:
    plan = make_plan("camera", budget=64, high_resolution="none")
    clip = LiveClip(engine, plan)
    clip.feed(frames_of(range(150)))
    held = clip.hold()
    tokens = {number: len(frame.tokens[0].features) for number, frame in held.frames.items()}
    assert tokens == {number: frame.num_tokens for number, frame in held.frames.items()}
    old = [frame for frame in held.frames.values() if frame.level]
    assert all(frame.tokens[0].features.base is None for frame in old)
    kept = [len(frame.keep_indices) for frame in clip.watch().visual.frames]
    assert sum(kept) == min(plan.budget, held.num_tokens)


def test_frames_fed_one_by_one_are_held_as_frames_fed_together(
    engine: Engine, make_plan: PlanMaker
) -> None:
    plan = make_plan("camera")
    together, alone = LiveClip(engine, plan), LiveClip(engine, plan)
    together.feed(frames_of(range(23)))
    for frame in frames_of(range(23)):
        alone.feed([frame])
    ids = [clip.watch().visual.handle.visual_id for clip in (together, alone)]
    assert ids[0] == ids[1]


def test_it_is_asked_while_it_grows(engine: Engine, make_plan: PlanMaker) -> None:
    clip = LiveClip(engine, make_plan("camera"))
    clip.feed(frames_of(range(8)))
    before = {clip.watch().visual.handle.visual_id: 8}
    answers: list[Answer] = []

    def keep_asking() -> None:
        for _ in range(8):
            pieces = ask(engine, clip.watch(), "what?", choices=["yes", "no"])
            answers.extend(piece for piece in pieces if isinstance(piece, Answer))

    threads = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(8, 40):
        clip.feed(frames_of([number]))
        before[clip.watch().visual.handle.visual_id] = number
    for thread in threads:
        thread.join()
    assert len(before) == 33
    assert len(answers) == 16
    assert {answer.answer for answer in answers} <= {"yes", "no"}
    assert all(answer.num_visual_tokens <= 128 for answer in answers)


def test_frames_may_come_in_several_sizes(engine: Engine, make_plan: PlanMaker) -> None:
    clip = LiveClip(engine, make_plan("camera"))
    wide = LiveFrame(picture=np.zeros((30, 90, 3), np.uint8), pts_seconds=9.0, tick=9)
    clip.feed([*frames_of(range(3)), wide])
    layouts = {frame.layout for frame in clip.watch().visual.frames}
    assert len(layouts) == 2


def test_nothing_seen_is_an_error(engine: Engine, make_plan: PlanMaker) -> None:
    with pytest.raises(VideoDecodeError, match=r"^camera: nothing has been seen of it$"):
        LiveClip(engine, make_plan("camera")).watch()


def test_frames_whose_machine_is_gone_are_forgotten(
    engine: Engine, make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = LiveClip(engine, make_plan("camera"))
    clip.feed(frames_of(range(10)))
    whole = clip.hold().frames
    lost = [frame.tokens for number, frame in whole.items() if number % 2]
    allocate, shorten = engine.allocate, engine.shorten

    def check(tokens: Sequence[object]) -> None:
        if any(each is gone for each in tokens for gone in lost):
            raise TokensLostError("gone")

    monkeypatch.setattr(
        engine, "allocate", lambda encoded, how: (check(encoded.bank), allocate(encoded, how))[1]
    )
    monkeypatch.setattr(
        engine, "shorten", lambda c, frame, n: (check([frame]), shorten(c, frame, n))[1]
    )
    watched = clip.watch()
    kept = [number for number in whole if number % 2 == 0]
    assert [frame.frame_index for frame in watched.visual.frames] == kept
    assert list(clip.hold().frames) == kept
    assert clip.num_lost == len(lost)
