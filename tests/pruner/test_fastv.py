import pytest
import torch
from torch import Tensor

from pruner.fastv import fastv
from tests.pruner import golden

CASES = golden.load_all("fastv_o")


def span(length: int, start: int, num_visual: int) -> Tensor:
    places = torch.arange(length)
    return (places >= start) & (places < start + num_visual)


def choose(case: golden.Case) -> Tensor:
    row = case["attn"][0, :, -1]
    is_visual = span(row.shape[1], case.params["start"], case.params["length"])
    return fastv(row, is_visual=is_visual, num_keep=int(case["k"]))


def slow_choice(attention: Tensor, is_visual: Tensor, num_keep: int) -> list[int]:
    """The same in plain numbers, token by token."""
    rows = attention.double().tolist()
    scores = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    visual = [place for place, flag in enumerate(is_visual.tolist()) if flag]
    best = sorted(visual, key=lambda place: (-scores[place], place))[:num_keep]
    return sorted({*best, *range(len(scores))} - ({*visual} - {*best}))


def random_rows(seed: int, length: int = 90, heads: int = 4) -> tuple[Tensor, Tensor]:
    """A row for each head, and a mask with gaps in it."""
    generator = torch.Generator().manual_seed(seed)
    attention = (3 * torch.randn(heads, length, generator=generator)).softmax(dim=1)
    return attention, torch.rand(length, generator=generator) < 0.7


def test_all_golden_cases_are_here() -> None:
    assert len(CASES) == 13


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.info["selection_defined"]], ids=repr
)
def test_the_choice_is_the_published_one(case: golden.Case) -> None:
    assert torch.equal(choose(case), case["keep"])
    assert torch.equal(choose(case), case["position_ids"][0])


def test_the_first_of_equals_are_kept() -> None:
    case = golden.load("fastv_o13_uniform_ties")
    dropped = set(range(80)) - set(choose(case).tolist())
    assert dropped == set(range(5 + 32, 5 + 64))
    assert len(choose(case)) == len(case["keep"])


@pytest.mark.parametrize("num_keep", [0, 1, 17, 40])
@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_that_of_plain_loops(seed: int, num_keep: int) -> None:
    attention, is_visual = random_rows(seed)
    kept = fastv(attention, is_visual=is_visual, num_keep=num_keep)
    assert kept.tolist() == slow_choice(attention, is_visual, num_keep)
    assert kept.dtype == torch.int64
    assert (kept.diff() > 0).all()


def test_keeping_all_keeps_everything_and_keeping_none_all_others() -> None:
    attention, is_visual = random_rows(5)
    every = fastv(attention, is_visual=is_visual, num_keep=int(is_visual.sum()))
    assert torch.equal(every, torch.arange(90))
    none = fastv(attention, is_visual=is_visual, num_keep=0)
    assert torch.equal(none, (~is_visual).nonzero().flatten())


def test_a_larger_count_keeps_what_a_smaller_one_keeps() -> None:
    attention, is_visual = random_rows(6)
    few, many = (fastv(attention, is_visual=is_visual, num_keep=n).tolist() for n in (9, 30))
    assert set(few) < set(many)


def test_permuted_tokens_are_chosen_permuted() -> None:
    attention, is_visual = random_rows(7)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    kept = fastv(attention, is_visual=is_visual, num_keep=20)
    moved = fastv(attention[:, order], is_visual=is_visual[order], num_keep=20)
    assert torch.equal(order[moved].sort().values, kept)


def test_the_attention_of_text_and_the_order_of_heads_do_not_matter() -> None:
    attention, is_visual = random_rows(8)
    kept = fastv(attention, is_visual=is_visual, num_keep=20)
    other = torch.where(is_visual, attention, torch.rand(4, 90)).flip(0)
    assert torch.equal(fastv(other, is_visual=is_visual, num_keep=20), kept)


def test_the_input_is_left_alone() -> None:
    attention, is_visual = random_rows(9)
    before = attention.clone(), is_visual.clone()
    fastv(attention, is_visual=is_visual, num_keep=20)
    assert torch.equal(attention, before[0])
    assert torch.equal(is_visual, before[1])


def test_half_precision_is_averaged_in_single_precision() -> None:
    attention, is_visual = random_rows(10)
    half = attention.to(torch.bfloat16)
    kept = fastv(half, is_visual=is_visual, num_keep=20)
    assert torch.equal(kept, fastv(half.float(), is_visual=is_visual, num_keep=20))


@pytest.mark.parametrize(
    ("attention", "is_visual", "num_keep", "message"),
    [
        (torch.ones(9), torch.ones(9, dtype=torch.bool), 1, r"attention.shape = torch.Size\(\[9\]"),
        (torch.ones(2, 9), torch.ones(8, dtype=torch.bool), 1, r"is_visual.shape = .*\[8\]"),
        (torch.ones(2, 9), torch.ones(9), 1, "a mask is bool: .*float32"),
        (torch.ones(2, 9), torch.ones(9, dtype=torch.bool), 10, "num_keep = 10, .* = 9"),
        (torch.ones(2, 9), torch.ones(9, dtype=torch.bool), -1, "num_keep = -1"),
        (torch.full((2, 9), torch.nan), torch.ones(9, dtype=torch.bool), 1, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(
    attention: Tensor, is_visual: Tensor, num_keep: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fastv(attention, is_visual=is_visual, num_keep=num_keep)
