from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from pruner import runs as module
from pruner.question_aware import question_aware
from pruner.rounding import significant_bits
from pruner.runs import Run, cut_runs, make_run
from tests.pruner.loop_reference import snapped
from tests.pruner.test_standing import stands

COUNTS = (9, 3, 12, 8)
DIM = 5


def draw(seed: int, heads: int = 5) -> dict[str, Any]:
    """Clustered tokens of four frames, some twice and some zero, with text between them."""
    generator = torch.Generator().manual_seed(seed)
    num_visual = sum(COUNTS)
    centres = torch.randn(6, DIM, generator=generator)
    spread = 0.4 * torch.randint(0, 2, (num_visual, 1), generator=generator)
    cluster = torch.randint(6, (num_visual,), generator=generator)
    features = centres[cluster] + spread * torch.randn(num_visual, DIM, generator=generator)
    features[torch.rand(num_visual, generator=generator) < 0.05] = 0
    is_visual = torch.ones(num_visual + 8, dtype=torch.bool)
    is_visual[torch.randperm(num_visual + 8, generator=generator)[:8]] = False
    return {
        "attention": torch.randn(heads, len(is_visual), generator=generator).mul(2).softmax(dim=1),
        "is_visual": is_visual,
        "features": features,
        "priority": torch.randperm(num_visual, generator=generator),
        "num_keep": 11,
        "reserve": 0.5,
    }


TIMES = torch.arange(len(COUNTS)).repeat_interleave(tensor(COUNTS))


def runs_of(features: Tensor, counts: tuple[int, ...] = COUNTS) -> list[Run]:
    times = torch.arange(len(counts)).repeat_interleave(tensor(counts))
    return [make_run(features, times, places) for places in cut_runs(counts)]


def choose(features: Tensor, **drawn: Any) -> list[int]:
    return question_aware(runs=runs_of(features), **drawn).tolist()


def slow_choice(
    attention: Tensor,
    is_visual: Tensor,
    features: Tensor,
    priority: Tensor,
    num_keep: int,
    reserve: float,
    frames: Tensor = TIMES,
    runs: tuple[range, ...] | None = None,
) -> list[int]:
    """Greedily, every gain counted anew for every token taken."""
    visual = [place for place, own in enumerate(is_visual.tolist()) if own]
    largest = [0.0] * len(visual)
    for row in attention.tolist():
        total = sum(row[place] for place in visual)
        largest = [max(a, row[p] / total) for a, p in zip(largest, visual, strict=True)]
    tokens, times = features.double().tolist(), frames.tolist()
    places = range(len(tokens))
    together = [
        [any(i in run and j in run for run in runs or [places]) for j in places] for i in places
    ]
    table = [
        [together[i][j] * stands(tokens[i], tokens[j], abs(times[i] - times[j])) for j in places]
        for i in places
    ]
    shares = [1 / max(sum(row), 1.0) for row in table]
    weights = [
        snapped(reserve * share + (1 - reserve) * sum(shares) * own / sum(largest))
        for share, own in zip(shares, largest, strict=True)
    ]
    prior = [snapped(0.03 * (1 - place / len(tokens))) for place in priority.tolist()]
    covered, chosen = [0.0] * len(tokens), list[int]()
    while len(chosen) < num_keep:
        gains = [
            prior[j]
            + sum(
                w * max(0.0, row[j] - c) for w, row, c in zip(weights, table, covered, strict=True)
            )
            for j in places
        ]
        keys = significant_bits(tensor(gains)).tolist()
        chosen.append(max(set(places) - {*chosen}, key=lambda j: (keys[j], -j)))
        covered = [max(c, row[chosen[-1]]) for c, row in zip(covered, table, strict=True)]
    others = set(range(len(is_visual))) - {*visual}
    return sorted([*others, *(visual[place] for place in chosen)])


