"""What is not said of a stream, and what cannot be."""

from collections.abc import Mapping

DEFAULT_FPS = 1.0
DEFAULT_WINDOW = 32

FIXED: Mapping[str, object] = {
    "num_frames": None,
    "keep_ratio": None,
    "start": None,
    "end": None,
    "precision": "exact",
    "decoder": "pyav",
    "bank": None,
    "bank_gib": 20.0,
    "position_ids": "auto",
    "question_aware": False,
    "reserve": 0.5,
    "clips_in_flight": 4,
    "frames_per_chunk": None,
}
"""Options of a clip with an end, which one without it does not take."""
