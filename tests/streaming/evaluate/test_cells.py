from typing import Any

import pytest

from streaming.evaluate.cells import Cell, make_cells
from streaming.flags import change
from streaming.options import Options
from workers.errors import InputError


def cells(**changes: Any) -> list[Cell]:
    settings: dict[str, Any] = {
        "pruners": ["none", "random", "mr_pruner"], "variants": [], "keep_ratios": [1.0, 0.1],
        "budgets": [], "num_seeds": 1,
    }  # fmt: skip
    return make_cells(Options(), **(settings | changes))


def changed(**values: Any) -> Options:
    return change(Options(), values, source="the test")


def test_unpruned_stands_alone_at_one() -> None:
    assert [cell.key for cell in cells()] == [
        ("none", "1", 0), ("random", "0.1", 0), ("mr_pruner", "0.1", 0),
    ]  # fmt: skip
    assert [cell.key[:2] for cell in cells(pruners=["evs"], budgets=[64])] == [
        ("evs", "1"), ("evs", "0.1"), ("evs", "64 tokens"),
    ]  # fmt: skip


def test_only_random_is_drawn_more_than_once() -> None:
    made = cells(num_seeds=3)
    assert [cell.key[2] for cell in made if cell.row == "random"] == [0, 1, 2]
    assert len(made) == 5


def test_a_variant_changes_what_it_names() -> None:
    texts = ["headroom=2", "novelty=false, pruner=gprune,frame_factor=2.5", "pruner-steps=3"]
    first, second, third = cells(pruners=[], variants=texts, keep_ratios=[0.1])
    assert (first.row, first.options) == ("headroom=2", changed(headroom=2.0))
    assert second.options == changed(novelty=False, pruner="gprune")
    assert second.frames(8).num_frames == 20
    assert second.frames(None).num_frames == 80
    assert third.options == changed(pruner_steps=3)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"num_frames": 3}, (6, None)), ({"fps": 1.5}, (None, 3.0)), ({}, (16, None))],
)
def test_frames_that_are_asked_for_go_before_those_of_the_set(
    options: dict[str, Any], wanted: tuple[int | None, float | None]
) -> None:
    (cell,) = make_cells(
        changed(**options),
        pruners=[],
        variants=["frame_factor=2"],
        keep_ratios=[0.1],
        budgets=[],
        num_seeds=1,
    )
    frames = cell.frames(8)
    assert (frames.num_frames, frames.fps) == wanted


def test_seeds_follow_that_of_the_run() -> None:
    made = make_cells(
        changed(seed=5),
        pruners=["random", "uniform"],
        variants=[],
        keep_ratios=[0.1],
        budgets=[],
        num_seeds=2,
    )
    assert [cell.key for cell in made] == [
        ("random", "0.1", 5), ("random", "0.1", 6), ("uniform", "0.1", 5),
    ]  # fmt: skip
    assert [cell.options.generation.seed for cell in made] == [5, 6, 5]


def test_a_budget_is_a_part_of_all_tokens() -> None:
    (cell,) = cells(pruners=["tome"], keep_ratios=[0.29])
    assert cell.budgeted(100, 100).keep_ratio == pytest.approx(0.29)
    assert cell.budgeted(100, 200).keep_ratio == pytest.approx(0.145)
    assert cell.budgeted(400, 100).keep_ratio == 1
    assert cells(pruners=["none"])[0].budgeted(100, 100).keep_ratio is None
    (fixed,) = cells(pruners=["tome"], keep_ratios=[], budgets=[64])
    assert (fixed.budgeted(100, 50).budget, fixed.budgeted(100, 50).keep_ratio) == (64, None)


def test_variants_stand_behind_pruners_and_may_have_names() -> None:
    made = cells(pruners=["none"], variants=["aware: question_aware=true"], keep_ratios=[0.1])
    assert [cell.row for cell in made] == ["none", "aware"]
    assert made[1].options == changed(question_aware=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_ratios": [0.0]}, r"--keep-ratios 0: must be above 0"),
        ({"budgets": [0]}, r"--budgets 0: must be at least 1"),
        ({"pruners": ["tome", "tome"]}, "a row is named twice"),
        ({"variants": ["novlty=true"]}, "'novlty' cannot be varied; did you mean novelty"),
        ({"variants": ["model=x"]}, "'model' cannot be varied"),
        ({"variants": ["novelty=3"]}, "--variant: novelty must be of type bool, not 3"),
        ({"variants": ["frame_factor=0"]}, "frame_factor=0: must be a number above 0"),
        ({"variants": ["shares=more"]}, "^--variant: shares 'more' is none of equal, informative"),
        ({"variants": ["headroom=0.5"]}, "^--variant: --headroom 0.5: must be at least 1"),
        ({"variants": ["pruner=tme"]}, "did you mean tome"),
        ({"variants": ["novelty"]}, "'novelty' cannot be varied"),
    ],
)
def test_what_is_not_valid_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cells(**changes)
