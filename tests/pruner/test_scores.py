import pytest
import torch

from pruner import Settings, score_frames
from tests.pruner import golden, loop_reference

CASES = golden.load_all("mrpruner")
FINITE = [case for case in CASES if not case.info["low_scores_nan"]]
WITH_HALF = [case for case in CASES if "k_low_fp16" in case.arrays]


def score(case, base, grid, reference=True, **changes):
    names = ("similarity", "cross_similarity", "temperature", "beta")
    parameters = {name: case.params[name] for name in names}
    settings = Settings(**parameters, num_steps=case.params["iterate_num"], **changes)
    num_keep = int(case.params["keep_ratio"] * case.info["flat_len"])
    return score_frames(base, grid, num_keep=num_keep, settings=settings, reference=reference)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_counts_and_degrees_equal_the_golden_ones(case):
    scores = score(case, case.base, case.grid)
    assert scores.num_base_kept.tolist() == [int(case["k_low"])]
    assert scores.num_grid_kept.tolist() == [int(case["k_high"])]
    assert torch.equal(scores.base_degrees[0], case["degree_low"].long())
    assert torch.equal(scores.grid_degrees[0], case["degree_high"].long())
    assert torch.equal(scores.cross_degrees[0], case["degree_cross"].long())


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_scores_inside_a_resolution_equal_the_golden_ones(case):
    scores, tolerance = score(case, case.base, case.grid), case.info["score_rtol"]
    torch.testing.assert_close(scores.grid[0], case["score_high"], rtol=tolerance, atol=1e-7)
    intra = case["score_low_intra"]
    torch.testing.assert_close(scores.base_intra[0], intra, rtol=tolerance, atol=1e-7)


@pytest.mark.parametrize("case", FINITE, ids=repr)
def test_scores_across_resolutions_equal_the_golden_ones(case):
    scores, tolerance = score(case, case.base, case.grid), case.info["score_rtol"]
    cross = case["score_low_cross"]
    torch.testing.assert_close(scores.base_cross[0], cross, rtol=tolerance, atol=1e-7)
    torch.testing.assert_close(scores.base[0], case["score_low"], rtol=tolerance, atol=1e-7)


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
    similarity, temperature = case.params["similarity"], case.params["temperature"]
    steps = case.params["iterate_num"]
    flat = grid[0].flatten(0, 1)
    intra = loop_reference.propagate(base[0], similarity, temperature, steps)
    inside = loop_reference.propagate(flat, similarity, temperature, steps)
    ranked = sorted(range(len(inside[0])), key=lambda i: -inside[0][i])
    pruned = sorted(ranked[int(scores.num_grid_kept) :])
    cross = loop_reference.cross(base[0], flat, pruned, similarity, temperature)
    assert scores.base_intra[0].tolist() == pytest.approx(intra[0], rel=1e-9)
    assert scores.grid[0].tolist() == pytest.approx(inside[0], rel=1e-9)
    assert scores.base_cross[0].tolist() == pytest.approx(cross[0], rel=1e-9)
    assert torch.equal(scores.base, scores.base_intra + 0.5 * scores.base_cross)
    assert scores.base_degrees[0].tolist() == intra[1]
    assert scores.grid_degrees[0].tolist() == inside[1]
    assert scores.cross_degrees[0].tolist() == cross[1]


def test_the_cross_term_can_be_left_out():
    case = CASES[3]
    scores = score(case, case.base, case.grid, cross_resolution=False)
    assert scores.base_cross.eq(0).all()
    assert torch.equal(scores.base, scores.base_intra)


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
        ({"cross_similarity": -0.5}, r"similarity = -0\.5"),
        ({"temperature": -1.0}, r"temperature = -1\.0"),
        ({"beta": -0.1}, r"self\.beta = -0\.1"),
        ({"beta": float("nan")}, r"self\.beta = nan"),
        ({"num_steps": -1}, r"self\.num_steps = -1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)
