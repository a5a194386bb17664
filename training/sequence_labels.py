"""What the frames so far tell about every token: labels for the language model's lower half."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.draw import FIRST_ID
from training.glyphs import DIGITS
from training.labels import IGNORE, Int64Array, label_tokens
from training.scene import Clip

SEEN = ("item", "motion", "number_rank", "character", "x", "y")
NUM_RANKS = 4
SIGNS = (*DIGITS, ".")
NO_SIGN = len(SIGNS)
"""Behind a timestamp that is shorter than others."""
STAMP_SIGNS = len(SIGNS) + 1
STAMP_LENGTH = 5
"""Characters of a timestamp up to 999.9 seconds; a shorter one ends in nothing."""


def sequence_labels(clip: Clip, moments: Sequence[float]) -> dict[str, Int64Array]:
    """Return what the frames so far tell about each token: class numbers (frames, 5, 64).

    ``item``: what it shows, as in ``label_tokens``, plates in tiles only. ``motion``: the way its
    shape moves, from the second frame of a shot on. ``number_rank``: where a tile shows a number,
    how many other numbers came earlier. ``character``: of a tile's plate. ``x``, ``y``: where in
    the frame its shape is. ``IGNORE`` where the frames so far cannot tell.
    """
    rows: dict[str, list[Int64Array]] = {name: [] for name in SEEN}
    before = -1
    for moment in moments:
        labels = label_tokens(clip, moment)
        index, scene = clip.scene_at(moment)
        motion = labels.motion if index == before else np.full_like(labels.motion, IGNORE)
        earlier = sum(bool(s.plate and s.plate.is_number) for s in clip.scenes[:index])
        is_number = bool(scene.plate and scene.plate.is_number)
        on_number = (labels.character != IGNORE) & is_number
        rank = np.where(on_number, min(earlier, NUM_RANKS - 1), IGNORE)
        item = labels.item.copy()
        item[0, item[0] >= FIRST_ID] = IGNORE
        values = (item, motion, rank, labels.character, labels.x, labels.y)
        for name, value in zip(SEEN, values, strict=True):
            rows[name].append(value)
        before = index
    return {name: np.stack(values) for name, values in rows.items()}


def stamp_labels(times: Sequence[float] | None, num_frames: int) -> NDArray[np.int64]:
    """Return (frames, 5) the characters of every frame's timestamp, ``IGNORE`` without any."""
    if times is None:
        return np.full((num_frames, STAMP_LENGTH), IGNORE)
    texts = [f"{time:.1f}" for time in times]
    return np.array(
        [[_sign(text[place : place + 1]) for place in range(STAMP_LENGTH)] for text in texts]
    )


def _sign(character: str) -> int:
    return SIGNS.index(character) if character else NO_SIGN
