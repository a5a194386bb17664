import pytest
import torch

from pruner import Settings, cross_scores, make_nodes, propagate, score_frames
from tests.pruner import golden, loop_reference

CASES = golden.load_all("mrpruner")
FINITE = [case for case in CASES if not case.info["low_scores_nan"]]
WITH_HALF = [case for case in CASES if "k_low_fp16" in case.arrays]


def settings_of(case, **changes):
    names = ("similarity", "cross_similarity", "temperature", "beta")
    parameters = {name: case.params[name] for name in names}
    return Settings(**parameters, num_steps=case.params["iterate_num"], **changes)


def score(case, base, grid, reference=True, **changes):
    num_keep = int(case.params["keep_ratio"] * case.info["flat_len"])
    settings = settings_of(case, **changes)
    return score_frames(base, grid, num_keep=num_keep, settings=settings, reference=reference)


def parts(case, base, grid, scores, reference=True):
    """Scores and degrees inside the base, inside the grid, and across, each computed by itself."""
    nodes, settings = (make_nodes(base), make_nodes(grid.flatten(1, 2))), settings_of(case)
    intra, inside = (propagate(own, settings=settings, reference=reference) for own in nodes)
    pruned = torch.ones_like(inside[0], dtype=torch.bool)
    pruned[0, scores.plan.grid_order[0, : int(scores.num_grid_kept)]] = False
    return intra, inside, cross_scores(*nodes, pruned, settings=settings, reference=reference)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_counts_and_degrees_equal_the_golden_ones(case):
    scores = score(case, case.base, case.grid)
    assert scores.num_base_kept.tolist() == [int(case["k_low"])]
    assert scores.num_grid_kept.tolist() == [int(case["k_high"])]
    degrees = [degree[0] for _, degree in parts(case, case.base, case.grid, scores)]
    for degree, name in zip(degrees, ("low", "high", "cross"), strict=True):
        assert torch.equal(degree, case[f"degree_{name}"].long())


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_scores_inside_a_resolution_equal_the_golden_ones(case):
    scores, tolerance = score(case, case.base, case.grid), case.info["score_rtol"]
    torch.testing.assert_close(scores.grid[0], case["score_high"], rtol=tolerance, atol=1e-7)
    (intra, _), (inside, _), _ = parts(case, case.base, case.grid, scores)
    torch.testing.assert_close(intra[0], case["score_low_intra"], rtol=tolerance, atol=1e-7)
    assert torch.equal(inside, scores.grid)


@pytest.mark.parametrize("case", FINITE, ids=repr)
def test_scores_across_resolutions_equal_the_golden_ones(case):
    scores, tolerance = score(case, case.base, case.grid), case.info["score_rtol"]
    (intra, _), _, (cross, _) = parts(case, case.base, case.grid, scores)
    torch.testing.assert_close(cross[0], case["score_low_cross"], rtol=tolerance, atol=1e-7)
    torch.testing.assert_close(scores.base[0], case["score_low"], rtol=tolerance, atol=1e-7)
    assert torch.equal(scores.base, intra + case.params["beta"] * cross)


@pytest.mark.parametrize("case", WITH_HALF, ids=repr)
def test_counts_of_half_precision_features_equal_the_published_ones(case):
    scores = score(case, case.base.half(), case.grid.half())
    assert scores.num_base_kept.tolist() == [int(case["k_low_fp16"])]
    assert scores.num_grid_kept.tolist() == [int(case["k_high_fp16"])]


@pytest.mark.parametrize("name", ["mrpruner_o03_small_keep005", "mrpruner_o13_iterate2"])
def test_default_scores_equal_the_loop(name):
    case = golden.load(name)
    base, grid = case.base.double(), case.grid.double()
    base[0, 3] = 0.0
    grid[0, 2, 1] = 0.0
    scores = score(case, base, grid, reference=False)
    found = parts(case, base, grid, scores, reference=False)
    similarity, temperature = case.params["similarity"], case.params["temperature"]
    steps = case.params["iterate_num"]
    flat = grid[0].flatten(0, 1)
    intra = loop_reference.propagate(base[0], similarity, temperature, steps)
    inside = loop_reference.propagate(flat, similarity, temperature, steps)
    ranked = sorted(range(len(inside[0])), key=lambda i: -inside[0][i])
    pruned = sorted(ranked[int(scores.num_grid_kept) :])
    cross = loop_reference.cross(base[0], flat, pruned, similarity, temperature)
    for (values, degrees), expected in zip(found, (intra, inside, cross), strict=True):
        assert values[0].tolist() == pytest.approx(expected[0], rel=1e-9)
        assert degrees[0].tolist() == expected[1]
    assert torch.equal(scores.grid, found[1][0])
    both = [a + 0.5 * b for a, b in zip(intra[0], cross[0], strict=True)]
    assert scores.base[0].tolist() == pytest.approx(both, rel=1e-9)


def test_the_cross_term_can_be_left_out():
    case = CASES[3]
    scores = score(case, case.base, case.grid, cross_resolution=False)
    (intra, _), _, (cross, _) = parts(case, case.base, case.grid, scores)
    assert cross.gt(0).any()
    assert torch.equal(scores.base, intra)


def test_informativeness_is_the_mean_norm():
    base, grid = torch.ones(2, 3, 4), 2 * torch.ones(2, 1, 5, 4)
    scores = score_frames(base, grid, num_keep=4)
    assert scores.informativeness.tolist() == [[2.0, 4.0], [2.0, 4.0]]


def test_a_single_tile_has_no_informativeness_of_the_grid():
    scores = score_frames(torch.ones(2, 3, 4), torch.ones(2, 0, 5, 4), num_keep=2)
    assert scores.informativeness.tolist() == [[2.0, 0.0], [2.0, 0.0]]
    assert scores.num_base_kept.tolist() == [2, 2]
    assert scores.num_grid_kept.tolist() == [0, 0]


@pytest.mark.parametrize("reference", [False, True])
def test_frames_of_zeros_are_split_evenly(reference):
    base, grid = torch.zeros(1, 6, 4), torch.zeros(1, 2, 3, 4)
    scores = score_frames(base, grid, num_keep=5, reference=reference)
    assert scores.num_base_kept.tolist() == [2]
    assert scores.base.eq(0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"similarity": 0.0}, r"similarity = 0\.0"),
        ({"cross_similarity": -0.5}, r"cross_similarity = -0\.5"),
        ({"temperature": 0.0}, r"temperature = 0\.0"),
        ({"temperature": -1.0}, r"temperature = -1\.0"),
        ({"temperature": float("nan")}, r"temperature = nan"),
        ({"temperature": float("inf")}, r"temperature = inf"),
        ({"temperature": 1e-30}, r"of 0\.001 to 100: self\.temperature = 1e-30"),
        ({"temperature": 1e37}, r"temperature = 1e\+37"),
        ({"beta": -0.1}, r"self\.beta = -0\.1"),
        ({"beta": float("nan")}, r"self\.beta = nan"),
        ({"num_steps": -1}, r"self\.num_steps = -1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)
