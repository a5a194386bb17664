import math

import pytest
import torch
from torch import Tensor

from pruner import FrameLayout, Matching, match_tokens, merge_tokens
from pruner.tome import tome
from tests.pruner import golden

CASES = golden.load_all("tome")
STEPS = [case for case in CASES if "r" in case.params]
ITERATED = [case for case in CASES if "keep_ratio" in case.params]
LAYOUTS = [
    FrameLayout(num_base=9, rows=4, columns=5),
    FrameLayout(num_base=16, rows=2, columns=3),
    FrameLayout(num_base=1, rows=1, columns=1),
    FrameLayout(num_base=6, rows=0, columns=0),
]
DIM = 8


def protection(case: golden.Case) -> dict[str, bool]:
    return {name: case.params[name] for name in ("class_token", "distill_token")}


def match(case: golden.Case) -> Matching:
    metric = case.arrays.get("metric", case["x"])
    return match_tokens(metric, case.params["r"], **protection(case))


def in_rows(case: golden.Case, matching: Matching, name: str) -> Tensor:
    """An expected array, brought from the order of `out_rep` into the order of the matching."""
    places = (matching.rows[:, :, None] == case["out_rep"][:, None]).int().argmax(dim=2)
    return case[name].gather(1, places[:, :, None].expand_as(case[name]))


