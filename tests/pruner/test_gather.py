import pytest
import torch
from torch import Tensor

from pruner import FrameLayout, gather_tokens, random_order

LAYOUTS = [
    FrameLayout(num_base=9, rows=4, columns=5),
    FrameLayout(num_base=1, rows=1, columns=1),
    FrameLayout(num_base=6, rows=0, columns=0),
    FrameLayout(num_base=6, rows=0, columns=3),
]
DIM, NUM_FRAMES = 7, 3


def frames(layout: FrameLayout, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (NUM_FRAMES, layout.num_base), (NUM_FRAMES, layout.rows, layout.columns)
    base, grid = (torch.randn(*shape, DIM, generator=generator).to(dtype) for shape in shapes)
    return base, grid, torch.arange(DIM).to(dtype)


def flatten(base: Tensor, grid: Tensor, newline: Tensor) -> Tensor:
    ends = newline.expand(*grid.shape[:2], 1, DIM)
    return torch.cat((base, torch.cat((grid, ends), dim=2).flatten(1, 2)), dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_prefix_is_that_of_the_flat_frame(layout: FrameLayout, dtype: torch.dtype) -> None:
    tokens = frames(layout, dtype)
    order = random_order(layout, range(NUM_FRAMES), 0)
    expected = torch.take_along_dim(flatten(*tokens), order[..., None], dim=1)
    for share in range(layout.num_tokens + 1):
        gathered = gather_tokens(*tokens, order[:, :share])
        assert gathered.dtype == dtype
        assert torch.equal(gathered, expected[:, :share])


def test_tokens_may_be_views_and_may_be_gathered_twice() -> None:
    layout = LAYOUTS[0]
    base, grid, newline = frames(layout, torch.float32)
    flat = flatten(base, grid, newline)
    lines = flat[:, layout.num_base :].unflatten(1, (layout.rows, layout.columns + 1))
    order = torch.tensor([[0, 0, 14, 14, 10]] * NUM_FRAMES)
    gathered = gather_tokens(flat[:, : layout.num_base], lines[:, :, :-1], newline, order)
    assert torch.equal(gathered, flat[:, [0, 0, 14, 14, 10]])


def test_no_frames_give_no_tokens() -> None:
    base, grid, newline = frames(LAYOUTS[0], torch.float32)
    order = torch.empty(0, 4, dtype=torch.int64)
    assert gather_tokens(base[:0], grid[:0], newline, order).shape == (0, 4, DIM)


def test_the_input_is_left_alone() -> None:
    tokens = frames(LAYOUTS[0], torch.float32)
    before = [one.clone() for one in tokens]
    gather_tokens(*tokens, random_order(LAYOUTS[0], range(NUM_FRAMES), 0)).zero_()
    assert all(map(torch.equal, tokens, before))


@pytest.mark.parametrize(
    ("newline", "order", "message"),
    [
        (torch.ones(DIM + 1), torch.zeros(3, 2).long(), r"shape = \(8,\), expected = \(7,\)"),
        (torch.ones(DIM), torch.zeros(2, 2).long(), "num_frames = 3"),
        (torch.ones(DIM), torch.zeros(3).long(), "a row of indices for each frame"),
        (torch.ones(DIM), torch.full((3, 1), 33), "num_tokens = 33"),
        (torch.ones(DIM), torch.full((3, 1), -1), "num_tokens = 33"),
    ],
)
def test_what_does_not_fit_is_refused(newline: Tensor, order: Tensor, message: str) -> None:
    base, grid, _ = frames(LAYOUTS[0], torch.float32)
    with pytest.raises(ValueError, match=message):
        gather_tokens(base, grid, newline, order)
