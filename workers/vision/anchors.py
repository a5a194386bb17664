"""Which frame the others of a clip are compared with where high resolution is gated.

Sampled frames stand in groups by their index in the clip. The first of each group is its anchor,
whatever chunk a frame travels in and whoever encodes it.
"""

FRAMES_PER_ANCHOR = 16
"""Frames of a group. A power of two, so that chunks of a power of two never cross a group."""


def anchor_of(frame: int) -> int:
    """Return the index of a frame's anchor: its own, if it is one."""
    return frame - frame % FRAMES_PER_ANCHOR


def chunk_in_group(most: int) -> int:
    """Return the largest chunk of at most ``most`` frames, at least 1, that divides a group."""
    return 1 << (min(most, FRAMES_PER_ANCHOR).bit_length() - 1)
