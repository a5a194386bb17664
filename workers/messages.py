"""What goes to a stage and what comes back: the clip, requests, and notes for the driver."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.arrays import Float64Array, Int64Array
from workers.frames import Pruning
from workers.llm.answer import SamplingOptions
from workers.llm.prompt import Prompt
from workers.video.segments import Segment
from workers.vision.geometry import TileGeometry
from workers.visual import Allocation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """One source with its sampling and how its frames are ranked: the unit of work.

    ``clip_id`` is on everything that is made of it; ``segments`` are what decoders read, together
    ``num_frames`` frames. Whatever is to be known of a clip by a worker is in here or in what it
    is handed, never in what it did before.
    """

    clip_id: str
    name: str
    segments: tuple[Segment, ...]
    num_frames: int
    tiles: TileGeometry
    prunings: tuple[Pruning, ...]
    resize: str = "exact"
    gated: bool = False
    """Whether high-resolution tiles that resemble the anchor's are not encoded."""
    thumbnail_width: int = 0
    """Pixels across of the pictures kept for a report; 0 keeps none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceRequest:
    """Open a clip where it can be killed for it: what can be read of one is its own business.

    ``paths`` are one file (see :func:`workers.video.source.open_source`), or with ``pictures``
    files of pictures. ``timeout_seconds`` bound the time without progress.
    """

    paths: tuple[str, ...]
    pictures: bool = False
    timeout_seconds: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadRequest:
    """Read a segment, chunk by chunk; see :class:`workers.stages.ReadStage`.

    With ``gated`` each chunk has its anchor in front, beyond the frames that are told of. Where the
    segment does not begin with it, ``anchor`` is a segment of that frame alone.
    """

    segment: Segment
    tiles: TileGeometry
    resize: str = "exact"
    gated: bool = False
    anchor: Segment | None = None
    thumbnail_width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodeRequest:
    """Encode these frames of a chunk and rank them in every way.

    With ``gated`` they are of one group, and compared with its anchor if the chunk has it.
    """

    tiles: TileGeometry
    prunings: tuple[Pruning, ...]
    frame_indices: Int64Array
    gated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AllocateRequest:
    """Share a clip's budget out among its ranked frames."""

    allocation: Allocation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShortenRequest:
    """Hold no more than the first ``max_keep`` tokens of each ranking of one frame."""

    max_keep: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenerateRequest:
    """Answer one prompt about a visual sequence."""

    prompt: Prompt
    sampling: SamplingOptions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadNews:
    """What is in a chunk: frames covered, those of them that were read, and what went wrong."""

    num_covered: int
    frame_indices: Int64Array
    pts_seconds: Float64Array
    thumbnails: tuple[bytes, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodeNews:
    """What encoding some frames took: seconds of each pruning, and tiles through the tower."""

    prune_seconds: tuple[float, ...]
    num_encoded_tiles: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Note:
    """What the driver is told of one result of a stage: small, whatever the size of the result.

    ``seconds`` are the busy wall seconds that this result took, by stage; ``peak_memory_bytes`` is
    the worker's peak resident memory so far, ``cpu_seconds`` what its process has used of them, and
    ``busy_seconds``, of an actor, all that passed while the stage made this result.
    """

    news: Any
    seconds: Mapping[str, float]
    peak_memory_bytes: int
    cpu_seconds: float = 0.0
    busy_seconds: float = 0.0
