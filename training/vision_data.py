"""Batches of single labelled pictures for the vision stage; each a pure function of its number."""

import numpy as np
from numpy.typing import NDArray

from training.canvas import ASPECTS, geometry_of
from training.compose import Recipe, compose_clip
from training.degrade import degrade
from training.draw import draw_frame
from training.labels import TokenLabels, label_tokens
from workers.vision.tiles import cut_tiles

Batch = dict[str, NDArray[np.generic]]
LABELS = tuple(TokenLabels.__dataclass_fields__)
_SPARSE = Recipe(plate_chance=0.6)
_DENSE = Recipe(plate_chance=1.0, max_shapes=5)


def vision_batch(seed: int, step: int, num_pictures: int) -> Batch:
    """Return tiles (n, 5, 56, 56, 3) uint8 and every token label (n, 5, 64) of one batch."""
    tiles, labels = [], []
    for index in range(num_pictures):
        generator = np.random.default_rng([seed, 1, step, index])
        aspect = str(generator.choice(list(ASPECTS)))
        recipe = _DENSE if generator.random() < 0.67 else _SPARSE
        clip = compose_clip(generator, aspect, 1, recipe)
        picture = degrade(generator, [draw_frame(clip, 0.5)])[0]
        tiles.append(cut_tiles(picture, geometry_of(aspect)))
        labels.append(label_tokens(clip, 0.5))
    batch: Batch = {"tiles": np.stack(tiles)}
    for name in LABELS:
        batch[name] = np.stack([getattr(label, name) for label in labels])
    return batch
