import itertools

import pytest
import torch

from pruner import FrameLayout, joint_order, keep_order, plan_order, rank_tokens
from tests.pruner import loop_reference

LAYOUTS = [
    FrameLayout(num_base=9, rows=4, columns=5),
    FrameLayout(num_base=3, rows=6, columns=2),
    FrameLayout(num_base=20, rows=2, columns=3),
    FrameLayout(num_base=1, rows=1, columns=1),
    FrameLayout(num_base=6, rows=0, columns=0),
]
SHARES = [0.0, 0.1, 0.37, 0.5, 0.9, 1.0]


def random_scores(layout, num_frames, seed=0):
    """Scores on a coarse scale, so that some tie."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(1, 9, (num_frames, layout.num_base), generator=generator) / 8
    grid = torch.randint(1, 9, (num_frames, layout.num_grid), generator=generator) / 8
    return base, grid


@pytest.fixture(params=LAYOUTS, ids=str)
def layout(request):
    return request.param


@pytest.fixture
def scores(layout):
    return random_scores(layout, len(SHARES))


@pytest.fixture
def order(layout, scores):
    return keep_order(*scores, torch.tensor(SHARES), layout)


def test_order_equals_the_loop(layout, scores, order):
    for frame, share in enumerate(SHARES):
        base, grid = (one[frame].tolist() for one in scores)
        # 0.37 and the like: the share as float32, rounded to 20 bits, as the fast form reads it
        exact = round(float(torch.tensor(share)) * 2**20) / 2**20
        expected = loop_reference.keep_order(base, grid, exact, layout)
        assert order[frame].tolist() == expected


def test_order_is_a_permutation_of_all_tokens(layout, order):
    everything = torch.arange(layout.num_tokens).expand_as(order)
    assert torch.equal(order.sort(dim=1).values, everything)


def test_every_share_keeps_exactly_that_many_and_holds_the_smaller_ones(layout, order):
    kept = [set(order[2, :share].tolist()) for share in range(layout.num_tokens + 1)]
    assert [len(tokens) for tokens in kept] == list(range(layout.num_tokens + 1))
    assert all(small < large for small, large in itertools.pairwise(kept))


def test_a_newline_follows_the_first_token_of_its_row(layout, order):
    for frame in order:
        rows, newline = layout.row_of(frame).tolist(), layout.is_newline(frame).tolist()
        assert [newline[rows.index(row) + 1] for row in range(layout.rows)] == [True] * layout.rows


def test_at_most_one_row_lacks_its_newline(layout, order):
    for share in range(layout.num_tokens + 1):
        kept = order[3, :share]
        rows = set(layout.row_of(kept).tolist()) - {-1}
        closed = set(layout.row_of(kept[layout.is_newline(kept)]).tolist())
        assert closed <= rows
        assert len(rows - closed) <= 1


def test_content_tokens_enter_by_score_then_index(layout, scores, order):
    for frame, (base, grid) in enumerate(zip(*scores, strict=True)):
        content = order[frame][~layout.is_newline(order[frame])]
        kept_base = content[content < layout.num_base]
        assert torch.equal(kept_base, rank_tokens(base[None])[0])
        kept_grid = content[content >= layout.num_base]
        assert torch.equal(kept_grid, layout.grid_indices()[rank_tokens(grid[None])[0]])


def test_the_plan_counts_both_resolutions_without_base_scores(layout, scores, order):
    plan = plan_order(scores[1], torch.tensor(SHARES), layout)
    for share in range(layout.num_tokens + 1):
        kept = order[:, :share]
        is_base = kept < layout.num_base
        assert torch.equal(plan.num_base(share), is_base.sum(dim=1))
        assert torch.equal(plan.num_grid(share), (~is_base & ~layout.is_newline(kept)).sum(dim=1))


def test_what_one_resolution_cannot_use_the_other_gets():
    layout = FrameLayout(num_base=4, rows=2, columns=3)
    grid_scores = torch.arange(6, 0, -1).float()[None].expand(2, 6)
    plan = plan_order(grid_scores, torch.tensor([1.0, 0.0]), layout)
    # All for the base: 4 base, then grid; none for the base: 6 grid and 2 newlines, then base.
    assert plan.num_base(6).tolist() == [4, 0]
    assert plan.num_grid(6).tolist() == [1, 4]
    assert plan.num_base(10).tolist() == [4, 2]
    assert plan.num_grid(10).tolist() == [4, 6]


def test_shares_equal_up_to_rounding_give_one_order():
    layout = LAYOUTS[0]
    base, grid = random_scores(layout, 3)
    base, grid = base[:1].expand(3, -1), grid[:1].expand(3, -1)
    order = keep_order(base, grid, torch.tensor([0.5, 0.5 - 6e-8, 0.5 + 6e-8]), layout)
    assert torch.equal(order[0], order[1])
    assert torch.equal(order[0], order[2])


def test_ranking_is_descending_with_ties_by_index():
    scores = torch.tensor([[1.0, 3.0, 3.0, 0.0, 2.0, 3.0]])
    assert rank_tokens(scores).tolist() == [[1, 2, 5, 4, 0, 3]]


def test_ranking_ignores_rounding_and_sees_what_matters():
    generator = torch.Generator().manual_seed(0)
    scores = (1 + torch.randint(0, 40, (20, 200), generator=generator)) / 8
    noise = 1 + 2e-6 * (torch.rand(20, 200, generator=generator) - 0.5)
    assert torch.equal(rank_tokens(scores * noise), rank_tokens(scores))
    ladder = 0.3 * torch.full((200,), 1.0001).double().cumprod(0)[None]  # steps of 1e-4
    assert rank_tokens(ladder).tolist() == [list(range(199, -1, -1))]


@pytest.mark.parametrize(
    ("base", "grid", "share", "message"),
    [
        (
            torch.ones(1, 8),
            torch.ones(1, 20),
            torch.ones(1),
            r"shape = \(1, 8\), expected = \(1, 9\)",
        ),
        (torch.ones(1, 9), torch.ones(1, 21), torch.ones(1), r"shape = \(1, 21\)"),
        (torch.ones(2, 9), torch.ones(1, 20), torch.ones(2), r"num_frames = 2"),
        (torch.ones(1, 9), torch.ones(1, 20), torch.tensor([1.5]), r"base_share = tensor\(\[1.5"),
        (torch.ones(1, 9), torch.ones(1, 20), torch.tensor([torch.nan]), r"base_share = .*nan"),
    ],
)
def test_scores_that_do_not_fit_are_refused(base, grid, share, message):
    with pytest.raises(ValueError, match=message):
        keep_order(base, grid, share, LAYOUTS[0])


def slow_joint_order(scores, layout):
    """Take the best token of all frames, then the newline of its row unless it is there."""
    num_content = layout.num_base + layout.num_grid
    taken = []
    for best in sorted(range(len(scores)), key=lambda i: -scores[i]):
        frame, content = divmod(best, num_content)
        row, column = divmod(content - layout.num_base, max(layout.columns, 1))
        start = frame * layout.num_tokens
        row_start = start + layout.num_base + row * (layout.columns + 1)
        with_newline = [row_start + column, row_start + layout.columns]
        taken += with_newline if content >= layout.num_base else [start + content]
    return list(dict.fromkeys(taken))


@pytest.fixture
def joint_scores(layout):
    return torch.cat(random_scores(layout, 6), dim=1)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 6])
def test_joint_order_equals_the_loop(layout, joint_scores, num_frames):
    scores = joint_scores.view(6 // num_frames, -1)
    order = joint_order(scores, layout, num_frames=num_frames)
    assert order.tolist() == [slow_joint_order(s, layout) for s in scores.tolist()]


@pytest.mark.parametrize("num_frames", [1, 3])
def test_joint_order_is_a_permutation_of_all_tokens(layout, joint_scores, num_frames):
    order = joint_order(joint_scores.view(6 // num_frames, -1), layout, num_frames=num_frames)
    everything = torch.arange(num_frames * layout.num_tokens).expand_as(order)
    assert torch.equal(order.sort(dim=1).values, everything)
    assert order.dtype == torch.int64


def test_in_joint_order_a_newline_follows_the_first_token_of_its_row(layout, joint_scores):
    for frame in joint_order(joint_scores, layout):
        rows, newline = layout.row_of(frame).tolist(), layout.is_newline(frame).tolist()
        assert [newline[rows.index(row) + 1] for row in range(layout.rows)] == [True] * layout.rows


def test_joint_order_is_blind_to_resolution(layout):
    num_content = layout.num_base + layout.num_grid
    order = joint_order(torch.ones(1, num_content), layout)[0]
    content = order[~layout.is_newline(order)]
    assert (content.diff() > 0).all()  # all equal: source order, base before grid
    order = joint_order(torch.arange(1.0, num_content + 1)[None], layout)[0]
    assert (order[~layout.is_newline(order)].diff() < 0).all()


def test_joint_order_leaves_its_input_alone(layout, joint_scores):
    before = joint_scores.clone()
    joint_order(joint_scores, layout)
    assert torch.equal(joint_scores, before)


@pytest.mark.parametrize(
    ("scores", "num_frames", "message"),
    [
        (torch.ones(1, 28), 1, r"shape = \(1, 28\), num_frames = 1, num_content = 29"),
        (torch.ones(1, 29), 2, r"shape = \(1, 29\), num_frames = 2"),
        (torch.ones(29), 1, r"shape = \(29,\)"),
        (torch.ones(1, 2, 29), 2, r"shape = \(1, 2, 29\)"),
    ],
)
def test_joint_scores_that_do_not_fit_are_refused(scores, num_frames, message):
    with pytest.raises(ValueError, match=message):
        joint_order(scores, LAYOUTS[0], num_frames=num_frames)
