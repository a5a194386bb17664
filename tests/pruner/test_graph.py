import pytest
import torch

import pruner.batches
import pruner.edges
from pruner import Settings, cross_scores, make_nodes, propagate
from tests.pruner import golden, loop_reference

RESOLUTIONS = [
    (case, resolution) for case in golden.load_all("gprune") for resolution in ("low", "high")
]
FEATURES = {"low": "base", "high": "hires"}
TWO_STEPS = Settings(num_steps=2)


def clustered(num_frames, num_tokens, dim=16, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, dim, generator=generator)
    cluster = torch.randint(4, (num_frames, num_tokens), generator=generator)
    noise = torch.randn(num_frames, num_tokens, dim, generator=generator)
    scale = 0.5 + torch.rand(num_frames, num_tokens, 1, generator=generator)
    return ((centres[cluster] + 0.4 * noise) * scale).to(dtype)


def with_lonely_tokens(num_tokens=23):
    features = clustered(1, num_tokens)
    features[0, [3, 11]] = 0.0
    return features


@pytest.mark.parametrize(("case", "resolution"), RESOLUTIONS, ids=repr)
def test_propagate_equals_the_golden_scores(case, resolution):
    features = case[FEATURES[resolution]].flatten(0, -2)[None]
    settings = Settings(
        similarity=case.params["similarity"],
        temperature=case.params["temperature"],
        num_steps=case.params["iterate_num"],
    )
    scores, degrees = propagate(make_nodes(features), settings=settings, reference=True)
    assert torch.equal(degrees[0], case[f"degree_{resolution}"].long())
    expected = case[f"score_{resolution}"]
    torch.testing.assert_close(scores[0], expected, rtol=case.info["score_rtol"], atol=1e-7)


