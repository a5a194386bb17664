"""Where a clip is cut, and which scene every shot shows."""

from itertools import pairwise

import numpy as np

Shots = list[tuple[int, int]]
"""First frame, and the frame after the last, of every shot of one scene."""
_MOST_SHOTS = 12


def compose_shots(
    generator: np.random.Generator,
    num_frames: int,
    *,
    num_scenes: tuple[int, int],
    back_and_forth: float,
) -> list[Shots]:
    """Return the shots of every scene, the scenes in the order in which they are first seen.

    Args:
        generator: Says how many there are and where they begin.
        num_frames: Of the clip; every shot gets one at least.
        num_scenes: The fewest and the most scenes, fewer where there are fewer frames.
        back_and_forth: Chance that some scenes have several shots, with others between them.
    """
    if num_frames == 1:
        return [[(0, 1)]]
    if num_frames > 2 and generator.random() < back_and_forth:
        return _back_and_forth(generator, num_frames, num_scenes)
    return [[shot] for shot in _one_after_another(generator, num_frames, num_scenes)]


def _one_after_another(
    generator: np.random.Generator, num_frames: int, num_scenes: tuple[int, int]
) -> Shots:
    fewest, most = (min(number, num_frames) for number in num_scenes)
    count = int(generator.integers(fewest, most + 1))
    if count == 3 and num_frames >= 3 and generator.random() < 0.6:
        return _between([round(num_frames / 3), round(2 * num_frames / 3)], num_frames)
    return _cut(generator, num_frames, count)


def _back_and_forth(
    generator: np.random.Generator, num_frames: int, num_scenes: tuple[int, int]
) -> list[Shots]:
    count = int(generator.integers(2, max(min(num_scenes[1], num_frames - 1), 2) + 1))
    num_shots = int(generator.integers(count + 1, max(min(_MOST_SHOTS, num_frames), count + 1) + 1))
    scenes: list[Shots] = []
    shown = -1
    for number, shot in enumerate(_cut(generator, num_frames, num_shots)):
        must = num_shots - number == count - len(scenes)
        new = len(scenes) < count and (len(scenes) < 2 or must or generator.random() < 0.4)
        others = [scene for scene in range(len(scenes)) if scene != shown]
        shown = len(scenes) if new else int(generator.choice(others))
        scenes += [[]] * new
        scenes[shown] = [*scenes[shown], shot]
    return scenes


def _cut(generator: np.random.Generator, num_frames: int, num_shots: int) -> Shots:
    inner = generator.choice(np.arange(1, num_frames), num_shots - 1, replace=False)
    return _between(sorted(int(cut) for cut in inner), num_frames)


def _between(inner: list[int], num_frames: int) -> Shots:
    cuts = [0, *inner, num_frames]
    return list(pairwise(cuts))
