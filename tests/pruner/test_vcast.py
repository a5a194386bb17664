import itertools
import math

import pytest
import torch
from torch import Tensor

from pruner import FrameLayout, joint_order
from pruner.vcast import vcast, vcast_scores, vcast_shares
from tests.pruner import loop_reference

LAYOUT = FrameLayout(num_base=4, rows=3, columns=4)
NUM_FRAMES, DIM = 6, 9
ALL = NUM_FRAMES * LAYOUT.num_tokens


def clip(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = NUM_FRAMES, LAYOUT.num_base + LAYOUT.num_grid, DIM
    scale = 0.5 + torch.rand(*shape[:2], 1, generator=generator)
    return (1 + torch.randn(shape, generator=generator)) * scale


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    base, grid = tokens.split([LAYOUT.num_base, LAYOUT.num_grid], dim=1)
    return base, grid.unflatten(1, (LAYOUT.rows, LAYOUT.columns))


def slow_centre(frame: list[list[float]]) -> list[float]:
    mean = [sum(axis) / len(frame) for axis in zip(*frame, strict=True)]
    return [x / loop_reference.norm(mean) for x in mean]


def step(start: list[float], end: list[float]) -> list[float]:
    return [b - a for a, b in zip(start, end, strict=True)]


def slow_scores(tokens: Tensor) -> tuple[list[list[float]], list[float]]:
    frames = tokens.double().tolist()
    centres = [slow_centre(frame) for frame in frames]
    turns = [
        1 - loop_reference.cosine(step(before, now), step(now, after))
        for before, now, after in zip(centres, centres[1:], centres[2:], strict=False)
    ]
    exps = [math.exp(turn / 0.7) for turn in [1.0, *turns, 1.0]]
    scores = []
    for frame, centre in zip(frames, centres, strict=True):
        norms = [loop_reference.norm(token) for token in frame]
        width = max(norms) - min(norms)
        scores.append([
            1 - loop_reference.cosine(token, centre) + (norm - min(norms)) / width
            for token, norm in zip(frame, norms, strict=True)
        ])  # fmt: skip
    return scores, [exp / sum(exps) for exp in exps]


def slow_shares(weights: list[float], budget: int) -> list[int]:
    """One token each, the floor of the weight's part of the rest, then the largest fractions."""
    parts = [weight * (budget - len(weights)) for weight in weights]
    shares = [1 + int(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda frame: int(parts[frame]) - parts[frame])
    for frame in order[: budget - sum(shares)]:
        shares[frame] += 1
    return shares


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_loop(seed: int) -> None:
    scores, weights = vcast_scores(clip(seed))
    slow, slow_weights = slow_scores(clip(seed))
    torch.testing.assert_close(scores, torch.tensor(slow), rtol=0, atol=5e-6)
    torch.testing.assert_close(weights.tolist(), slow_weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [6, 7, 23, 40])
def test_the_choice_equals_the_loop(seed: int, budget: int) -> None:
    scores, weights = slow_scores(clip(seed))
    shares = slow_shares(weights, budget)
    assert max(shares) <= LAYOUT.num_tokens
    order = joint_order(torch.tensor(scores), LAYOUT).tolist()
    expected = [sorted(own[:share]) for own, share in zip(order, shares, strict=True)]
    assert [kept.tolist() for kept in vcast(*split(clip(seed)), budget)] == expected


@pytest.mark.parametrize("budget", [0, 3, 6, 60, ALL - 1, ALL, ALL + 5])
def test_the_budget_is_spent_exactly_though_frames_are_full(budget: int) -> None:
    kept = vcast(*split(clip()), budget)
    assert sum(map(len, kept)) == min(budget, ALL)
    assert min(map(len, kept)) >= int(budget >= NUM_FRAMES)


def test_what_a_full_frame_cannot_take_goes_to_the_others_by_weight() -> None:
    weights = torch.tensor([0.9, 0.02, 0.02, 0.06])
    assert vcast_shares(weights, 24, 10).tolist() == [10, 3, 3, 8]
    assert vcast_shares(weights, 3, 10).tolist() == [3, 0, 0, 0]


def test_a_steady_motion_is_no_news_and_a_turn_is() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.0])  # turns back at the fourth frame
    frames = torch.stack((angles.cos(), angles.sin()), dim=1)[:, None]
    weights = vcast_scores(frames)[1]
    assert weights.argmax() == 3
    assert weights[[1, 2, 4, 5]].max() < weights[0] / 3


def test_a_still_clip_is_shared_evenly() -> None:
    repeated = clip()[:1].expand(NUM_FRAMES, -1, -1)
    weights = vcast_scores(repeated)[1]
    assert (weights == weights[0]).all()
    kept = vcast(*split(repeated), 8 * NUM_FRAMES)
    assert all(torch.equal(one, two) for one, two in itertools.pairwise(kept))


def test_zero_vectors_and_one_frame_are_fine() -> None:
    tokens = torch.zeros(1, 3, 2)
    scores, weights = vcast_scores(tokens)
    assert scores.tolist() == [[1, 1, 1]]
    assert weights.tolist() == [1]


def test_what_does_not_fit_is_refused() -> None:
    base, grid = split(clip())
    with pytest.raises(ValueError, match="budget"):
        vcast(base, grid, -1)
    with pytest.raises(ValueError, match="frames or widths of the tokens differ"):
        vcast(base[:2], grid, 5)
    with pytest.raises(ValueError, match="num_bad = 24"):
        vcast(base * torch.nan, grid, 5)
    with pytest.raises(ValueError, match=r"none of them 0: shape = \(0, 4, 9\)"):
        vcast_scores(base[:0])
