from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from pruner import Candidates, FrameLayout, Task, greedy, newlines_last, rank
from pruner import runs as module
from pruner.coverage import cover
from tests.pruner import loop_reference

LAYOUT = FrameLayout(num_base=4, rows=3, columns=4)
TILE = FrameLayout(num_base=4, rows=0, columns=0)
DIM = 6


def draw(
    *layouts: FrameLayout, frame_indices: Any = None, count: int = 99, seed: int = 0
) -> Candidates:
    """Clustered tokens in a drawn order, some of them twice and some zero."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(each.num_tokens, generator=generator)[:count] for each in layouts]
    num = sum(map(len, orders))
    centres = torch.randn(5, DIM, generator=generator)
    cluster = torch.randint(5, (num,), generator=generator)
    spread = 0.4 * torch.randint(0, 2, (num, 1), generator=generator)
    features = centres[cluster] + spread * torch.randn(num, DIM, generator=generator)
    features[torch.rand(num, generator=generator) < 0.05] = 0
    return Candidates(
        features=features * (0.5 + torch.rand(num, 1, generator=generator)),
        order=torch.cat(orders),
        counts=[len(order) for order in orders],
        frame_indices=range(len(layouts)) if frame_indices is None else frame_indices,
        layouts=layouts,
    )


def mixed() -> Candidates:
    return draw(LAYOUT, TILE, LAYOUT, LAYOUT, frame_indices=[0, 1, 4, 11])


def test_the_choice_is_that_of_the_plain_greedy_algorithm() -> None:
    candidates = mixed()
    num = len(candidates.features)
    expected = loop_reference.coverage(candidates, [range(num)], num)
    for budget in (0, 1, 2, 9, 23, num - 1, num, num + 7):
        assert cover(candidates, budget).tolist() == sorted(expected[:budget])


@pytest.mark.parametrize("most", [17, 4096])
def test_a_frame_is_paid_once_and_what_is_not_paid_for_is_passed_over(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_TOGETHER", most)
    costs = [6, 1, 0, 9, 4]
    candidates = replace(draw(*[LAYOUT] * 5, count=8), frame_costs=costs)
    owner = [frame for frame in range(5) for _ in range(8)]
    runs = {17: [range(16), range(16, 32), range(32, 40)], 4096: [range(40)]}[most]
    order = loop_reference.coverage(candidates, runs, 40)
    for budget in range(0, 65, 5):
        left, chosen = budget, list[int]()
        for place in order:
            opened = owner[place] in {owner[other] for other in chosen}
            cost = 1 if opened else 1 + costs[owner[place]]
            if cost <= left:
                chosen.append(place)
                left -= cost
        assert cover(candidates, budget).tolist() == sorted(chosen)
        spent = len(chosen) + sum(costs[frame] for frame in {owner[place] for place in chosen})
        assert budget - spent == left
        others = {own for place, own in enumerate(owner) if place not in chosen}
        assert left < 1 + min((costs[frame] for frame in others), default=budget)


def test_a_frame_gets_enough_to_be_worth_its_cost_or_is_left_out() -> None:
    axes = torch.eye(6)
    candidates = Candidates(
        features=axes,
        order=torch.tensor([0, 1, 0, 0, 0, 1]),
        counts=[2, 1, 1, 2],
        frame_indices=range(4),
        layouts=[TILE] * 4,
    )
    assert cover(candidates, 4).tolist() == [0, 2, 3, 4]
    # Two things of one frame for 2 + 3 each are worth more than one of another for 1 + 3.
    assert cover(replace(candidates, frame_costs=[3] * 4), 10).tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("most", [1, 8, 17])
def test_long_clips_are_covered_run_by_run(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TOGETHER", most)
    candidates = draw(*[LAYOUT] * 5, count=8)
    runs = {1: [8] * 5, 8: [8] * 5, 17: [16, 16, 8]}[most]
    parts = [range(end - n, end) for n, end in zip(runs, accumulate(runs), strict=True)]
    for budget in (1, 12, 35):
        expected = loop_reference.coverage(candidates, parts, budget)
        assert cover(candidates, budget).tolist() == sorted(expected)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_blocks_of_rows_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cover(mixed(), 20)
    monkeypatch.setattr(greedy, "_ROWS", rows)
    assert torch.equal(cover(mixed(), 20), expected)


def test_what_repeats_is_kept_once_as_long_as_it_is_near() -> None:
    apart = torch.eye(4)
    frames = [apart[:2], apart[:2], apart[2:], apart[:2]]
    seen = Candidates(
        features=torch.cat(frames),
        order=torch.tensor([0, 1] * 4),
        counts=[2] * 4,
        frame_indices=[0, 1, 2, 20],
        layouts=[TILE] * 4,
    )
    assert cover(seen, 6).tolist() == [0, 1, 4, 5, 6, 7]
    near = replace(seen, frame_indices=[0, 1, 2, 3])
    assert cover(near, 4).tolist()[-2:] == [4, 5]
    assert len({place % 2 for place in cover(near, 4).tolist()[:2]}) == 2


def test_each_resolution_weighs_the_same_and_a_thing_counts_once() -> None:
    axes = torch.eye(7)
    grid = torch.cat([axes[4:5].expand(4, -1), axes[5:], axes[4:5].expand(6, -1)])
    features = torch.cat([axes[:4], grid])
    order = torch.cat([torch.arange(4), LAYOUT.grid_indices()])
    candidates = Candidates(
        features=features, order=order, counts=[16], frame_indices=[0], layouts=[LAYOUT]
    )
    # Base tokens weigh 12 / 4 each; the ten like grid tokens one together, as the two others.
    assert cover(candidates, 4).tolist() == [0, 1, 2, 3]
    assert cover(candidates, 7).tolist() == [0, 1, 2, 3, 4, 8, 9]


def test_neither_lengths_nor_a_rotation_matter() -> None:
    candidates = mixed()
    expected = cover(candidates, 20)
    generator = torch.Generator().manual_seed(3)
    lengths = 2.0 ** torch.randint(-3, 4, (len(candidates.features), 1), generator=generator)
    turned = candidates.features[:, torch.randperm(DIM, generator=generator)]
    assert torch.equal(cover(replace(candidates, features=turned * lengths), 20), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_choose_as_float32_does(dtype: torch.dtype) -> None:
    candidates = mixed()
    rounded = replace(candidates, features=candidates.features.bfloat16().float())
    other = replace(rounded, features=rounded.features.to(dtype))
    assert torch.equal(cover(rounded, 20), cover(other, 20))


def test_features_that_are_no_numbers_are_refused() -> None:
    candidates = mixed()
    candidates.features[3, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        cover(candidates, 5)


@pytest.mark.parametrize("layout", [LAYOUT, TILE])
def test_candidates_are_mr_pruner_s_with_one_newline_in_the_second_place(
    layout: FrameLayout,
) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(3, layout.num_base, DIM, generator=generator)
    grid = torch.randn(3, layout.rows, layout.columns, DIM, generator=generator)
    order = rank("coverage", base, grid, Task(frame_indices=range(3), num_keep=9)).order
    plain = rank("mr_pruner", base, grid, Task(frame_indices=range(3))).order
    expected = [_with_newline_second(own, layout) for own in newlines_last(plain, layout).tolist()]
    assert order.tolist() == expected
    switched = Task(frame_indices=range(3), newlines_last=True)
    assert torch.equal(rank("coverage", base, grid, switched).order, order)


def _with_newline_second(order: list[int], layout: FrameLayout) -> list[int]:
    if layout.rows:
        order.remove(layout.num_tokens - 1)
        order.insert(1, layout.num_tokens - 1)
    return order


def test_the_bound_of_greedy_choice_holds() -> None:
    """At least 1 - 1/e of the best of all choices of three."""
    candidates = draw(LAYOUT, count=9)
    run = module.make_run(candidates.features, torch.zeros(9), slice(0, 9))
    base = candidates.order < LAYOUT.num_base
    weights = torch.where(base, LAYOUT.num_grid / LAYOUT.num_base, 1.0) / run.density

    def value(places: Tensor) -> float:
        return float(weights @ run.similarity[:, places].amax(dim=1).double())

    best = max(
        value(torch.tensor(each)) for each in torch.combinations(torch.arange(9), 3).tolist()
    )
    assert value(cover(candidates, 3)) >= (1 - 1 / torch.e) * best
