from typing import Any

import pytest
import torch
from torch import Tensor

from pruner.question_aware import question_aware


def draw(seed: int, length: int = 40, heads: int = 5) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    is_visual = torch.rand(length, generator=generator) < 0.8
    is_visual[:2] = torch.tensor([True, False])
    num_visual = int(is_visual.sum())
    return {
        "attention": torch.randn(heads, length, generator=generator).mul(3).softmax(dim=1),
        "is_visual": is_visual,
        "priority": torch.randperm(num_visual, generator=generator),
        "num_keep": num_visual // 3,
        "num_reserved": num_visual // 9,
    }


def slow_choice(
    attention: Tensor, is_visual: Tensor, priority: Tensor, num_keep: int, num_reserved: int
) -> list[int]:
    places = [place for place, visual in enumerate(is_visual.tolist()) if visual]
    order = dict(zip(places, priority.tolist(), strict=True))
    score = dict.fromkeys(places, 0.0)
    for row in attention.tolist():
        total = sum(row[place] for place in places)
        for place in places:
            score[place] = max(score[place], row[place] / total)
    kept = [place for place in places if order[place] < num_reserved]
    rest = sorted(set(places) - {*kept}, key=lambda place: (-score[place], order[place]))
    others = set(range(len(is_visual))) - {*places}
    return sorted([*others, *kept, *rest[: num_keep - num_reserved]])


@pytest.mark.parametrize("seed", range(10))
def test_the_choice_is_that_of_a_loop(seed: int) -> None:
    drawn = draw(seed)
    assert question_aware(**drawn).tolist() == slow_choice(**drawn)


def test_ties_go_by_priority() -> None:
    drawn = draw(0) | {"attention": torch.full((2, 40), 0.025), "num_reserved": 0}
    visual = drawn["is_visual"].nonzero().flatten()
    first = visual[drawn["priority"] < drawn["num_keep"]].tolist()
    assert set(first) < set(question_aware(**drawn).tolist()) == set(slow_choice(**drawn))


def test_the_reserve_stays_whatever_is_asked() -> None:
    drawn = draw(1)
    visual = drawn["is_visual"].nonzero().flatten()
    reserve = set(visual[drawn["priority"] < drawn["num_reserved"]].tolist())
    for seed in range(5):
        assert reserve <= set(
            question_aware(**drawn | {"attention": draw(seed)["attention"]}).tolist()
        )


def test_a_head_that_singles_a_token_out_is_not_outvoted() -> None:
    attention = torch.full((4, 10), 0.1)
    attention[0] = 0.001
    attention[0, 7] = 0.01  # most of what this head has for visual tokens
    drawn = {"is_visual": torch.ones(10, dtype=torch.bool), "priority": torch.arange(10)}
    assert question_aware(attention, **drawn, num_keep=1, num_reserved=0).tolist() == [7]


def test_all_and_nothing_can_be_kept() -> None:
    drawn = draw(2)
    whole = drawn | {"num_keep": int(drawn["is_visual"].sum())}
    assert question_aware(**whole).tolist() == list(range(40))
    none = question_aware(**drawn | {"num_keep": 0, "num_reserved": 0})
    assert torch.equal(none, (~drawn["is_visual"]).nonzero().flatten())


def test_heads_without_attention_for_the_clip_say_nothing() -> None:
    drawn = draw(3)
    expected = question_aware(**drawn)
    blind = torch.cat([torch.zeros(1, 40), drawn["attention"]])
    assert torch.equal(question_aware(**drawn | {"attention": blind}), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": torch.ones(40)}, "shapes do not fit"),
        ({"attention": torch.ones(2, 39)}, "shapes do not fit"),
        ({"attention": torch.full((2, 40), torch.nan)}, "the attention is not finite"),
        ({"priority": torch.arange(3)}, "a place for each visual token"),
        ({"num_keep": 41}, "no such numbers"),
        ({"num_reserved": -1}, "no such numbers"),
        ({"num_reserved": 20}, "no such numbers"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        question_aware(**draw(0) | changes)
