import pytest
import torch
from torch import Tensor

from pruner import FrameLayout, gather_tokens
from pruner.density_peaks import density_peaks
from pruner.flashvid import diverse_tokens, flashvid, segment_lengths
from pruner.trees import tree_parents
from streaming.bench.plain_pruners import PLAIN
from tests.pruner import loop_reference

LAYOUT = FrameLayout(num_base=4, rows=3, columns=4)
NUM_CONTENT = LAYOUT.num_base + LAYOUT.num_grid
NUM_FRAMES, DIM = 14, 24
ALL = NUM_FRAMES * LAYOUT.num_tokens
NEWLINE = torch.full((DIM,), 7.0)


def clip(seed: int = 0, num_frames: int = NUM_FRAMES) -> Tensor:
    """Two scenes whose tokens move a little, the second from the sixth frame on."""
    generator = torch.Generator().manual_seed(seed)
    scenes = 0.5 + torch.randn(2, NUM_CONTENT, DIM, generator=generator)
    frames = [
        scenes[int(frame >= 5)].roll(frame % 3, 0)
        + 0.35 * torch.randn(NUM_CONTENT, DIM, generator=generator)
        for frame in range(num_frames)
    ]
    return torch.stack(frames)


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    base, grid = tokens.split([LAYOUT.num_base, LAYOUT.num_grid], dim=1)
    return base, grid.unflatten(1, (LAYOUT.rows, LAYOUT.columns))


