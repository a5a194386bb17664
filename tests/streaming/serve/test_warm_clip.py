"""What is held of a clip, and what it is reckoned with."""

from types import SimpleNamespace
from typing import Any

from streaming.flags import change
from streaming.options import Options
from streaming.plan import plan_clip
from streaming.serve.service import _num_bytes
from streaming.serve.warm_clip import MOST_VISUALS, WarmClip
from tests.streaming.test_plan import make_sampled


class Engine:
    """Shares budgets out, and counts how often."""

    num_allocations = 0

    def allocate(self, encoded: Any, allocation: Any) -> object:
        self.num_allocations += 1
        return object()


def test_sequences_of_the_budgets_asked_last_are_held() -> None:
    engine: Any = Engine()
    clip = WarmClip(
        clip_id="a",
        encoded=SimpleNamespace(pts_seconds={}),  # type: ignore[arg-type]
        num_bytes=1,
        paths=frozenset(),
    )
    budgets = [*range(MOST_VISUALS), 0, MOST_VISUALS, 0, 1]
    for budget in budgets:
        plan: Any = SimpleNamespace(allocation=lambda pts_seconds, budget=budget: budget)
        clip.watch(engine, plan)
    assert len(clip._visuals) == MOST_VISUALS
    assert engine.num_allocations == MOST_VISUALS + 2


def test_a_clip_is_reckoned_with_its_sequences_and_pictures() -> None:
    sizes = []
    for budget in (100, 200):
        options = change(Options(), {"budget": budget, "pruner": "uniform"}, source="")
        plan = plan_clip(make_sampled(2), options, ["?"], thumbnail_width=320)
        (pruning,) = plan.clip.prunings
        hidden = (_num_bytes(plan) - pictures(plan)) / (
            2 * pruning.max_keep + MOST_VISUALS * plan.num_entering
        )
        sizes.append(hidden / 4)
    assert sizes[0] == sizes[1] == int(sizes[0]) > 0


def pictures(plan: Any) -> int:
    """Return what two thumbnails take, at a byte a pixel."""
    height, width = plan.source.size_of(0)
    scale = min(1, 320 / width)
    return 2 * (int(height * width * scale**2) + 1024)
