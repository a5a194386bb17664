"""What every method promises, on frames that hypothesis draws."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruner import METHODS, FrameLayout, Settings, Task, choose, gather_tokens, rank

RANKED = [name for name, method in METHODS.items() if method.scope == "frame"]
CHOSEN = [name for name, method in METHODS.items() if method.scope in ("share", "clip")]
DIM = 4
# Without a deadline, since machines differ, and the same cases on all of them.
examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    layout: FrameLayout
    base: Tensor
    grid: Tensor
    newline: Tensor
    task: Task

    @property
    def num_frames(self) -> int:
        return len(self.base)


@st.composite
def clips(draw: st.DrawFn) -> Drawn:
    """Small clips of whole numbers, so that tokens repeat, tie and vanish."""
    layout = FrameLayout(
        num_base=draw(st.integers(1, 5)) ** 2,
        rows=draw(st.integers(0, 5)),
        columns=draw(st.integers(1, 6)),
    )
    num_frames = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    spread = draw(st.integers(0, 3))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))

    def tokens(*shape: int) -> Tensor:
        return torch.randint(-spread, spread + 1, (*shape, DIM), generator=generator).to(dtype)

    return Drawn(
        layout=layout,
        base=tokens(num_frames, layout.num_base),
        grid=tokens(num_frames, layout.rows, layout.columns),
        newline=tokens(),
        task=Task(
            frame_indices=draw(
                st.lists(st.integers(0, 999), min_size=num_frames, max_size=num_frames)
            ),
            num_keep=draw(st.integers(0, layout.num_tokens)),
            settings=Settings(num_steps=draw(st.integers(0, 3))),
            seed=draw(st.integers(0, 2**31)),
            newlines_last=draw(st.booleans()),
        ),
    )


def follows_the_newline_rule(order: Tensor, layout: FrameLayout, newlines_last: bool) -> bool:
    """Newlines stand behind the first token of their row, or all of them at the end."""
    is_newline, rows = layout.is_newline(order).tolist(), layout.row_of(order).tolist()
    if newlines_last:
        return is_newline == sorted(is_newline)
    return all(is_newline[rows.index(row) + 1] for row in range(layout.rows))


@pytest.mark.parametrize("name", RANKED)
@given(clip=clips())
@examples
def test_a_ranking_is_a_permutation_that_places_newlines_by_the_rule(
    name: str, clip: Drawn
) -> None:
    order = rank(name, clip.base, clip.grid, clip.task).order
    everything = torch.arange(clip.layout.num_tokens).expand(clip.num_frames, -1)
    assert torch.equal(order.sort(dim=1).values, everything)
    for frame in order:
        assert follows_the_newline_rule(frame, clip.layout, clip.task.newlines_last)


@pytest.mark.parametrize("name", RANKED)
@given(clip=clips(), data=st.data())
@examples
def test_shares_nest_and_every_frame_stands_for_itself(
    name: str, clip: Drawn, data: st.DataObject
) -> None:
    order = rank(name, clip.base, clip.grid, clip.task).order
    few, many = sorted(data.draw(st.integers(0, clip.layout.num_tokens)) for _ in range(2))
    for number in range(clip.num_frames):
        own = slice(number, number + 1)
        task = Task(
            frame_indices=clip.task.frame_indices[own],
            num_keep=clip.task.num_keep,
            settings=clip.task.settings,
            seed=clip.task.seed,
            newlines_last=clip.task.newlines_last,
        )
        alone = rank(name, clip.base[own], clip.grid[own], task).order[0]
        kept = [set(alone[:few].tolist()), set(order[number, :many].tolist())]
        assert [len(tokens) for tokens in kept] == [few, many]
        assert kept[0] <= kept[1]


@pytest.mark.parametrize("name", CHOSEN)
@given(clip=clips(), data=st.data())
@examples
def test_a_choice_spends_the_budget_exactly_in_source_order(
    name: str, clip: Drawn, data: st.DataObject
) -> None:
    share = st.integers(1, clip.layout.num_tokens)
    shares = data.draw(st.lists(share, min_size=clip.num_frames, max_size=clip.num_frames))
    chosen = choose(name, clip.base, clip.grid, clip.newline, shares)
    assert len(chosen) == clip.num_frames
    assert sum(len(kept) for _, kept in chosen) == sum(shares)
    for features, kept in chosen:
        assert kept.dtype == torch.int64
        assert (kept.diff() > 0).all()
        assert ((kept >= 0) & (kept < clip.layout.num_tokens)).all()
        assert features is None or features.shape == (len(kept), DIM)


@pytest.mark.parametrize("name", CHOSEN)
@given(clip=clips())
@examples
def test_a_choice_of_everything_changes_nothing(name: str, clip: Drawn) -> None:
    everything = torch.arange(clip.layout.num_tokens).expand(clip.num_frames, -1)
    tokens = gather_tokens(clip.base, clip.grid, clip.newline, everything)
    shares = [clip.layout.num_tokens] * clip.num_frames
    chosen = choose(name, clip.base, clip.grid, clip.newline, shares)
    for frame, (features, kept) in zip(tokens, chosen, strict=True):
        assert torch.equal(kept, everything[0])
        assert features is None or torch.equal(features, frame)
