import itertools
import math

import pytest
import torch
from torch import Tensor

from pruner import FrameLayout, evs_scores
from pruner.evs import evs
from tests.pruner import loop_reference

LAYOUT = FrameLayout(num_base=6, rows=3, columns=4)
TILE = FrameLayout(num_base=6, rows=0, columns=0)
NUM_FRAMES = 4
ALL = NUM_FRAMES * LAYOUT.num_tokens


def turning_clip(layout: FrameLayout, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A clip whose tokens turn from frame to frame, each by an angle of its own or not at all."""
    generator = torch.Generator().manual_seed(seed)
    num_content = layout.num_base + layout.num_grid
    count = NUM_FRAMES * num_content
    angles = 0.2 + 2.5 * torch.randperm(count, generator=generator) / count
    still = torch.rand(count, generator=generator) < 0.3
    places = torch.where(still, 0.0, angles).view(NUM_FRAMES, num_content).cumsum(dim=0)
    tokens = torch.stack((places.cos(), places.sin()), dim=2)
    return split(tokens, layout)


def split(tokens: Tensor, layout: FrameLayout) -> tuple[Tensor, Tensor]:
    base, grid = tokens.split([layout.num_base, layout.num_grid], dim=1)
    return base, grid.unflatten(1, (layout.rows, layout.columns))


def random_tokens(seed: int = 0, dim: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NUM_FRAMES, LAYOUT.num_base + LAYOUT.num_grid, dim, generator=generator)


def slow_scores(tokens: Tensor) -> list[list[float]]:
    frames = tokens.double().tolist()
    scores = [[255.0] * len(frames[0])]
    for before, now in itertools.pairwise(frames):
        cosines = [loop_reference.cosine(*pair) for pair in zip(before, now, strict=True)]
        scores.append([1 - cosine for cosine in cosines])
    return scores


def slow_choice(base: Tensor, grid: Tensor, layout: FrameLayout, budget: int) -> list[list[int]]:
    """Take the token that changed most, and the newline of its row unless it is there."""
    scores = slow_scores(torch.cat((base, grid.flatten(1, 2)), dim=1))
    ranked = [
        (-round(score, 6), frame, place)
        for frame, own in enumerate(scores)
        for place, score in enumerate(own)
    ]
    taken: list[tuple[int, int]] = []
    for _, frame, place in sorted(ranked):
        row, column = divmod(place - layout.num_base, max(layout.columns, 1))
        row_start = layout.num_base + row * (layout.columns + 1)
        of_grid = [(frame, row_start + column), (frame, row_start + layout.columns)]
        taken += of_grid if place >= layout.num_base else [(frame, place)]
    kept = list(dict.fromkeys(taken))[:budget]
    return [sorted(flat for frame, flat in kept if frame == own) for own in range(len(base))]


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_loop(seed: int) -> None:
    tokens = random_tokens(seed)
    expected = torch.tensor(slow_scores(tokens))
    torch.testing.assert_close(evs_scores(tokens), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("layout", [LAYOUT, TILE], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_every_choice_equals_the_loop(layout: FrameLayout, seed: int) -> None:
    base, grid = turning_clip(layout, seed)
    for budget in range(NUM_FRAMES * layout.num_tokens + 1):
        kept = [indices.tolist() for indices in evs(base, grid, budget)]
        assert kept == slow_choice(base, grid, layout, budget)


@pytest.mark.parametrize("budget", [0, 1, 7, 20, 21, ALL - 1, ALL, ALL + 5])
def test_the_budget_is_spent_exactly(budget: int) -> None:
    kept = evs(*split(random_tokens(), LAYOUT), budget)
    assert len(kept) == NUM_FRAMES
    assert sum(map(len, kept)) == min(budget, ALL)
    assert all((indices.diff() > 0).all() for indices in kept)
    assert all(indices.dtype == torch.int64 for indices in kept)


def test_keeping_all_keeps_everything() -> None:
    for indices in evs(*split(random_tokens(), LAYOUT), ALL):
        assert torch.equal(indices, torch.arange(LAYOUT.num_tokens))


def test_the_first_frame_comes_first_but_not_beyond_the_budget() -> None:
    base, grid = split(random_tokens(), LAYOUT)
    kept = evs(base, grid, LAYOUT.num_tokens - 2)
    assert list(map(len, kept)) == [LAYOUT.num_tokens - 2, 0, 0, 0]
    kept = evs(base, grid, LAYOUT.num_tokens + 2)
    assert torch.equal(kept[0], torch.arange(LAYOUT.num_tokens))


def test_a_still_clip_repeats_nothing_and_a_cut_is_all_new() -> None:
    tokens = random_tokens()[:1].repeat(NUM_FRAMES, 1, 1)
    tokens[2:] = random_tokens(1)[:1]
    scores = evs_scores(tokens)
    assert (scores[[1, 3]] == 0).all()
    assert (scores[2] > 0.01).all()
    kept = evs(*split(tokens, LAYOUT), 2 * LAYOUT.num_tokens)
    assert list(map(len, kept)) == [LAYOUT.num_tokens, 0, LAYOUT.num_tokens, 0]


def test_a_drift_is_never_seen() -> None:
    step = math.radians(3)
    angles = step * torch.arange(30.0)
    scores = evs_scores(torch.stack((angles.cos(), angles.sin()), dim=1)[:, None])
    assert scores[1:].max() < 0.002  # though the last token is at a right angle to the first


def test_one_token_left_keeps_a_token_without_its_newline() -> None:
    base, grid = split(random_tokens(), LAYOUT)
    kept = evs(base, grid, LAYOUT.num_base + 1)[0]
    assert kept.tolist() == [*range(LAYOUT.num_base), LAYOUT.num_base]
    kept = evs(base, grid, LAYOUT.num_base + 2)[0]
    assert kept.tolist()[-2:] == [LAYOUT.num_base, LAYOUT.num_base + LAYOUT.columns]


def test_larger_budgets_hold_the_choice_of_smaller_ones() -> None:
    base, grid = split(random_tokens(), LAYOUT)
    few, many = evs(base, grid, 40), evs(base, grid, 47)
    assert all(set(a.tolist()) <= set(b.tolist()) for a, b in zip(few, many, strict=True))


def test_permuted_positions_and_scaled_tokens_keep_their_scores() -> None:
    tokens = random_tokens()
    order = torch.randperm(tokens.shape[1], generator=torch.Generator().manual_seed(0))
    scores = evs_scores(tokens)
    assert torch.equal(evs_scores(tokens[:, order]), scores[:, order])
    torch.testing.assert_close(evs_scores(3 * tokens), scores, rtol=0, atol=2e-6)


def test_zero_vectors_resemble_nothing() -> None:
    tokens = random_tokens()
    tokens[1:, 3] = 0
    scores = evs_scores(tokens)
    assert (scores[1:, 3] == 1).all()
    assert (evs_scores(torch.zeros(3, 5, 2))[1:] == 1).all()


def test_the_input_is_left_alone() -> None:
    base, grid = split(random_tokens(), LAYOUT)
    before = base.clone(), grid.clone()
    evs(base, grid, 17)
    assert torch.equal(base, before[0])
    assert torch.equal(grid, before[1])


def test_what_does_not_fit_is_refused() -> None:
    base, grid = split(random_tokens(), LAYOUT)
    with pytest.raises(ValueError, match="budget = -1"):
        evs(base, grid, -1)
    with pytest.raises(ValueError, match="frames or widths of the tokens differ"):
        evs(base[:2], grid, 5)
    with pytest.raises(ValueError, match="num_bad = 24"):
        evs(base * torch.nan, grid, 5)
    with pytest.raises(ValueError, match=r"shape = \(4, 6\)"):
        evs_scores(base[:, :, 0])
