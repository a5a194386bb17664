import pytest
import torch

from pruner import FrameLayout, Settings, Task, rank
from pruner.mr_pruner import mr_pruner
from tests.pruner import golden

CASES = golden.load_all("mrpruner")
DEFINED = [
    case
    for case in CASES
    if case.info["selection_defined_low"] and case.info["selection_defined_high"]
]
END_TO_END = [golden.load("layout_e2e_o01_mr"), golden.load("layout_e2e_o03_mr_wrong_offset")]
FULL_SIZE = CASES[:2]


def settings_of(case, **changes):
    names = ("similarity", "cross_similarity", "temperature", "beta")
    parameters = {name: case.params[name] for name in names}
    return Settings(**parameters, num_steps=case.params["iterate_num"], **changes)


def choose(case, reference, **changes):
    (kept,) = mr_pruner(
        case.base,
        case.grid,
        keep_ratio=case.params["keep_ratio"],
        settings=settings_of(case, **changes),
        reference=reference,
    )
    return kept


def rank_frames(base, grid, num_keep):
    return rank("mr_pruner", base, grid, Task(frame_indices=range(len(base)), num_keep=num_keep))


def frames(num_frames=2, num_base=16, rows=4, columns=5, dim=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(6, dim, generator=generator)

    def tokens(*shape):
        cluster = torch.randint(6, shape, generator=generator)
        return centres[cluster] + 0.5 * torch.randn(*shape, dim, generator=generator)

    return tokens(num_frames, num_base), tokens(num_frames, rows, columns)


def overlap(one, two):
    one, two = set(one.tolist()), set(two.tolist())
    return len(one & two) / len(one | two)


@pytest.mark.parametrize("case", DEFINED, ids=repr)
def test_reference_keeps_what_was_published(case):
    assert torch.equal(choose(case, reference=True), case["keep"])


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_reference_counts_hold_where_the_choice_is_arbitrary(case):
    kept = choose(case, reference=True)
    is_base = kept < case.info["n_low"]
    assert len(kept) == len(case["keep"])
    assert int(is_base.sum()) == case["k_low"]
    assert torch.isin(case["newline_idx"], kept).all()
    assert (kept.diff() > 0).all()


@pytest.mark.parametrize("case", END_TO_END, ids=repr)
def test_reference_keeps_the_published_tokens_of_a_whole_image(case):
    side, (across, down) = case.params["tile_side"], case["grid_wh"].tolist()
    tiles = case["tiles"][1:].unflatten(0, (down, across)).unflatten(2, (side, side))
    grid = tiles.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)  # (down side, across side, D)
    rows, columns = int(case["rows"]), int(case["cols"])
    top, left = (grid.shape[0] - rows) // 2, (grid.shape[1] - columns) // 2
    grid = grid[top : top + rows, left : left + columns]
    ratio = case.params["keep_ratio"]
    (kept,) = mr_pruner(case["tiles"][:1], grid[None], keep_ratio=ratio, reference=True)
    assert torch.equal(kept, case["keep"])


@pytest.mark.parametrize("case", FULL_SIZE, ids=repr)
def test_half_precision_degree_comes_close_to_a_float16_run(case):
    plain = choose(case, reference=True)
    close = choose(case, reference=True, half_precision_degree=True)
    assert overlap(close, case["keep_fp16"]) > 0.95
    assert overlap(close, case["keep_fp16"]) > overlap(plain, case["keep_fp16"])


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_default_keeps_exactly_the_fraction_asked_for(case):
    kept = choose(case, reference=False)
    assert len(kept) == int(case.params["keep_ratio"] * case.info["flat_len"] + 1e-6)
    assert (kept.diff() > 0).all()


@pytest.mark.parametrize("num_keep", [1, 2, 7, 20, 39, 40])
def test_default_keeps_exactly_the_number_asked_for(num_keep):
    base, grid = frames()
    kept = mr_pruner(base, grid, num_keep=num_keep)
    assert [len(indices) for indices in kept] == [num_keep, num_keep]
    assert all(indices.dtype == torch.int64 for indices in kept)
    assert all((indices.diff() > 0).all() for indices in kept)


def test_keeping_all_is_the_identity():
    for indices in mr_pruner(*frames(), keep_ratio=1.0):
        assert torch.equal(indices, torch.arange(40))


def test_fractions_do_not_suffer_from_float_arithmetic():
    base, grid = torch.ones(1, 79, 4), torch.ones(1, 3, 6, 4)  # 100 tokens, int(0.29 * 100) is 28
    assert len(mr_pruner(base, grid, keep_ratio=0.29)[0]) == 29
    assert len(mr_pruner(base, grid, keep_ratio=0.001)[0]) == 1
    assert len(mr_pruner(base, grid, keep_ratio=0.29, reference=True)[0]) == 28 + 3


def test_the_ranking_starts_with_the_choice():
    base, grid = frames(num_frames=3)
    ranking = rank_frames(base, grid, num_keep=11)
    kept = mr_pruner(base, grid, num_keep=11)
    assert torch.equal(ranking.order[:, :11].sort(dim=1).values, torch.stack(kept))
    assert torch.equal(ranking.order.sort(dim=1).values, torch.arange(40).expand(3, 40))
    torch.testing.assert_close(ranking.informativeness[:, 0], base.norm(dim=2).mean(dim=1).double())


