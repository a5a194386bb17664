"""Whether a row of a matrix product depends on how many rows there are, found by trying."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import linear

_MOST_ROWS = 64
_FEWER_ROWS = (1, 2, 3, 8, 33)


def rows_are_alike(model: nn.Module, most_last: int) -> bool:
    """Return whether a row comes out of every linear layer the same, bit for bit, in any company.

    MKL's float32 products do in its strict reproducible mode (measured on Intel up to 11,008
    columns); those in bfloat16, and on a GPU, are alike with a fixed number of rows only, and are
    not tried. One layer of each shape is, on up to 64 rows.

    Args:
        model: a causal language model; its last linear layer gets a row for each text only.
        most_last: rows that the last one gets at most.
    """
    last = {weight.shape: min(most_last, _MOST_ROWS) for weight in _weights(model, "lm_head")}
    weights = {weight.shape: weight for weight in _weights(model)}
    return all(_is_alike(each, last.get(shape, _MOST_ROWS)) for shape, each in weights.items())


def _weights(model: nn.Module, end: str = "") -> Iterator[torch.Tensor]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(end):
            yield module.weight


@torch.inference_mode()
def _is_alike(weight: torch.Tensor, num_rows: int) -> bool:
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    rows = torch.randn(num_rows, weight.shape[1], generator=torch.Generator().manual_seed(0))
    together = linear(rows, weight)
    fewer = [number for number in _FEWER_ROWS if number < num_rows]
    return all(torch.equal(linear(rows[:number], weight), together[:number]) for number in fewer)