def even(budget: int, num_frames: int = NUM_FRAMES) -> list[int]:
    return [budget // num_frames + (frame < budget % num_frames) for frame in range(num_frames)]


def slow_diverse(tokens: Tensor, mean: Tensor, num_keep: int) -> list[int]:
    """Published ADTS without attention: calibrated distances, farthest first."""
    rows, centre = tokens.double().tolist(), mean.double().tolist()
    relevance = [max(sum(a * b for a, b in zip(row, centre, strict=True)), 0) for row in rows]
    distance = [
        [(1 - loop_reference.cosine(one, two)) * relevance[j] for j, two in enumerate(rows)]
        for one in rows
    ]
    chosen: list[int] = []
    while len(chosen) < num_keep:
        sources = chosen or range(len(rows))
        gaps = {
            place: min(distance[source][place] for source in sources if source != place)
            for place in range(len(rows))
            if place not in chosen
        }
        chosen.append(max(gaps, key=lambda place: (gaps[place], -place)))
    return chosen


def place(parents: Tensor, frame: int, token: int) -> tuple[int, int]:
    """Frame and place of the root of a token's tree."""
    while int(parents[frame, token]) >= 0:
        frame, token = frame - 1, int(parents[frame, token])
    return frame, token


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_keep", [1, 5, 16])
def test_diverse_tokens_equal_the_loop(seed: int, num_keep: int) -> None:
    tokens = clip(seed)[0]
    units = torch.nn.functional.normalize(tokens, dim=1)
    relevance = (tokens @ clip(seed).mean(dim=(0, 1))).clamp_min(0)
    expected = slow_diverse(tokens, clip(seed).mean(dim=(0, 1)), num_keep)
    assert diverse_tokens(units, relevance, num_keep).tolist() == expected


def test_a_clip_is_cut_where_it_changes_and_into_eight_at_least() -> None:
    steps = [0, 0, 0.6, 0, 0.6, 0, 0.2, 0.3, 0.1, 0.4, 0.35, 0, 0.01]
    angles = torch.tensor(steps).cumsum(dim=0)
    frames = torch.stack((angles.cos(), angles.sin()), dim=1)
    assert segment_lengths(frames) == [2, 2, 2, 1, 1, 1, 1, 3]
    cuts = torch.arange(20.0)  # a radian apart
    apart = torch.stack((cuts.cos(), cuts.sin()), dim=1)
    assert segment_lengths(apart) == [1] * 20
    assert segment_lengths(torch.ones(12, 3)) == [1, 1, 1, 1, 1, 1, 1, 5]
    assert segment_lengths(torch.ones(3, 3)) == [1, 1, 1]
    assert segment_lengths(torch.ones(1, 3)) == [1]


@pytest.mark.parametrize("budget", [NUM_FRAMES, 3 * NUM_FRAMES, 7 * NUM_FRAMES, 15 * NUM_FRAMES])
@pytest.mark.parametrize("seed", range(3))
def test_places_equal_the_plain_form(seed: int, budget: int) -> None:
    base, grid = split(clip(seed))
    kept = flashvid(base, grid, NEWLINE, even(budget))
    plain = PLAIN["flashvid"](base, grid, budget // NUM_FRAMES)
    assert [own.tolist() for _, own in kept] == [own.tolist() for own in plain]


def test_what_is_kept_holds_what_was_merged() -> None:
    """One segment of a still scene with noise: every mean counted out token by token."""
    tokens, budget = clip(4)[5:], 5 * 9
    base, grid = split(tokens)
    kept = flashvid(base, grid, NEWLINE, even(budget, 9))
    lengths = segment_lengths(tokens.mean(dim=1))
    (start,) = [sum(lengths[:own]) for own, length in enumerate(lengths) if length == 2]
    segment = tokens[start : start + 2]
    diverse = [slow_diverse(frame, segment.mean(dim=(0, 1)), 4) for frame in segment]
    free = torch.ones(2, NUM_CONTENT, dtype=torch.bool)
    for own, chosen in zip(free, diverse, strict=True):
        own[chosen] = False
    parents = tree_parents(segment, free, at_most=2 * NUM_CONTENT - 10)
    trees: dict[tuple[int, int], list[Tensor]] = {}
    for frame, token in free.nonzero().tolist():
        trees.setdefault(place(parents, frame, token), []).append(segment[frame, token])
    assert max(map(len, trees.values())) == 2
    for frame in range(2):
        own = sorted(token for at, token in trees if at == frame)
        means = torch.stack([torch.stack(trees[frame, token]).mean(dim=0) for token in own])
        features, indices = kept[start + frame]
        expected = {token: segment[frame, token] for token in diverse[frame]}
        num_clusters = len(indices) - 4
        if num_clusters:
            centres, cluster_of = density_peaks(means, num_clusters)
            for cluster, centre in enumerate(centres.tolist()):
                expected[own[centre]] = means[cluster_of == cluster].mean(dim=0)
        flat = torch.cat((torch.arange(LAYOUT.num_base), LAYOUT.grid_indices()))
        assert indices.tolist() == flat[sorted(expected)].tolist()
        wanted = torch.stack([expected[token] for token in sorted(expected)])
        torch.testing.assert_close(features, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_is_kept_as_it_is_before_newlines_are(dtype: torch.dtype) -> None:
    base, grid = split(clip().to(dtype))
    newline = NEWLINE.to(dtype)
    everything = torch.arange(LAYOUT.num_tokens).expand(NUM_FRAMES, -1)
    tokens = gather_tokens(base, grid, newline, everything)
    for features, indices in flashvid(base, grid, newline, even(ALL - 2 * NUM_FRAMES)):
        assert LAYOUT.is_newline(indices).sum() == 1
        assert len(indices) == NUM_CONTENT + 1
        assert features.dtype == dtype
    for frame, (features, indices) in enumerate(flashvid(base, grid, newline, even(ALL))):
        assert torch.equal(features, tokens[frame, indices])


@pytest.mark.parametrize("budget", [0, 1, 20, 99, ALL - 1, ALL])
def test_the_budget_is_spent_exactly_and_only_its_sum_counts(budget: int) -> None:
    base, grid = split(clip())
    kept = flashvid(base, grid, NEWLINE, even(budget))
    assert sum(len(indices) for _, indices in kept) == budget
    assert all((indices.diff() > 0).all() for _, indices in kept)
    assert all(features.shape == (len(indices), DIM) for features, indices in kept)
    again = flashvid(base, grid, NEWLINE, even(budget)[::-1])
    for one, two in zip(kept, again, strict=True):
        assert all(map(torch.equal, one, two))


def test_tokens_that_tie_give_the_same_choice_each_time() -> None:
    still = torch.ones(NUM_FRAMES, NUM_CONTENT, DIM)
    one, two = (flashvid(*split(still), NEWLINE, even(70)) for _ in range(2))
    for own, again in zip(one, two, strict=True):
        assert all(map(torch.equal, own, again))
        assert (own[0] == 1).all()
    assert one[0][1].tolist() == [0, 1, 2, 3, 4]


def test_what_does_not_fit_is_refused() -> None:
    base, grid = split(clip())
    with pytest.raises(ValueError, match=f"budget = {ALL + 1}, most = {ALL}"):
        flashvid(base, grid, NEWLINE, [ALL + 1])
    with pytest.raises(ValueError, match="frames or widths of the tokens differ"):
        flashvid(base[:2], grid, NEWLINE, [5])
    with pytest.raises(ValueError, match="num_bad"):
        flashvid(base * torch.nan, grid, NEWLINE, even(50))
