"""From the features of a chunk's frames to their best tokens in keeping order."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pruner import Task, gather_tokens, rank, stand_ins
from workers.arrays import pack
from workers.frames import PictureChunk, Pruning, RankedFrames, TileChunk
from workers.vision.encoder import FrameFeatures


def rank_frames(
    chunk: TileChunk | PictureChunk,
    groups: Sequence[FrameFeatures],
    pruning: Pruning,
    *,
    dtype: str,
) -> RankedFrames:
    """Rank the frames of a chunk, which come in runs of one layout.

    Args:
        chunk: the frames.
        groups: their features, in the same order, a run of frames of one layout each.
        pruning: how to rank them, and how many of each frame's tokens to keep at the most.
        dtype: name of the features' dtype.
    """
    orders, kept, informativeness, layouts, counts, found = [], [], [], [], [], []
    first = 0
    for features in groups:
        frames = chunk.frame_indices[first : first + len(features)].tolist()
        first += len(features)
        task = Task(
            num_keep=min(pruning.num_keep, features.layout.num_tokens),
            frame_indices=frames,
            settings=pruning.settings,
            seed=pruning.seed,
            newlines_last=pruning.newlines_last,
        )
        ranking = rank(pruning.method, features.base, features.grid, task)
        order = ranking.order[:, : pruning.max_keep]  # (n, k)
        tokens = gather_tokens(features.base, features.grid, features.newline, order)
        orders.append(pack(order.flatten()))
        kept.append(pack(tokens.flatten(0, 1)))
        informativeness.append(pack(ranking.informativeness))
        if pruning.stand_ins:
            found += [pack(each) for each in _stand_ins(features, ranking.order)]
        layouts += [features.layout] * len(frames)
        counts += [order.shape[1]] * len(frames)
    return RankedFrames(
        clip_id=chunk.clip_id,
        frame_indices=chunk.frame_indices,
        pts_seconds=chunk.pts_seconds,
        layouts=tuple(layouts),
        counts=np.array(counts, np.int64),
        order=_join(orders),
        features=_join(kept),
        dtype=dtype,
        informativeness=_join(informativeness),
        stand_ins=_join(found) if found else None,
    )


def _stand_ins(features: FrameFeatures, order: Tensor) -> Iterator[Tensor]:
    """Yield the stand-ins (N,) of each frame; a copy of one frame's features at a time."""
    for row in range(len(order)):
        frame = slice(row, row + 1)
        base, grid = features.base[frame], features.grid[frame]
        yield stand_ins(gather_tokens(base, grid, features.newline, order[frame])[0])


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays along their first axis; one alone is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