@pytest.mark.parametrize(("case", "resolution"), RESOLUTIONS[4:10], ids=repr)
def test_propagate_in_float64_equals_the_golden_float64_scores(case, resolution):
    features = case[FEATURES[resolution]].flatten(0, -2)[None].double()
    settings = Settings(num_steps=case.params["iterate_num"])
    scores, _ = propagate(make_nodes(features), settings=settings)
    expected = case[f"score_{resolution}_f64"]
    torch.testing.assert_close(scores[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("num_steps", [0, 1, 2, 3])
@pytest.mark.parametrize("temperature", [0.03, 0.3, 0.004])
def test_propagate_equals_the_loop(num_steps, temperature, reference):
    features = with_lonely_tokens().double()
    settings = {"similarity": 0.6, "temperature": temperature, "num_steps": num_steps}
    nodes = make_nodes(features)
    scores, degrees = propagate(nodes, settings=Settings(**settings), reference=reference)
    expected = loop_reference.propagate(features[0], **settings, reference=reference)
    assert degrees[0].tolist() == expected[1]
    assert scores[0].tolist() == pytest.approx(expected[0], rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_is_computed_in_float32(dtype):
    features = clustered(2, 31).to(dtype)
    scores, _ = propagate(make_nodes(features))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, propagate(make_nodes(features.float()))[0])


def test_half_precision_degree_counts_what_float16_would_keep():
    features = clustered(1, 60, dim=8).double()
    settings = {"similarity": 0.3, "temperature": 0.03, "num_steps": 1}
    nodes = make_nodes(features)
    half = Settings(**settings, half_precision_degree=True)
    scores, degrees = propagate(nodes, settings=half)
    expected = loop_reference.propagate(features[0], **settings, least=2.0**-25)
    assert degrees[0].tolist() == expected[1]
    assert scores[0].tolist() == pytest.approx(expected[0], rel=1e-9)
    assert (degrees < propagate(nodes, settings=Settings(**settings))[1]).any()


def test_a_zero_vector_scores_zero_and_gives_nothing():
    features = with_lonely_tokens()
    scores, degrees = propagate(make_nodes(features))
    others = [i for i in range(features.shape[1]) if i not in (3, 11)]
    assert scores[0, [3, 11]].tolist() == [0.0, 0.0]
    assert degrees[0, [3, 11]].tolist() == [1, 1]
    alone, _ = propagate(make_nodes(features[:, others]))
    torch.testing.assert_close(scores[:, others], alone)


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_nodes_without_edges_keep_their_weight(num_steps):
    nodes = make_nodes(clustered(2, 9))
    settings = Settings(similarity=1.5, num_steps=num_steps)
    scores, degrees = propagate(nodes, settings=settings)
    torch.testing.assert_close(scores, nodes.norms)
    assert (degrees == 1).all()


def test_nodes_without_edges_are_uniform_in_the_reference():
    nodes = make_nodes(clustered(2, 9))
    scores, degrees = propagate(nodes, settings=Settings(similarity=1.5), reference=True)
    torch.testing.assert_close(scores, nodes.norms.mean(dim=1, keepdim=True).expand(2, 9) / 9)
    assert (degrees == 9).all()


def test_a_cosine_at_the_threshold_is_an_edge():
    features = torch.tensor([[[2.0, 0, 0, 0], [1.0, 1, 1, 1]]])  # cosine exactly 0.5
    nodes = make_nodes(features)
    assert propagate(nodes, settings=Settings(similarity=0.5))[1].tolist() == [[2, 2]]
    assert propagate(nodes, settings=Settings(similarity=0.50001))[1].tolist() == [[1, 1]]


def test_a_frame_does_not_depend_on_the_others():
    features = clustered(3, 250)
    together = propagate(make_nodes(features), settings=TWO_STEPS)
    alone = [propagate(make_nodes(frame[None]), settings=TWO_STEPS) for frame in features]
    assert torch.equal(together[0], torch.cat([scores for scores, _ in alone]))
    assert torch.equal(together[1], torch.cat([degrees for _, degrees in alone]))


def test_small_frames_are_worked_on_together_and_come_out_as_alone():
    features = clustered(11, 36)
    nodes = make_nodes(features)
    assert nodes.frames_per_batch == 12
    together = propagate(nodes, settings=TWO_STEPS)
    alone = [propagate(make_nodes(frame[None]), settings=TWO_STEPS) for frame in features]
    assert torch.equal(together[0], torch.cat([scores for scores, _ in alone]))
    assert torch.equal(together[1], torch.cat([degrees for _, degrees in alone]))


@pytest.mark.parametrize("num_rows", [1, 7, 64])
def test_strips_and_batches_do_not_matter(monkeypatch, num_rows):
    base, grid = make_nodes(clustered(3, 40)), make_nodes(clustered(3, 55, seed=1))
    pruned = torch.arange(55).expand(3, 55) % 3 > 0
    before = propagate(grid, settings=TWO_STEPS), cross_scores(base, grid, pruned)
    monkeypatch.setattr(pruner.edges, "_CPU_ROWS", num_rows)
    monkeypatch.setattr(pruner.batches, "_CPU_PAIRS", 2 * 55**2)
    after = propagate(grid, settings=TWO_STEPS), cross_scores(base, grid, pruned)
    torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(("similarity", "temperature"), [(0.5, 0.03), (0.2, 0.2), (0.1, 0.004)])
def test_cross_scores_equal_the_loop(similarity, temperature, reference):
    base, grid = clustered(1, 14).double(), clustered(1, 19, seed=0).double()
    base[0, 5] = 0.0
    pruned = torch.arange(19) % 3 > 0
    settings = Settings(cross_similarity=similarity, temperature=temperature)
    nodes = make_nodes(base), make_nodes(grid)
    scores, degrees = cross_scores(*nodes, pruned[None], settings=settings, reference=reference)
    chosen = pruned.nonzero().flatten().tolist()
    expected = loop_reference.cross(
        base[0], grid[0], chosen, similarity, temperature, reference=reference
    )
    assert degrees[0].tolist() == expected[1]
    assert scores[0].tolist() == pytest.approx(expected[0], rel=1e-9)


def test_far_neighbours_survive_a_low_temperature():
    base = torch.tensor([[[1.0, 0.0]]])
    grid = torch.tensor([[[0.6, 0.8], [0.0, 3.0]]])  # exp((0.6 - 1) / 0.003) is 0 in float32
    pruned = torch.ones(1, 2, dtype=torch.bool)
    settings = Settings(temperature=0.003)
    scores, degrees = cross_scores(make_nodes(base), make_nodes(grid), pruned, settings=settings)
    assert degrees.tolist() == [[1]]
    torch.testing.assert_close(scores, torch.tensor([[1.0]]))


@pytest.mark.parametrize("reference", [False, True])
def test_nothing_pruned_gives_no_cross_score(reference):
    nodes = make_nodes(clustered(2, 6))
    nothing = torch.zeros(2, 6, dtype=torch.bool)
    scores, degrees = cross_scores(nodes, nodes, nothing, reference=reference)
    assert scores.eq(0).all()
    assert degrees.eq(0).all()


def test_no_tokens_give_no_scores():
    scores, degrees = propagate(make_nodes(torch.zeros(2, 0, 8)))
    assert scores.shape == degrees.shape == (2, 0)


def test_features_are_not_written_to():
    features = with_lonely_tokens()
    before = features.clone()
    propagate(make_nodes(features), settings=TWO_STEPS)
    assert torch.equal(features, before)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(3, 4), r"shape = \(3, 4\)"),
        (torch.zeros(1, 3, 4, dtype=torch.int64), r"dtype = torch\.int64"),
        (torch.full((1, 3, 4), torch.nan), r"num_bad = 3"),
        (torch.full((1, 3, 4), torch.inf), r"num_bad = 3"),
    ],
)
def test_features_that_are_no_tokens_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        make_nodes(features)


@pytest.mark.parametrize(
    "pruned", [torch.zeros(1, 4, dtype=torch.bool), torch.zeros(1, 5, dtype=torch.int64)]
)
def test_a_mask_that_does_not_fit_is_refused(pruned):
    nodes = make_nodes(clustered(1, 5))
    with pytest.raises(ValueError, match=r"expected = \(1, 5\)"):
        cross_scores(nodes, nodes, pruned)
