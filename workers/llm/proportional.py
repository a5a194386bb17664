"""Proportional attention: a token weighs as many as it stands for."""

import torch

from pruner import token_sizes
from workers.arrays import unpack
from workers.visual import VisualSequence


def _log_sizes(sizes: torch.Tensor, is_visual: torch.Tensor, context: int) -> torch.Tensor | None:
    """Return what is added to the logits of keys (length,), float32: 0 for text.

    Together they weigh no more than the model has context for, as it knows no prompt in which text
    is a smaller part: where they stand for more, all weigh less by one factor.

    Args:
        sizes: (visual tokens,) int64, how many each stands for.
        is_visual: (length,) bool.
        context: positions that the model was made for.

    Returns:
        None where each weighs as one.
    """
    total = int(sizes.sum())
    if total == len(sizes):
        return None
    bias = torch.zeros(len(is_visual), device=sizes.device)
    bias[is_visual] = (sizes.double() * min(1.0, context / total)).log().float()
    return bias


class SizedTokens:
    """The visual tokens of a clip, of which some are chosen for each question.

    Args:
        visual: with sizes.
        is_visual: (length,) bool, on the device where they are worked on.
        context: positions that the model was made for.

    Memory: the features once.
    """

    def __init__(self, visual: VisualSequence, is_visual: torch.Tensor, context: int) -> None:
        device = is_visual.device
        self._features = unpack(visual.features, visual.dtype).to(device)
        self._sizes = torch.tensor(visual.sizes, device=device)
        self._times = torch.from_numpy(visual.times).to(device)
        self._is_visual, self._places = is_visual, is_visual.cumsum(0) - 1
        self._context = context

    def log_sizes(self, kept: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return what is added to the logits of all tokens, or of the kept ones (k,), if anything.

        Visual tokens that are not kept count for kept ones: see :func:`pruner.token_sizes`.
        """
        if kept is None:
            return _log_sizes(self._sizes, self._is_visual, self._context)
        is_visual = self._is_visual[kept]
        places = self._places[kept[is_visual]]
        sizes = token_sizes(self._features, self._times, places, self._sizes)
        return _log_sizes(sizes, is_visual, self._context)