@pytest.mark.parametrize("num_keep", [0, 40])
def test_a_nominal_share_may_be_nothing_or_everything(num_keep):
    order = rank_frames(*frames(), num_keep=num_keep).order
    assert torch.equal(order.sort(dim=1).values, torch.arange(40).expand(2, 40))


def test_a_frame_does_not_depend_on_the_others():
    base, grid = frames(num_frames=3, num_base=144, rows=12, columns=12)
    together = rank_frames(base, grid, num_keep=60)
    for frame in range(3):
        one = slice(frame, frame + 1)
        alone = rank_frames(base[one], grid[one], num_keep=60)
        assert torch.equal(alone.order, together.order[one])


def test_single_tile_ranks_the_base():
    base, _ = frames()
    grid = torch.empty(2, 0, 0, base.shape[2])
    ranking = rank_frames(base, grid, num_keep=4)
    assert torch.equal(ranking.order.sort(dim=1).values, torch.arange(16).expand(2, 16))
    assert [len(kept) for kept in mr_pruner(base, grid, keep_ratio=0.25)] == [4, 4]


def test_permuting_base_tokens_permutes_the_choice():
    base, grid = frames(num_frames=1)
    shuffled = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    before, after = (
        mr_pruner(tokens, grid, num_keep=15)[0] for tokens in (base, base[:, shuffled])
    )
    assert sorted(shuffled[after[after < 16]].tolist()) == before[before < 16].tolist()
    assert torch.equal(after[after >= 16], before[before >= 16])


def test_permuting_grid_tokens_of_a_row_permutes_the_choice():
    base, grid = frames(num_frames=1)
    layout = FrameLayout(num_base=16, rows=4, columns=5)
    before, after = (mr_pruner(base, g, num_keep=15)[0] for g in (grid, grid.flip(2)))
    newlines = [kept[layout.is_newline(kept)] for kept in (before, after)]
    assert torch.equal(*newlines)

    def places(kept):
        inside = kept[(kept >= 16) & ~layout.is_newline(kept)]
        return layout.row_of(inside).tolist(), ((inside - 16) % 6).tolist()

    rows, columns = places(after)
    mirrored = sorted((row, 4 - column) for row, column in zip(rows, columns, strict=True))
    assert mirrored == sorted(zip(*places(before), strict=True))


def test_copies_of_a_token_are_taken_in_order():
    base, grid = torch.ones(1, 9, 8) * 0.3, torch.ones(1, 3, 4, 8) * 0.3
    (kept,) = mr_pruner(base, grid, num_keep=9)
    # Half of 8 content tokens for the base; the 4 grid tokens of row 0 and its newline.
    assert kept.tolist() == [0, 1, 2, 3, 9, 10, 11, 12, 13]


def test_features_are_not_written_to():
    base, grid = frames()
    copies = base.clone(), grid.clone()
    mr_pruner(base, grid)
    assert torch.equal(base, copies[0])
    assert torch.equal(grid, copies[1])


@pytest.fixture
def _restored_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_restored_threads")
def test_number_of_threads_does_not_reorder():
    base, grid = frames(num_frames=1, num_base=144, rows=16, columns=16, dim=256)
    grid[:, 8:] = grid[:, :8]  # every grid token twice: equal up to rounding
    orders = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        orders.append(rank_frames(base, grid, num_keep=50).order)
    assert torch.equal(*orders)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_ratio": 0.0}, r"keep_ratio = 0\.0"),
        ({"keep_ratio": 1.1}, r"keep_ratio = 1\.1"),
        ({"keep_ratio": float("nan")}, r"keep_ratio = nan"),
        ({"num_keep": 0}, r"num_keep = 0, num_tokens = 40"),
        ({"num_keep": 41}, r"num_keep = 41, num_tokens = 40"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mr_pruner(*frames(), **arguments)


@pytest.mark.parametrize("num_keep", [-1, 41])
def test_a_nominal_share_out_of_range_is_refused(num_keep):
    with pytest.raises(ValueError, match=rf"num_keep = {num_keep}"):
        rank_frames(*frames(), num_keep=num_keep)


@pytest.mark.parametrize(
    ("base", "grid", "message"),
    [
        (torch.ones(16, 12), torch.ones(1, 4, 5, 12), r"base_shape = \(16, 12\)"),
        (torch.ones(1, 16, 12), torch.ones(1, 20, 12), r"grid_shape = \(1, 20, 12\)"),
        (torch.ones(1, 16, 12), torch.ones(1, 4, 5, 8), r"frames or widths"),
        (torch.ones(2, 16, 12), torch.ones(1, 4, 5, 12), r"frames or widths"),
        (torch.ones(1, 16, 12), torch.ones(1, 4, 5, 12).half(), r"grid.dtype = torch.float16"),
        (torch.full((1, 16, 12), torch.nan), torch.ones(1, 4, 5, 12), r"num_bad = 16"),
        (torch.ones(1, 0, 12), torch.ones(1, 4, 5, 12), r"num_base = 0"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(base, grid, message):
    with pytest.raises(ValueError, match=message):
        mr_pruner(base, grid)


def test_the_published_method_needs_a_grid():
    with pytest.raises(ValueError, match=r"needs a grid.*rows=0"):
        mr_pruner(torch.ones(1, 16, 12), torch.ones(1, 0, 5, 12), reference=True)