@pytest.mark.parametrize("reserve", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_a_loop(seed: int, reserve: float) -> None:
    drawn = draw(seed) | {"reserve": reserve}
    assert choose(**drawn) == slow_choice(**drawn)


@pytest.mark.parametrize("most", [1, 12, 24])
def test_long_clips_are_chosen_from_run_by_run(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TOGETHER", most)
    counts = {1: [9, 3, 12, 8], 12: [12, 12, 8], 24: [24, 8]}[most]
    ends = list(accumulate(counts))
    parts = tuple(range(end - n, end) for n, end in zip(counts, ends, strict=True))
    drawn = draw(7)
    assert choose(**drawn) == slow_choice(**drawn, runs=parts)


def test_with_all_of_the_reserve_no_question_makes_a_difference() -> None:
    drawn = draw(1) | {"reserve": 1.0}
    expected = choose(**drawn)
    for seed in range(3):
        assert choose(**drawn | {"attention": draw(seed)["attention"]}) == expected


def test_what_is_looked_at_is_kept_once_and_then_the_rest() -> None:
    axes = torch.eye(DIM)
    features = torch.cat([axes[:1].expand(9, -1), axes[1:4], axes[4:].expand(20, -1)])
    attention = torch.full((2, 32), 0.001)
    attention[0, 3:9] = 0.15  # six tokens of one thing
    attention[1, 10] = 0.9
    drawn = {"attention": attention, "is_visual": torch.ones(32, dtype=torch.bool)}
    drawn |= {"reserve": 0.2, "priority": torch.arange(32)}
    assert choose(features, **drawn, num_keep=2) == [0, 10]
    assert choose(features, **drawn, num_keep=5) == [0, 9, 10, 11, 12]


def test_what_is_alike_is_kept_by_priority() -> None:
    features = torch.eye(DIM)[[0] * 9 + [1] * 3 + [2] * 20]
    drawn: dict[str, Any] = {
        "attention": torch.full((1, 32), 1 / 32),
        "is_visual": torch.ones(32, dtype=torch.bool),
        "priority": torch.arange(31, -1, -1),
        "reserve": 1.0,
    }
    # the last thing is in two frames, and one of a frame stands less for those of another
    assert choose(features, **drawn, num_keep=5) == [8, 11, 23, 30, 31]


def test_a_head_that_singles_a_token_out_is_not_outvoted() -> None:
    attention = torch.full((4, 10), 0.1)
    attention[0] = 0.001
    attention[0, 7] = 0.01  # most of what this head has for visual tokens
    run = make_run(torch.eye(10), torch.zeros(10), slice(0, 10))
    drawn: dict[str, Any] = {"is_visual": torch.ones(10, dtype=torch.bool), "runs": [run]}
    drawn["priority"] = torch.arange(10)
    assert question_aware(attention, **drawn, num_keep=1, reserve=0.0).tolist() == [7]


def test_all_and_nothing_can_be_kept() -> None:
    drawn = draw(2)
    assert choose(**drawn | {"num_keep": sum(COUNTS)}) == list(range(len(drawn["is_visual"])))
    none = choose(**drawn | {"num_keep": 0})
    assert none == (~drawn["is_visual"]).nonzero().flatten().tolist()


def test_heads_without_attention_for_the_clip_say_nothing() -> None:
    drawn = draw(3)
    blind = torch.zeros(1, len(drawn["is_visual"]))
    wider = drawn | {"attention": torch.cat([blind, drawn["attention"]])}
    assert choose(**wider) == choose(**drawn)
    assert len(choose(**drawn | {"attention": blind})) == 8 + 11


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": torch.ones(40)}, "shapes do not fit"),
        ({"attention": torch.ones(2, 39)}, "shapes do not fit"),
        ({"attention": torch.full((2, 40), torch.nan)}, "the attention is not finite"),
        ({"runs": runs_of(torch.ones(31, DIM), (9, 22))}, "runs of all visual tokens"),
        ({"runs": []}, "runs of all visual tokens"),
        ({"priority": torch.arange(3)}, "a place for each visual token"),
        ({"num_keep": 33}, "no such numbers"),
        ({"num_keep": -1}, "no such numbers"),
        ({"reserve": 1.1}, "no such numbers"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    drawn = draw(0)
    drawn["runs"] = runs_of(drawn.pop("features"))
    with pytest.raises(ValueError, match=message):
        question_aware(**drawn | changes)
