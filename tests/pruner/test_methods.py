import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pruner import METHODS, FrameLayout, Settings, Task, choose, newlines_last, rank
from pruner.evs import evs
from pruner.flashvid import flashvid
from pruner.floc import floc
from pruner.tome import tome
from pruner.vcast import vcast
from pruner.vidcom2 import vidcom2

LAYOUT = FrameLayout(num_base=16, rows=4, columns=5)
NUM_FRAMES, DIM = 3, 12
TASK = Task(frame_indices=range(NUM_FRAMES), num_keep=10)
RANKED = [name for name, method in METHODS.items() if method.scope == "frame"]
CHOSEN = [name for name, method in METHODS.items() if method.scope in ("share", "clip")]
OTHERS = [name for name, method in METHODS.items() if not method.ranks]


@pytest.fixture
def frames() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, DIM, generator=generator)

    def tokens(*shape: int) -> Tensor:
        cluster = torch.randint(6, shape, generator=generator)
        return centres[cluster] + 0.5 * torch.randn(*shape, DIM, generator=generator)

    return tokens(NUM_FRAMES, LAYOUT.num_base), tokens(NUM_FRAMES, LAYOUT.rows, LAYOUT.columns)


def test_the_table_needs_no_torch() -> None:
    code = (
        "import sys, pruner.methods, pruner.layout, pruner.settings; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"


def test_every_method_stands_under_its_name_and_says_what_it_is() -> None:
    assert [method.name for method in METHODS.values()] == list(METHODS)
    assert all(method.summary for method in METHODS.values())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_every_function_can_be_loaded(name: str) -> None:
    assert callable(METHODS[name].load())


def test_no_method_has_no_function() -> None:
    with pytest.raises(ValueError, match="none chooses nothing"):
        METHODS["none"].load()


def test_all_tokens_enter_the_model_where_it_chooses_or_nothing_does() -> None:
    assert [name for name, method in METHODS.items() if method.enters_unpruned] == ["none", "fastv"]


@pytest.mark.parametrize("name", [*RANKED, "coverage"])
def test_the_facts_of_a_ranking_are_true(name: str, frames: tuple[Tensor, Tensor]) -> None:
    method, order = METHODS[name], rank(name, *frames, TASK).order
    other_share = rank(name, *frames, replace(TASK, num_keep=38)).order
    other_seed = rank(name, *frames, replace(TASK, seed=1)).order
    assert torch.equal(order, other_share) is not method.needs_share
    assert torch.equal(order, other_seed) is not method.is_random


@pytest.mark.parametrize("name", ["gprune", "mr_pruner", "coverage"])
def test_the_graph_s_settings_decide(name: str, frames: tuple[Tensor, Tensor]) -> None:
    orders = [
        rank(name, *frames, replace(TASK, settings=Settings(num_steps=steps))).order
        for steps in (METHODS[name].num_steps, 0)
    ]
    assert not torch.equal(*orders)


def test_default_steps_are_the_published_ones() -> None:
    assert {name: METHODS[name].num_steps for name in ("gprune", "mr_pruner")} == {
        "gprune": 5,
        "mr_pruner": 1,
    }


@pytest.mark.parametrize("newlines", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_methods_that_choose_later_rank_nothing(
    name: str, newlines: bool, frames: tuple[Tensor, Tensor]
) -> None:
    order = rank(name, *frames, replace(TASK, newlines_last=newlines)).order
    assert torch.equal(order, torch.arange(LAYOUT.num_tokens).expand(NUM_FRAMES, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_informativeness_is_the_mean_norm_whatever_the_method(
    name: str, dtype: torch.dtype, frames: tuple[Tensor, Tensor]
) -> None:
    base, grid = (tokens.to(dtype) for tokens in frames)
    informativeness = rank(name, base, grid, TASK).informativeness
    norms = [tokens.double().flatten(1, -2).norm(dim=2).mean(dim=1) for tokens in (base, grid)]
    torch.testing.assert_close(informativeness, torch.stack(norms, dim=1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", RANKED)
def test_newlines_may_go_last(name: str, frames: tuple[Tensor, Tensor]) -> None:
    order = rank(name, *frames, TASK).order
    moved = rank(name, *frames, replace(TASK, newlines_last=True)).order
    assert torch.equal(moved, newlines_last(order, LAYOUT))


def test_the_table_s_functions_choose(frames: tuple[Tensor, Tensor]) -> None:
    newline, shares = torch.ones(DIM), [7, 12, 31]
    for name, merge in (("tome", tome), ("flashvid", flashvid)):
        merged = choose(name, *frames, newline, shares)
        for one, two in zip(merged, merge(*frames, newline, shares), strict=True):
            assert all(map(torch.equal, one, two))
    for name, function in (("evs", evs), ("vidcom2", vidcom2), ("vcast", vcast), ("floc", floc)):
        chosen = choose(name, *frames, newline, shares)
        assert [features for features, _ in chosen] == [None] * NUM_FRAMES
        expected = function(*frames, sum(shares))
        assert all(map(torch.equal, [kept for _, kept in chosen], expected))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in CHOSEN])
def test_other_methods_do_not_choose_in_a_clip(name: str, frames: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=f"{name} does not choose among the tokens of a clip"):
        choose(name, *frames, torch.ones(DIM), [1, 1, 1])


@pytest.mark.parametrize("shares", [[1, 1], [1, 1, 41], [1, -1, 1]])
@pytest.mark.parametrize("name", CHOSEN)
def test_shares_that_do_not_fit_are_refused(
    name: str, shares: list[int], frames: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(ValueError, match="a share per frame, up to num_tokens = 40"):
        choose(name, *frames, torch.ones(DIM), shares)


def test_an_unknown_name_is_refused(frames: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(KeyError, match="magic"):
        rank("magic", *frames, TASK)
    with pytest.raises(KeyError, match="magic"):
        choose("magic", *frames, torch.ones(DIM), [1, 1, 1])
