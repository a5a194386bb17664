import math
import re

import pytest
import torch

from pruner import Novelty


def direction(degrees):
    """Two base tokens that point the same way in the plane."""
    radians = math.radians(degrees)
    return torch.tensor([[math.cos(radians), math.sin(radians)]] * 2)


BOTH = torch.arange(2)


def test_the_first_frame_is_all_new():
    assert Novelty(2, 2).add(BOTH, direction(0)) == 1.0


def test_a_repeated_frame_adds_exactly_nothing():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 64, generator=generator)
    novelty = Novelty(50, 64)
    novelty.add(torch.arange(50), features)
    assert novelty.add(torch.arange(50), features) == 0.0
    assert novelty.add(torch.arange(50), 3 * features) == 0.0


def test_novelty_is_one_minus_the_cosine():
    novelty = Novelty(2, 2)
    novelty.add(BOTH, direction(0))
    assert novelty.add(BOTH, direction(60)) == pytest.approx(0.5, abs=1e-6)
    assert novelty.add(BOTH, direction(240)) == pytest.approx(2.0, abs=1e-6)


def test_only_emitted_positions_count():
    novelty = Novelty(2, 2)
    novelty.add(torch.tensor([1]), direction(0)[:1])
    assert novelty.add(torch.tensor([1]), direction(60)[:1]) == pytest.approx(0.5, abs=1e-6)
    assert novelty.add(torch.tensor([0]), direction(60)[:1]) == 1.0


def test_a_frame_without_base_tokens_is_all_new_and_changes_nothing():
    novelty = Novelty(2, 2)
    novelty.add(BOTH, direction(0))
    assert novelty.add(torch.empty(0, dtype=torch.int64), torch.empty(0, 2)) == 1.0
    assert novelty.add(BOTH, direction(0)) == 0.0


def test_slow_drift_adds_up_until_it_crosses_the_threshold():
    novelty = Novelty(2, 2, similarity=math.cos(math.radians(30)))
    seen = [float(novelty.add(BOTH, direction(8 * step))) for step in range(8)]
    angles = [0, 8, 16, 24, 32, 8, 16, 24]  # against the anchor, renewed once it passed 30 degrees
    expected = [1.0] + [1 - math.cos(math.radians(angle)) for angle in angles[1:]]
    assert seen == pytest.approx(expected, abs=2e-6)


def test_an_anchor_moves_only_where_its_token_changed():
    novelty = Novelty(2, 2)
    novelty.add(BOTH, direction(0))
    novelty.add(BOTH, torch.cat((direction(90)[:1], direction(10)[:1])))
    assert novelty.add(torch.tensor([0]), direction(90)[:1]) == 0.0
    assert novelty.add(torch.tensor([1]), direction(0)[:1]) == 0.0


def test_features_are_not_written_to_nor_held():
    features = direction(0)
    novelty = Novelty(2, 2)
    novelty.add(BOTH, features)
    assert torch.equal(features, direction(0))
    features.fill_(7.0)
    assert novelty.add(BOTH, direction(0)) == 0.0


@pytest.mark.parametrize("counts", [[7], [3, 4], [1, 0, 2, 4], [7, 0]])
def test_frames_in_one_call_count_as_frames_in_many(counts):
    generator = torch.Generator().manual_seed(1)
    sizes = [30 * count for count in counts]
    positions = torch.cat([torch.randperm(210, generator=generator)[:size] for size in sizes])
    features = torch.randn(1, 16, generator=generator) + torch.randn(210, 16, generator=generator)
    one_by_one, together = Novelty(210, 16), Novelty(210, 16)
    for _ in range(2):
        frames = zip(positions.split(sizes), features.split(sizes), strict=True)
        expected = [float(one_by_one.add(*frame)) for frame in frames]
        assert together.add(positions, features, sizes).tolist() == expected
        features = features + torch.randn(210, 16, generator=generator)


def test_a_call_that_is_refused_adds_nothing():
    novelty = Novelty(2, 2)
    novelty.add(BOTH, direction(0))
    spoiled = torch.cat((direction(90), torch.full((2, 2), torch.nan)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        novelty.add(BOTH.repeat(2), spoiled, [2, 2])
    assert novelty.add(BOTH, direction(0)) == 0.0


@pytest.mark.parametrize("counts", [[1], [1, 2], [3, -1]])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(
        ValueError, match=rf"sizes = {re.escape(str(counts))}, len\(positions\) = 2"
    ):
        Novelty(2, 2).add(BOTH, direction(0), counts)


def test_a_position_may_return_in_the_next_frame_of_a_call_but_not_in_one():
    features = direction(0).repeat(2, 1)
    assert Novelty(2, 2).add(BOTH.repeat(2), features, [2, 2]).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="once per frame"):
        Novelty(2, 2).add(BOTH.repeat(2), features, [3, 1])


def test_half_precision_features_are_taken():
    novelty = Novelty(2, 2)
    novelty.add(BOTH, direction(30).bfloat16())
    assert novelty.add(BOTH, direction(30).bfloat16()) == 0.0


@pytest.mark.parametrize(
    ("positions", "features", "message"),
    [
        ([0, 1], torch.ones(1, 2), r"expected = \(2, 2\), shape = \(1, 2\)"),
        ([0], torch.ones(1, 3), r"expected = \(1, 2\), shape = \(1, 3\)"),
        ([2], torch.ones(1, 2), r"num_base = 2"),
        ([-1], torch.ones(1, 2), r"num_base = 2"),
        ([1, 1], torch.ones(2, 2), r"once per frame"),
        ([0], torch.full((1, 2), torch.nan), r"NaN or infinite"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(positions, features, message):
    with pytest.raises(ValueError, match=message):
        Novelty(2, 2).add(torch.tensor(positions), features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_base": 0, "dim": 2}, r"num_base = 0"),
        ({"num_base": 2, "dim": 0}, r"dim = 0"),
        ({"num_base": 2, "dim": 2, "similarity": 1.5}, r"similarity = 1\.5"),
    ],
)
def test_impossible_anchors_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Novelty(**arguments)
