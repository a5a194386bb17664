import math

import pytest
import torch
from torch import Tensor

from pruner import FrameLayout, joint_order, vidcom2_scores, vidcom2_shares, water_fill
from pruner.vidcom2 import vidcom2

LAYOUT = FrameLayout(num_base=4, rows=3, columns=4)
NUM_FRAMES, DIM = 5, 9
ALL = NUM_FRAMES * LAYOUT.num_tokens


def clip(seed: int = 0, spread: float = 0.5) -> Tensor:
    """Tokens around a common direction, so that no kernel vanishes."""
    generator = torch.Generator().manual_seed(seed)
    shape = NUM_FRAMES, LAYOUT.num_base + LAYOUT.num_grid, DIM
    scale = spread * (0.5 + torch.rand(DIM, generator=generator))
    return 1 + scale * torch.randn(shape, generator=generator)


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    base, grid = tokens.split([LAYOUT.num_base, LAYOUT.num_grid], dim=1)
    return base, grid.unflatten(1, (LAYOUT.rows, LAYOUT.columns))


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def gaussians(one: list[float], two: list[float]) -> float:
    square = math.dist(one, two) ** 2
    return sum(math.exp(-square / (2 * 2**k)) for k in range(-3, 2))


def slow_scores(tokens: Tensor) -> tuple[list[list[float]], list[float]]:
    """The published v + f of every token and 1 + sigma - mean sigma of every frame."""
    flat = tokens.double().flatten(0, 1)
    means = mean(flat.tolist())
    spread = [sum((x - m) ** 2 for x in c) for c, m in zip(flat.T.tolist(), means, strict=True)]
    steady = sorted(range(len(spread)), key=spread.__getitem__)[: len(spread) // 2]
    frames = [[[x[c] for c in steady] for x in frame] for frame in tokens.double().tolist()]
    units = [[[a / math.hypot(*x) for a in x] for x in frame] for frame in frames]
    clip_mean = mean([x for frame in units for x in frame])
    to_clip = [[gaussians(x, clip_mean) for x in frame] for frame in units]
    to_frame = [[gaussians(x, mean(frame)) for x in frame] for frame in units]
    unique = [-sum(row) / len(row) for row in to_clip]
    weights = [math.exp((u - max(unique)) / 0.01) for u in unique]
    sigma = [weight / sum(weights) for weight in weights]
    both = [
        [v + f for v, f in zip(*rows, strict=True)] for rows in zip(to_clip, to_frame, strict=True)
    ]
    return both, [1 + s - sum(sigma) / len(sigma) for s in sigma]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.05, 0.5])
def test_scores_equal_the_loop(seed: int, spread: float) -> None:
    tokens = clip(seed, spread)
    scores, weights = vidcom2_scores(tokens)
    similarity, expected = slow_scores(tokens)
    torch.testing.assert_close(10 - scores, torch.tensor(similarity), rtol=0, atol=5e-6)
    torch.testing.assert_close(weights.tolist(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("keep_ratio", [0.01, 0.25, 0.7, 1.0])
def test_published_shares_equal_the_loop(seed: int, keep_ratio: float) -> None:
    weights = slow_scores(clip(seed))[1]
    expected = [max(1, round(min(1, keep_ratio * weight) * 196)) for weight in weights]
    shares = vidcom2_shares(torch.tensor(weights).double(), keep_ratio=keep_ratio, num_tokens=196)
    assert (shares - torch.tensor(expected)).abs().max() == 0
    assert shares.dtype == torch.int64


def test_a_frame_of_its_own_kind_gets_up_to_twice_the_share_of_the_others() -> None:
    tokens = clip(spread=0.05)
    tokens[3] += 2 * torch.tensor([1.0, -1, 0] * 3)
    weights = vidcom2_scores(tokens)[1]
    assert weights.argmax() == 3
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0).double())
    assert vidcom2_shares(weights, keep_ratio=0.25, num_tokens=100).tolist() == [20, 20, 20, 45, 20]


@pytest.mark.parametrize("budget", [5, 6, 17, 50, 51, ALL - 1, ALL, ALL + 9])
def test_the_budget_is_spent_exactly_and_no_frame_is_empty(budget: int) -> None:
    kept = vidcom2(*split(clip()), budget)
    assert sum(map(len, kept)) == min(budget, ALL)
    assert min(map(len, kept)) >= 1
    assert all((indices.diff() > 0).all() for indices in kept)
    assert all(indices.dtype == torch.int64 for indices in kept)