def frames(layout: FrameLayout, num_frames: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(num_frames, layout.num_base, DIM, generator=generator)
    shape = (num_frames, layout.rows, layout.columns, DIM)
    return base, torch.randn(shape, generator=generator)


def flat_frames(base: Tensor, grid: Tensor, newline: Tensor) -> Tensor:
    """All tokens of F frames in source order, (F, num_tokens, D)."""
    ends = newline.expand(*grid.shape[:2], 1, DIM)
    return torch.cat((base, torch.cat((grid, ends), dim=2).flatten(1, 2)), dim=1)


def cosine(one: list[float], two: list[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*two)
    return sum(x * y for x, y in zip(one, two, strict=True)) / max(lengths, 1e-30)


def slow_merge(tokens: Tensor, target: int) -> list[tuple[int, list[int]]]:
    """Merge plain lists: for each final token its place and the places of its sources."""
    features = tokens.double()
    groups = [(place, [place]) for place in range(len(features))]
    while len(groups) > target:
        means = [features[sources].mean(dim=0).tolist() for _, sources in groups]
        even, odd = range(0, len(groups), 2), range(1, len(groups), 2)
        nearest = {a: max(odd, key=lambda b: (cosine(means[a], means[b]), -b)) for a in even}
        ranked = sorted(even, key=lambda a: (-cosine(means[a], means[nearest[a]]), a))
        num_merged = min(len(groups) // 2, len(groups) - target)
        for source in ranked[:num_merged]:
            groups[nearest[source]][1].extend(groups[source][1])
        groups = [groups[place] for place in [*ranked[num_merged:], *odd]]
    return groups


def test_all_golden_cases_are_here() -> None:
    assert (len(STEPS), len(ITERATED)) == (12, 2)


@pytest.mark.parametrize("case", STEPS, ids=repr)
def test_the_published_pairs_merge(case: golden.Case) -> None:
    matching = match(case)
    ends_at = matching.rows.gather(1, matching.row_of)  # (B, N), where each token ends
    places = torch.arange(ends_at.shape[1]).expand_as(ends_at)
    source = (ends_at != places).nonzero()[:, 1].view(len(ends_at), -1)
    assert torch.equal(source, case["src"])
    assert torch.equal(ends_at.gather(1, source), case["dst_of_src"])
    alone = matching.rows[matching.rows % 2 == 0].view(len(ends_at), -1)
    assert torch.equal(alone.sort(dim=1).values, case["unmerged"])
    assert torch.equal(matching.rows.sort(dim=1).values, case["out_rep"].sort(dim=1).values)


@pytest.mark.parametrize("case", [case for case in STEPS if case.info["order_robust"]], ids=repr)
def test_rows_come_in_the_published_order(case: golden.Case) -> None:
    assert torch.equal(match(case).rows, case["upstream_row_order"])


@pytest.mark.parametrize("case", STEPS, ids=repr)
def test_merged_tokens_are_the_published_ones(case: golden.Case) -> None:
    matching = match(case)
    mean, _ = merge_tokens(case["x"], matching)
    weighted, sizes = merge_tokens(case["x"], matching, case["size_in"][:, :, 0])
    torch.testing.assert_close(mean, in_rows(case, matching, "out_mean"))
    torch.testing.assert_close(weighted, in_rows(case, matching, "out_wavg"))
    assert torch.equal(sizes[:, :, None], in_rows(case, matching, "out_size"))


@pytest.mark.parametrize("case", ITERATED, ids=repr)
def test_iterated_steps_give_the_published_rows(case: golden.Case) -> None:
    tokens, sizes = case["x"], torch.ones(case["x"].shape[:2])
    row_of = torch.arange(tokens.shape[1])
    for num_merged in case["schedule"].tolist():
        matching = match_tokens(tokens, num_merged)
        tokens, sizes = merge_tokens(tokens, matching, sizes)
        row_of = matching.row_of[0, row_of]
    assert torch.equal(row_of, case["assign"])
    assert torch.equal(sizes[:, :, None], case["out_size"])
    torch.testing.assert_close(tokens, case["out_wavg"])


@pytest.mark.parametrize("case", ITERATED, ids=repr)
def test_a_frame_is_merged_by_the_published_iteration(case: golden.Case) -> None:
    tokens, no_grid = case["x"], case["x"].new_empty(1, 0, 0, case["x"].shape[2])
    ((features, kept),) = tome(tokens, no_grid, tokens[0, 0], [case.info["target"]])
    torch.testing.assert_close(features, case["out_wavg"][0, case["assign"][kept]])


@pytest.mark.parametrize("share", [1, 2, 3, 5, 11, 20, 28, 29])
@pytest.mark.parametrize("seed", range(3))
def test_merging_equals_the_loop(share: int, seed: int) -> None:
    layout = LAYOUTS[0]
    base, grid = frames(layout, 1, seed)
    ((features, kept),) = tome(base, grid, torch.zeros(DIM), [share])
    num_base = share * layout.num_base // (layout.num_base + layout.num_grid)
    low = slow_merge(base[0], max(num_base, 1))[:num_base]
    high = slow_merge(grid[0].flatten(0, 1), share - num_base)
    flat = layout.grid_indices().tolist()
    expected = {place: base[0, sources].mean(dim=0) for place, sources in low}
    expected |= {flat[p]: grid[0].flatten(0, 1)[sources].mean(dim=0) for p, sources in high}
    assert kept.tolist() == sorted(expected)
    torch.testing.assert_close(features, torch.stack([expected[p] for p in sorted(expected)]))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_share_keeps_exactly_that_many_ascending(layout: FrameLayout) -> None:
    shares = range(layout.num_tokens + 1)
    base, grid = frames(layout, len(shares))
    for share, (features, kept) in enumerate(tome(base, grid, torch.ones(DIM), shares)):
        assert features.shape == (share, DIM)
        assert kept.shape == (share,)
        assert kept.dtype == torch.int64
        assert (kept.diff() > 0).all()
        assert ((kept >= 0) & (kept < layout.num_tokens)).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_keeping_all_changes_nothing(layout: FrameLayout, dtype: torch.dtype) -> None:
    base, grid = (tokens.to(dtype) for tokens in frames(layout))
    newline = torch.arange(DIM).to(dtype)
    merged = tome(base, grid, newline, [layout.num_tokens] * 3)
    for tokens, (features, kept) in zip(flat_frames(base, grid, newline), merged, strict=True):
        assert torch.equal(features, tokens)
        assert features.dtype == dtype
        assert torch.equal(kept, torch.arange(layout.num_tokens))


def test_what_content_leaves_of_a_share_keeps_the_first_newlines() -> None:
    layout = LAYOUTS[0]
    base, grid = frames(layout, 5)
    newline = torch.full((DIM,), 9.0)
    for extra, (features, kept) in enumerate(tome(base, grid, newline, range(29, 34))):
        is_newline = layout.is_newline(kept)
        assert layout.row_of(kept[is_newline]).tolist() == list(range(extra))
        assert (features[is_newline] == 9).all()
        assert int((~is_newline).sum()) == 29


def test_both_resolutions_keep_the_same_fraction() -> None:
    layout = FrameLayout(num_base=16, rows=8, columns=8)
    base, grid = frames(layout, 81)
    counts = [int((kept < 16).sum()) for _, kept in tome(base, grid, torch.ones(DIM), range(81))]
    assert counts == [share // 5 for share in range(81)]


def test_the_total_of_all_sources_is_kept() -> None:
    tokens = frames(LAYOUTS[0])[0]
    matching = match_tokens(tokens, 3)
    merged, sizes = merge_tokens(tokens, matching)
    torch.testing.assert_close((merged * sizes[:, :, None]).sum(dim=1), tokens.sum(dim=1))
    assert (sizes.sum(dim=1) == tokens.shape[1]).all()


@pytest.mark.parametrize("num_tokens", range(1, 9))
@pytest.mark.parametrize("protected", [0, 1, 2])
def test_no_more_than_half_of_the_unprotected_merge(num_tokens: int, protected: int) -> None:
    tokens = torch.randn(2, num_tokens, DIM, generator=torch.Generator().manual_seed(0))
    flags = {"class_token": protected >= 1, "distill_token": protected == 2}
    matching = match_tokens(tokens, 99, **flags)
    assert matching.rows.shape[1] == num_tokens - max(num_tokens - protected, 0) // 2
    assert (matching.rows[:, : min(protected, num_tokens)] < 2).all()


def test_protected_tokens_lead_and_stay_as_they_are() -> None:
    tokens = torch.ones(1, 12, DIM) + 0.1 * frames(LAYOUTS[2], 12)[0].view(1, 12, DIM)
    matching = match_tokens(tokens, 5, class_token=True, distill_token=True)
    merged, sizes = merge_tokens(tokens, matching)
    assert matching.rows[0, :2].tolist() == [0, 1]
    assert sizes[0, :2].tolist() == [1, 1]
    assert torch.equal(merged[0, :2], tokens[0, :2])


def test_frames_do_not_touch_each_other() -> None:
    layout = LAYOUTS[0]
    base, grid = frames(layout, 4)
    shares = torch.tensor([7, 12, 7, 31])
    together = tome(base, grid, torch.ones(DIM), shares)
    for frame, (features, kept) in enumerate(together):
        own = slice(frame, frame + 1)
        ((alone, indices),) = tome(base[own], grid[own], torch.ones(DIM), shares[own])
        assert torch.equal(features, alone)
        assert torch.equal(kept, indices)


def test_permuting_either_set_permutes_the_merges() -> None:
    tokens = frames(FrameLayout(num_base=24, rows=0, columns=0), 1)[0]
    generator = torch.Generator().manual_seed(1)
    even, odd = (2 * torch.randperm(12, generator=generator) + start for start in (0, 1))
    order = torch.stack((even, odd), dim=1).flatten()  # place p holds token order[p]
    plain, moved = match_tokens(tokens, 7), match_tokens(tokens[:, order], 7)
    ends_at = plain.rows[0, plain.row_of[0]]
    assert torch.equal(order[moved.rows[0, moved.row_of[0]]], ends_at[order])


def test_zero_vectors_merge_last_and_give_no_nan() -> None:
    tokens = torch.rand(1, 12, DIM, generator=torch.Generator().manual_seed(0)) + 0.1
    tokens[0, [4, 5]] = 0
    matching = match_tokens(tokens, 5)
    assert torch.isin(torch.tensor([4]), matching.rows).all()  # the one even token left alone
    merged, sizes = merge_tokens(tokens, matching)
    assert torch.equal(merged[matching.rows == 5], torch.zeros(1, DIM))
    assert sizes[matching.rows == 5] == 1


def test_all_zero_and_all_equal_tokens_go_by_the_lower_place() -> None:
    for tokens in (torch.zeros(1, 8, DIM), torch.ones(1, 8, DIM)):
        matching = match_tokens(tokens, 2)
        assert matching.rows.tolist() == [[4, 6, 1, 3, 5, 7]]
        assert matching.row_of.tolist() == [[2, 2, 2, 3, 0, 4, 1, 5]]
        ((features, kept),) = tome(tokens, tokens.new_empty(1, 0, 0, DIM), tokens[0, 0], [3])
        assert torch.equal(features, tokens[0, :3])
        assert (kept.diff() > 0).all()


def test_the_input_is_left_alone() -> None:
    base, grid = frames(LAYOUTS[0])
    newline = torch.ones(DIM)
    before = base.clone(), grid.clone(), newline.clone()
    tome(base, grid, newline, [5, 17, 33])
    assert all(map(torch.equal, (base, grid, newline), before))


@pytest.mark.parametrize(
    ("newline", "shares", "message"),
    [
        (torch.ones(DIM + 1), [1, 1, 1], r"shape = \(9,\), expected = \(8,\)"),
        (torch.ones(DIM), [1, 1], r"shares = \[1, 1\]"),
        (torch.ones(DIM), [1, 1, 34], r"num_tokens = 33: shares = \[1, 1, 34\]"),
        (torch.ones(DIM), [1, -1, 1], r"shares = \[1, -1, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(newline: Tensor, shares: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tome(*frames(LAYOUTS[0]), newline, shares)


def test_a_step_refuses_what_it_cannot_merge() -> None:
    tokens = frames(LAYOUTS[0])[0]
    with pytest.raises(ValueError, match="num_merged = -1"):
        match_tokens(tokens, -1)
    with pytest.raises(ValueError, match="num_bad = 27"):
        match_tokens(tokens * torch.nan, 1)
    with pytest.raises(ValueError, match=r"shape = \(3, 8, 8\), expected = \(3, 9\)"):
        merge_tokens(tokens[:, :8], match_tokens(tokens, 1))
    with pytest.raises(ValueError, match=r"sizes.shape = torch.Size\(\[3, 8\]\)"):
        merge_tokens(tokens, match_tokens(tokens, 1), torch.ones(3, 8))
