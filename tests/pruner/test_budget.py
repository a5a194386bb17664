import random
from fractions import Fraction

import pytest
import torch

from pruner import filling_order, water_fill
from tests.pruner import loop_reference


def random_case(seed):
    """Weights in eighths, some zero, some equal, and a budget that covers the floors."""
    draw = random.Random(seed)
    n = draw.randint(1, 12)
    weights = [
        Fraction(draw.choice([0, 0, 1, 2, 3, 7, 8, 40, draw.randint(0, 99)]), 8) for _ in range(n)
    ]
    floors = [draw.choice([0, 0, draw.randint(0, 6)]) for _ in range(n)]
    caps = [floor + draw.choice([0, 1, draw.randint(0, 40), 100]) for floor in floors]
    budget = draw.randint(sum(floors), sum(caps) + 5)
    return weights, budget, floors, caps


@pytest.mark.parametrize("block", range(10))
def test_equals_exact_fractions(block):
    for seed in range(block * 100, block * 100 + 100):
        weights, budget, floors, caps = random_case(seed)
        share = water_fill([float(w) for w in weights], budget, floors=floors, caps=caps).tolist()
        assert share == loop_reference.water_fill(weights, budget, floors, caps), f"{seed = }"
        assert sum(share) == min(budget, sum(caps))
        assert all(f <= s <= c for f, s, c in zip(floors, share, caps, strict=True))


def test_large_clips_keep_every_promise():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(5000, generator=generator).pow(20)  # from 1e-70 to 1
    floors = torch.randint(0, 3, (5000,), generator=generator)
    caps = floors + torch.randint(0, 3000, (5000,), generator=generator)
    share = water_fill(weights, 100_000, floors=floors, caps=caps)
    assert share.dtype == torch.int64
    assert int(share.sum()) == 100_000
    assert ((floors <= share) & (share <= caps)).all()
    by_weight = weights.argsort()
    free = by_weight[(share > floors)[by_weight] & (share < caps)[by_weight]]
    assert (share[free].diff() >= -1).all()


def test_shares_follow_the_weights():
    assert water_fill([1.0, 2.0, 3.0], 60, floors=[0] * 3, caps=[100] * 3).tolist() == [10, 20, 30]


def test_equal_weights_hand_the_remainder_out_by_index():
    assert water_fill([0.1] * 4, 10, floors=[0] * 4, caps=[9] * 4).tolist() == [3, 3, 2, 2]


def test_the_largest_remainder_goes_first():
    assert water_fill([1.0, 1.2, 1.8], 4, floors=[0] * 3, caps=[9] * 3).tolist() == [1, 1, 2]


def test_zero_weights_are_equal_weights():
    assert water_fill([0.0] * 3, 7, floors=[0] * 3, caps=[9] * 3).tolist() == [3, 2, 2]


def test_what_a_cap_leaves_spills_over():
    assert water_fill([8.0, 1.0, 1.0], 20, floors=[0] * 3, caps=[4, 50, 50]).tolist() == [4, 8, 8]


def test_weight_zero_gets_its_floor_and_then_what_nobody_can_use():
    settings = {"floors": [1, 0, 0], "caps": [50, 10, 10]}
    assert water_fill([0.0, 1.0, 1.0], 15, **settings).tolist() == [1, 7, 7]
    assert water_fill([0.0, 1.0, 1.0], 30, **settings).tolist() == [10, 10, 10]


def test_floors_come_out_of_the_shares_of_others():
    share = water_fill([9.0, 1.0, 0.0], 20, floors=[0, 6, 3], caps=[99] * 3)
    assert share.tolist() == [11, 6, 3]


def test_a_budget_above_the_caps_gives_the_caps():
    assert water_fill([1.0, 5.0], 99, floors=[0, 0], caps=[3, 4]).tolist() == [3, 4]


def test_no_frames_take_nothing():
    assert water_fill([], 5, floors=[], caps=[]).tolist() == []


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e9, 1e300])
def test_only_ratios_of_weights_matter(scale):
    share = water_fill([1 * scale, 3 * scale], 8, floors=[0, 0], caps=[9, 9])
    assert share.tolist() == [2, 6]


@pytest.mark.parametrize(
    ("weights", "budget", "floors", "caps", "message"),
    [
        ([1.0, 1.0], 4, [3, 2], [9, 9], r"budget = 4, needed = 5"),
        ([1.0, 1.0], 4, [3], [9, 9], r"\(2,\), \(1,\), \(2,\)"),
        ([-1.0, 1.0], 4, [0, 0], [9, 9], r"at least 0: weight = "),
        ([float("nan"), 1.0], 4, [0, 0], [9, 9], r"finite and at least 0"),
        ([1.0, 1.0], 4, [0, 3], [9, 2], r"0 <= floor <= cap"),
        ([1.0, 1.0], 4, [-1, 0], [9, 2], r"0 <= floor <= cap"),
    ],
)
def test_contradictions_are_refused(weights, budget, floors, caps, message):
    with pytest.raises(ValueError, match=message):
        water_fill(weights, budget, floors=floors, caps=caps)


@pytest.mark.parametrize("seed", range(20))
def test_tokens_come_when_the_level_reaches_them(seed):
    weights, _, _, caps = random_case(seed)
    tokens = [(frame, n) for frame, cap in enumerate(caps) for n in range(1, cap + 1)]

    def level(token):
        frame, n = token
        return (1, n) if weights[frame] == 0 else (0, n / weights[frame])

    order = sorted(tokens, key=lambda token: (level(token), token))
    places = filling_order([float(weight) for weight in weights], caps).tolist()
    assert places == [order.index(token) for token in tokens]


def test_the_first_tokens_handed_out_are_the_shares():
    weights, caps = [5.0, 3.0, 1.0, 0.0], [100, 40, 100, 7]
    places = filling_order(weights, caps).split(caps)
    for budget in (9, 90, 150, 240):
        shares = water_fill(weights, budget, floors=[0] * 4, caps=caps).tolist()
        given = [int((own < budget).sum()) for own in places]
        assert max(abs(a - b) for a, b in zip(shares, given, strict=True)) <= 1
