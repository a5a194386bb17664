import threading
from collections.abc import Sequence

import numpy as np
import pytest

from streaming.pipeline import ask
from streaming.result import Answer
from streaming.watch.live_clip import LiveClip
from tests.clips import paint_frame
from tests.streaming.watch.conftest import PlanMaker
from workers.errors import TokensLostError, VideoDecodeError
from workers.run.engine import Engine
from workers.video.live.events import LiveFrame


def frames_of(numbers: Sequence[int]) -> list[LiveFrame]:
    return [
        LiveFrame(picture=paint_frame(n % 1024, width=40, height=24), pts_seconds=n / 4, tick=n)
        for n in numbers
    ]


def test_what_is_held_never_exceeds_the_cap(engine: Engine, make_plan: PlanMaker) -> None:
    plan = make_plan("camera", budget=64, high_resolution="none")
    assert plan.max_held_tokens <= 4.0 * 64
    clip = LiveClip(engine, plan)
    most = 0
    for first in range(0, 2000, 50):
        clip.feed(frames_of(range(first, first + 50)))
        held = clip.hold()
        tokens = [len(frame.tokens[0].features) for frame in held.frames.values()]
        assert sum(tokens) == held.num_tokens <= plan.max_held_tokens
        most = max(most, held.num_tokens)
    assert most > 0.5 * plan.max_held_tokens
    assert held.num_frames == 2000
    assert len(held.frames) <= plan.window * plan.num_levels
    ages = [2000 - number for number in held.frames]
    assert max(ages) > plan.window * 2 ** (plan.num_levels - 1)
    by_age = [frame.num_tokens for _, frame in sorted(held.frames.items(), reverse=True)]
    assert by_age == sorted(by_age, reverse=True)
    assert by_age[-1] == 1
    watched = clip.watch()
    kept = [len(frame.keep_indices) for frame in watched.visual.frames]
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
