"""MR-Pruner on one image's features as transformers packs them."""

from __future__ import annotations

from torch import Tensor

from pruner.mr_pruner import mr_pruner
from pruner.settings import PUBLISHED, Settings


def prune_packed(
    features: Tensor,
    *,
    newline: Tensor,
    num_base: int,
    keep_ratio: float = 0.1,
    num_keep: int | None = None,
    settings: Settings = PUBLISHED,
    reference: bool = False,
) -> Tensor:
    """Choose the tokens to keep of an image that ``get_image_features`` has packed.

    The grid's shape follows from where the newline embedding stands, so neither the image's size
    nor the checkpoint's pinpoints are needed.

    Args:
        features: (num_tokens, D) base tokens, then each grid row followed by its newline: an
            element of ``pooler_output`` of ``LlavaNextForConditionalGeneration``.
        newline: (D,) the model's ``image_newline``.
        num_base: tokens of the base tile, 576 for a 336 px tile of 14 px patches.
        keep_ratio: fraction kept, newlines included, in (0, 1].
        num_keep: number kept instead of ``keep_ratio``.
        settings: parameters of the scores.
        reference: the published computation to the letter, see :func:`mr_pruner`.

    Returns:
        (num_keep,) int64 `keep_indices` into ``features``, ascending.

    Raises:
        ValueError: the newlines do not stand at the ends of equal rows behind the base tokens, or a
            parameter is out of range.

    Cost: as `rank_mr_pruner`.
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
    (kept,) = mr_pruner(
        features[None, :num_base],
        grid[None],
        keep_ratio=keep_ratio,
        num_keep=num_keep,
        settings=settings,
        reference=reference,
    )
    return kept
