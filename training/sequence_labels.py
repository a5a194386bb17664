"""What the frames so far tell about every token: labels for the language model's lower half."""

from collections.abc import Sequence

import numpy as np

from training.draw import FIRST_ID
from training.labels import IGNORE, Int64Array, label_tokens
from training.scene import Clip

SEEN = ("item", "motion", "number_rank", "character", "x", "y", "is_new")
NUM_RANKS = 4


def sequence_labels(clip: Clip, moments: Sequence[float]) -> dict[str, Int64Array]:
    """Return what the frames so far tell about each token: class numbers (frames, 5, 64).

    ``item``: what it shows, as in ``label_tokens``, plates in tiles only. ``motion``: the way its
    shape moves, from the second frame that shows it on. ``number_rank``: where a tile shows a
    number, how many other numbers came earlier. ``character``: of a tile's plate. ``x``, ``y``:
    where in the frame its shape is. ``is_new``: 1 where no earlier frame shows that shape, else 0.
    ``IGNORE`` where the frames so far cannot tell.
    """
    rows: dict[str, list[Int64Array]] = {name: [] for name in SEEN}
    known: set[int] = set()
    for moment in moments:
        labels = label_tokens(clip, moment)
        index, scene = clip.scene_at(moment)
        motion = labels.motion if index in known else np.full_like(labels.motion, IGNORE)
        earlier = sum(bool(s.plate and s.plate.is_number) for s in clip.scenes[:index])
        is_number = bool(scene.plate and scene.plate.is_number)
        on_number = (labels.character != IGNORE) & is_number
        rank = np.where(on_number, min(earlier, NUM_RANKS - 1), IGNORE)
        item = labels.item.copy()
        item[0, item[0] >= FIRST_ID] = IGNORE
        is_new = np.where(labels.x == IGNORE, IGNORE, int(index not in known))
        values = (item, motion, rank, labels.character, labels.x, labels.y, is_new)
        for name, value in zip(SEEN, values, strict=True):
            rows[name].append(value)
        known.add(index)
    return {name: np.stack(values) for name, values in rows.items()}
