"""What the language model is shown of a clip."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualSequence:
    """The bounded visual sequence of one clip.

    ``features[i]`` (k_i, hidden) are frame i's kept tokens in source order, ``keep_indices[i]``
    (k_i,) their flat indices among the frame's ``frame_length`` unpruned ones, ``marks[i]`` the
    text before it; for ``compact_positions`` see :func:`workers.llm.prompt.join_positions`.
    ``fastv_keep`` visual tokens of the whole clip (at most: all of them) go on after the language
    model's layer ``fastv_layer``, chosen anew for each question; all do if None.
    """

    features: tuple[torch.Tensor, ...]
    keep_indices: tuple[torch.Tensor, ...]
    marks: tuple[str, ...]
    frame_length: int
    compact_positions: bool = True
    fastv_keep: int | None = None
    fastv_layer: int = 2