@pytest.mark.parametrize("budget", [9, 33, 60])
def test_frames_keep_their_least_similar_tokens(budget: int) -> None:
    tokens = clip(seed=46, spread=0.3)
    similarity, weights = slow_scores(tokens)
    scores = 10 - torch.tensor(similarity)
    ranked = scores.sort(dim=1).values
    assert (ranked.diff(dim=1) / ranked[:, 1:]).min() > 1e-3  # no near ties
    caps = [LAYOUT.num_tokens] * NUM_FRAMES
    shares = water_fill(weights, budget, floors=[1] * NUM_FRAMES, caps=caps).tolist()
    order = joint_order(scores, LAYOUT).tolist()
    expected = [sorted(own[:share]) for own, share in zip(order, shares, strict=True)]
    assert [indices.tolist() for indices in vidcom2(*split(tokens), budget)] == expected


def test_keeping_all_keeps_everything() -> None:
    for indices in vidcom2(*split(clip()), ALL):
        assert torch.equal(indices, torch.arange(LAYOUT.num_tokens))


def test_equal_frames_get_equal_shares_and_equal_tokens_go_in_source_order() -> None:
    repeated = clip()[:1].expand(NUM_FRAMES, -1, -1)
    kept = vidcom2(*split(repeated), 8 * NUM_FRAMES)
    assert all(torch.equal(indices, kept[0]) for indices in kept)
    same = torch.full((NUM_FRAMES, 16, DIM), 0.3)
    scores, weights = vidcom2_scores(same)
    assert (scores == 0).all()
    assert (weights == 1).all()
    assert [indices.tolist() for indices in vidcom2(*split(same), 15)] == [[0, 1, 2]] * NUM_FRAMES


def test_one_frame_has_weight_one() -> None:
    scores, weights = vidcom2_scores(clip()[:1])
    assert weights.tolist() == [1.0]
    assert scores.isfinite().all()


def test_only_the_steady_half_of_the_channels_counts() -> None:
    tokens = clip()
    variance = tokens.flatten(0, 1).var(dim=0)
    loud = variance.argsort()[DIM // 2 :]
    other = tokens.clone()
    other[:, :, loud] = 7 * other[:, :, loud].flip(0)
    for one, two in zip(vidcom2_scores(tokens), vidcom2_scores(other), strict=True):
        assert torch.equal(one, two)


def test_permuted_frames_and_tokens_keep_their_scores() -> None:
    tokens = clip()
    scores, weights = vidcom2_scores(tokens)
    generator = torch.Generator().manual_seed(0)
    frames, places = (torch.randperm(n, generator=generator) for n in scores.shape)
    moved_scores, moved_weights = vidcom2_scores(tokens[frames][:, places])
    torch.testing.assert_close(moved_scores, scores[frames][:, places], rtol=0, atol=5e-6)
    torch.testing.assert_close(moved_weights, weights[frames], rtol=0, atol=1e-4)


def test_zero_vectors_give_no_nan() -> None:
    tokens = clip()
    tokens[0, :3] = 0
    tokens[2] = 0
    for one in (tokens, torch.zeros(3, 16, DIM), tokens[:, :, :1], tokens.to(torch.bfloat16)):
        scores, weights = vidcom2_scores(one)
        assert ((scores >= 0) & (scores <= 10)).all()
        assert (weights > 0).all()
    kept = vidcom2(*split(tokens), 20)
    assert sum(map(len, kept)) == 20


def test_the_input_is_left_alone() -> None:
    base, grid = split(clip())
    before = base.clone(), grid.clone()
    vidcom2(base, grid, 17)
    assert torch.equal(base, before[0])
    assert torch.equal(grid, before[1])


def test_a_clip_of_single_tiles_has_no_newlines() -> None:
    base = clip()
    kept = vidcom2(base, base.new_empty(NUM_FRAMES, 0, 0, DIM), 23)
    assert sum(map(len, kept)) == 23
    assert max(int(indices.max()) for indices in kept) < base.shape[1]


def test_what_does_not_fit_is_refused() -> None:
    base, grid = split(clip())
    with pytest.raises(ValueError, match="budget = 4, needed = 5"):
        vidcom2(base, grid, 4)
    with pytest.raises(ValueError, match="frames or widths of the tokens differ"):
        vidcom2(base[:2], grid, 9)
    with pytest.raises(ValueError, match="features hold NaN or infinite tokens"):
        vidcom2(base, grid * torch.nan, 9)
    with pytest.raises(ValueError, match=r"shape = \(5, 0, 9\)"):
        vidcom2_scores(base[:, :0])
    with pytest.raises(ValueError, match=r"shape = \(5, 4\)"):
        vidcom2_scores(base[:, :, 0])


@pytest.mark.parametrize("keep_ratio", [0.0, 1.1, math.nan])
def test_a_fraction_out_of_range_is_refused(keep_ratio: float) -> None:
    with pytest.raises(ValueError, match=r"lies in \(0, 1\]: keep_ratio = "):
        vidcom2_shares(torch.ones(3), keep_ratio=keep_ratio, num_tokens=9)
