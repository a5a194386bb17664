import pytest
import torch

from pruner import FrameLayout, Settings, Task, make_nodes, propagate, rank
from pruner.gprune import gprune
from tests.pruner import golden

CASES = golden.load_all("gprune")
DEFINED = [
    case
    for case in CASES
    if case.info["selection_defined_low"] and case.info["selection_defined_high"]
]


def settings_of(case):
    return Settings(
        similarity=case.params["similarity"],
        temperature=case.params["temperature"],
        num_steps=case.params["iterate_num"],
    )


def choose(case):
    ratio = case.params["keep_ratio"]
    (kept,) = gprune(case.base, case.grid, keep_ratio=ratio, settings=settings_of(case))
    return kept


@pytest.mark.parametrize("case", DEFINED, ids=repr)
def test_the_published_choice(case):
    assert torch.equal(choose(case), case["keep"])


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_the_published_counts_where_the_choice_is_arbitrary(case):
    kept = choose(case)
    layout = FrameLayout(
        num_base=case.info["n_low"], rows=case.info["rows"], columns=case.info["cols"]
    )
    assert int((kept < layout.num_base).sum()) == case["k_low"]
    assert torch.isin(layout.newline_indices(), kept).all()
    assert len(kept) == case.info["n_keep"]


@pytest.mark.parametrize("case", DEFINED[:6], ids=repr)
def test_the_order_s_prefixes_are_the_best_of_each_resolution(case):
    task = Task(frame_indices=[0], settings=settings_of(case))
    (order,) = rank("gprune", case.base, case.grid, task).order
    num_base = case.info["n_low"]
    assert sorted(order.tolist()) == list(range(case.info["flat_len"]))
    (scores,), _ = propagate(make_nodes(case.base), settings=task.settings)
    kept = order[order < num_base]
    assert (scores[kept].diff() <= scores.max() * 1e-4).all()
    half = order[: len(order) // 2]
    base_part = float((half < num_base).float().mean())
    newlines = case.info["rows"]
    assert abs(base_part - num_base / (len(order) - newlines)) < (newlines + 1) / len(half)


@pytest.mark.parametrize("case", [case for case in DEFINED if case.params["iterate_num"] == 5])
def test_the_default_settings_are_the_published_ones(case):
    (kept,) = gprune(case.base, case.grid, keep_ratio=case.params["keep_ratio"])
    assert torch.equal(kept, case["keep"])


def test_a_fraction_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"\(0, 1\]: keep_ratio = 0"):
        gprune(torch.ones(1, 4, 3), torch.ones(1, 2, 2, 3), keep_ratio=0)
