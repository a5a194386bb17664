"""A stream on Ray: the same sequences, and nothing is held that was evicted."""

import pytest

from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.watch.live_clip import LiveClip
from tests.streaming.watch.conftest import PlanMaker
from tests.streaming.watch.test_live_clip import frames_of
from workers.run.engine import Engine

pytestmark = pytest.mark.slow


def num_references() -> int:
    """Objects that this process holds on to, wherever they are."""
    import ray

    return len(ray._private.worker.global_worker.core_worker.get_all_reference_counts())


def test_it_is_the_same_on_ray_and_lets_go_of_what_is_old(
    engine: Engine, make_plan: PlanMaker, options: Options
) -> None:
    plan = make_plan("camera", window=3)
    local = LiveClip(engine, plan)
    on_ray = change(options, {"executor": "ray", "num_decoders": 1}, source="the test")
    with open_engine(on_ray) as engine_on_ray:
        from workers.run.on_ray import fetch  # with Ray, which reads the environment first

        clip = LiveClip(engine_on_ray, plan)
        for first in range(0, 96, 8):
            frames = frames_of(range(first, first + 8))
            local.feed(frames)
            clip.feed(frames)
            here, there = local.watch().visual, clip.watch().visual
            sequence = fetch(there.handle, timeout_seconds=60)
            assert sequence.visual_id == here.handle.visual_id
        num_held = len(clip.hold().frames)
        assert num_held < 30
        del there, sequence
        assert num_references() <= num_held + 8
