from typing import Any

import pytest

from tests.streaming.watch.conftest import PlanMaker
from workers.errors import ContextError, InputError


@pytest.mark.parametrize("window", [2, 5, 32])
@pytest.mark.parametrize("values", [{}, {"timestamps": True}, {"headroom": 1.0}, {"budget": 4}])
def test_all_levels_together_hold_at_most_headroom_budgets(
    make_plan: PlanMaker, window: int, values: dict[str, Any]
) -> None:
    plan = make_plan("camera", window=window, **values)
    held = sum(plan.window * plan.cap(level) for level in range(plan.num_levels))
    assert held == plan.max_held_tokens <= plan.options.budget.headroom * plan.budget
    assert plan.cap(plan.num_levels - 1) >= 1
    assert 2 <= plan.window <= window
    assert plan.window * plan.num_levels <= plan.budget  # a token for every frame


def test_the_default_budget_is_what_the_context_leaves(make_plan: PlanMaker) -> None:
    assert make_plan("camera", budget=None).budget == 4096  # of 32,768
    left = make_plan("camera", budget=None, max_new_tokens=32_000)
    assert 500 < left.budget < 768 - left.window * left.num_levels


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pruner": "vidcom2"}, "--pruner vidcom2 looks at a whole clip; a stream is pruned by"),
        ({"pruner": "none", "budget": None}, "--pruner none looks at a whole clip"),
        ({"num_frames": 8}, "--num-frames is for clips with an end: leave it out"),
        ({"end": 3.0}, "--end is for clips with an end: leave it out"),
        ({"bank": "x"}, "--bank is for clips with an end: leave it out"),
        ({"high_resolution": "gated"}, "--high-resolution gated compares frames of a clip"),
        ({"budget": 1}, "--budget 1 does not pay for two frames of a stream: raise it"),
    ],
)
def test_what_needs_an_end_is_refused(
    make_plan: PlanMaker, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        make_plan("camera", **values)


def test_a_question_that_fills_the_context_is_refused(make_plan: PlanMaker) -> None:
    with pytest.raises(ContextError, match=r"^the model's context leaves 0 tokens"):
        make_plan("camera", max_new_tokens=1_000_000)
    with pytest.raises(InputError, match=r"^--window 1: must be at least 2 frames$"):
        make_plan("camera", window=1)
