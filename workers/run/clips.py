"""What the workers hold of a clip, as whoever asks holds on to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.disk.requests import LoadRequest, OpenRequest
from workers.messages import Clip
from workers.run.queue import Company
from workers.visual import Allocation, KeptFrame


@dataclass(slots=True, kw_only=True, eq=False)
class EncodedClip:
    """A clip whose ranked tokens the workers hold.

    ``bank`` are handles on them; ``pts_seconds`` the times of the frames in it, by frame in source
    order, ``thumbnails`` their pictures for a report; ``seconds`` the busy seconds of the clip by
    stage, and ``elapsed_seconds`` the time from when it was asked for. ``num_encoded_tiles`` went
    through the vision tower. ``num_given_up`` frames are missing as their workers died on them.
    Where stored tokens were looked for, ``made_for_budget`` tells what budget those in ``bank``
    were made for; ``origin`` reads them again where they came from a store.
    """

    clip: Clip
    bank: tuple[Any, ...]
    pts_seconds: Mapping[int, float]
    thumbnails: Mapping[int, bytes]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    prune_seconds: tuple[float, ...]
    """What each of the clip's prunings took."""
    elapsed_seconds: float
    num_encoded_tiles: int = 0
    num_given_up: int = 0
    made_for_budget: int | None = None
    origin: LoadRequest | OpenRequest | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Visual:
    """A handle on the bounded visual sequence of a clip; ``frames`` tell what was kept."""

    encoded: EncodedClip
    allocation: Allocation
    handle: Any
    frames: tuple[KeptFrame, ...]
    seconds: Mapping[str, float]
    elapsed_seconds: float
    company: Company = field(default_factory=Company)
    """The questions about it, which the language model answers that holds its prefix."""
