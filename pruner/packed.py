"""MR-Pruner on one image's features as transformers packs them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pruner.mr_pruner import mr_pruner


def prune_packed(features: Tensor, *, newline: Tensor, num_base: int, **parameters: Any) -> Tensor:
    """Choose the tokens to keep of an image that ``get_image_features`` has packed.

    The grid's shape follows from where the newline embedding stands, so neither the image's size
    nor the checkpoint's pinpoints are needed.

    Args:
        features: (num_tokens, D) base tokens, then each grid row followed by its newline: an
            element of ``pooler_output`` of ``LlavaNextForConditionalGeneration``.
        newline: (D,) the model's ``image_newline``.
        num_base: tokens of the base tile, 576 for a 336 px tile of 14 px patches.
        **parameters: of :func:`mr_pruner`, such as ``keep_ratio`` and ``reference``.

    Returns:
        (num_keep,) int64 `keep_indices` into ``features``, ascending.

    Raises:
        ValueError: the newlines do not stand at the ends of equal rows behind the base tokens, or a
            parameter is out of range.

    Cost: as `rank_frames`.
    """
    is_newline = (features == newline.to(features)).all(dim=1)
    rows, rest = int(is_newline.sum()), len(features) - num_base
    ends = is_newline.nonzero()[:, 0] - num_base + 1
    if (
        rows == 0
        or rest % rows
        or ends.tolist() != list(range(rest // rows, rest + 1, rest // rows))
    ):
        num_tokens = len(features)
        raise ValueError(
            f"no grid of rows that end in newlines behind the base tokens: {num_tokens = }, "
            f"{num_base = }, {rows = }"
        )
    grid = features[num_base:].view(rows, rest // rows, -1)[:, :-1]
    return mr_pruner(features[None, :num_base], grid[None], **parameters)[0]
