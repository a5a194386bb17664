"""From what frames keep to the sequence that the language model is shown."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from workers.arrays import Int64Array, pack
from workers.visual import KeptFrame, VisualSequence


def join_frames(
    features: Sequence[torch.Tensor],
    frames: Sequence[KeptFrame],
    *,
    dtype: str,
    compact_positions: bool,
    later: Mapping[str, Any],
    sizes: Int64Array | None = None,
) -> VisualSequence:
    """Return the sequence of those frames that keep any token.

    Args:
        features: (k, hidden) of what each frame keeps.
        frames: the record of each.
        dtype: of the features.
        compact_positions: see :class:`VisualSequence`.
        later: fields of it that tell how it is pruned inside the language model, if it is.
        sizes: of all tokens, if they have any.
    """
    shown = [frame for frame in frames if len(frame.keep_indices)]
    content: dict[str, Any] = {
        "features": pack(torch.cat(list(features))),
        "keep_indices": np.concatenate([frame.keep_indices for frame in shown]),
        "counts": _each(len(frame.keep_indices) for frame in shown),
        "frame_indices": _each(frame.frame_index for frame in shown),
        "frame_lengths": _each(frame.layout.num_tokens for frame in shown),
        "gaps": _each(frame.gap for frame in shown),
        "num_timestamp_tokens": _each(frame.num_timestamp_tokens for frame in shown),
        "compact_positions": compact_positions,
        **later,
    }
    if sizes is not None:
        content["sizes"] = sizes
    return VisualSequence(visual_id=_digest(content), dtype=dtype, **content)


def _each(numbers: Iterable[int]) -> Int64Array:
    return np.fromiter(numbers, np.int64)


def _digest(content: Mapping[str, Any]) -> str:
    """Return 32 hexadecimal digits that tell sequences of other content apart."""
    digest = hashlib.blake2b()
    for name, value in content.items():
        is_array = isinstance(value, np.ndarray)
        digest.update(repr((name, (value.shape, value.dtype) if is_array else value)).encode())
        digest.update(np.ascontiguousarray(value).data if is_array else b"")
    return digest.hexdigest()[:32]
