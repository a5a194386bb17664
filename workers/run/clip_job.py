"""A clip on its way through decoders and encoders."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.errors import WorkerError
from workers.messages import Clip, EncodeNews, EncodeRequest, Note, ReadNews, ReadRequest
from workers.run.job import MAX_DEATHS, Job, KindAndUnit
from workers.run.queue import Unit
from workers.run.worker import CHUNKS_AHEAD, WorkerDiedError
from workers.vision.anchors import anchor_of

_MAX_DEATHS_TOGETHER = 1
"""Deaths after which a chunk is tried again whole."""
_MAX_DEATHS_IN_A_ROW = 30
"""Deaths of a kind of worker on a clip, no result between them, after which it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Something has happened to frames: ``num_read`` or ``num_encoded`` more are done."""

    num_read: int = 0
    num_encoded: int = 0


class ClipJob(Job):
    """A clip: its segments are read, its chunks encoded, until every frame is accounted for.

    A worker's death is nobody's result: its work is done again by a fresh worker, and since chunks
    keep their frames and stages are deterministic, the clip ends the same. A suspect runs alone,
    first the chunk, then each of its frames; a frame that has been on ``MAX_DEATHS`` deaths is left
    out and named.
    """

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip
        self.ranked: dict[int, Any] = {}
        """Handles on ranked frames, by the first frame of each."""
        self.pts_seconds: dict[int, float] = {}
        """Times of the frames that were encoded."""
        self.thumbnails: dict[int, bytes] = {}
        self.prune_seconds = [0.0] * len(clip.prunings)
        self.num_encoded_tiles = 0
        self.num_given_up = 0
        """Frames that are left out because workers died on them."""
        self.started = time.perf_counter()
        self._warnings: list[tuple[int, str]] = []
        self._left = clip.num_frames
        self._deaths: Counter[str] = Counter()
        self._account(0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong so far, in the order of the frames."""
        return tuple(text for _, text in sorted(self._warnings))

    def units(self) -> list[KindAndUnit]:
        """Return what there is to do at first."""
        return [self._read(segment) for segment in self.clip.segments]

    def receive(self, unit: Unit, handle: Any, note: Note) -> list[KindAndUnit]:
        """Take a chunk that was read, or frames that were encoded."""
        self._deaths[_kind(unit)] = 0
        self.seconds.update(note.seconds)
        if isinstance(unit.request, EncodeRequest):
            self._take_ranked(unit, handle, note)
            return []
        news: ReadNews = note.news
        part, unit.frames = unit.frames[: news.num_covered], unit.frames[news.num_covered :]
        unit.done = not len(unit.frames)
        self._warnings += [(part.first_frame, text) for text in news.warnings]
        self.thumbnails.update(zip(news.frame_indices.tolist(), news.thumbnails, strict=False))
        self.tell(Progress(num_read=len(news.frame_indices)))
        self._account(news.num_covered - len(news.frame_indices))
        read = news.frame_indices.tolist()
        return [self._encode(part, handle, read)] if read else []

    def _take_ranked(self, unit: Unit, handle: Any, note: Note) -> None:
        unit.done = True
        frames = unit.request.frame_indices
        self.ranked[int(frames[0])] = handle
        times = unit.frames.pts_seconds[frames - unit.frames.first_frame]
        self.pts_seconds.update(zip(frames.tolist(), times.tolist(), strict=True))
        news: EncodeNews = note.news
        pruned = zip(self.prune_seconds, news.prune_seconds, strict=True)
        self.prune_seconds = [before + more for before, more in pruned]
        self.num_encoded_tiles += news.num_encoded_tiles
        self.tell(Progress(num_encoded=len(frames)))
        self._account(len(frames))

    def after_death(self, unit: Unit, error: WorkerDiedError) -> list[KindAndUnit]:
        """Return the suspects, ahead of all else."""
        deaths, part, kind = unit.deaths + 1, unit.frames, _kind(unit)
        self._deaths[kind] += 1
        if self._deaths[kind] > _MAX_DEATHS_IN_A_ROW:
            name, times = self.clip.name, f"{self._deaths[kind]} times in a row"
            raise WorkerError(f"{name}: killed its {kind} {times} ({error})")
        blame = f"killed its {kind} {MAX_DEATHS} times ({error.reason})"
        if kind == "encoder":
            frames = unit.request.frame_indices.tolist()
            groups = self._suspects(part, frames, deaths, blame)
            return [self._encode(part, unit.inputs[0], group, deaths) for group in groups]
        # Of several chunks, each that the decoder may have been at is a suspect.
        size = part.frames_per_chunk
        reach = size * (1 + CHUNKS_AHEAD) if len(part) > size else size
        units = []
        for chunk in part[:reach].chunks():
            frames = list(range(chunk.first_frame, chunk.first_frame + len(chunk)))
            groups = self._suspects(part, frames, deaths, blame)
            units += [self._read(_slice(part, group), deaths) for group in groups]
        return units + ([self._read(part[reach:])] if len(part) > reach else [])

    def after_loss(self, unit: Unit) -> list[KindAndUnit]:
        """Read the frames of a lost chunk again."""
        frames = unit.request.frame_indices.tolist()
        self.tell(Progress(num_read=-len(frames)))
        groups = [frames] if len(frames) == len(unit.frames) else [[frame] for frame in frames]
        return [self._read(_slice(unit.frames, group), unit.deaths) for group in groups]

    def _suspects(self, part: Any, frames: list[int], deaths: int, blame: str) -> list[list[int]]:
        """Return frames that their worker died on in the groups in which they are tried again.

        A frame that is given up is warned of with ``blame``, which tells the last death's reason.
        """
        if deaths <= _MAX_DEATHS_TOGETHER:
            return [frames]
        if deaths < MAX_DEATHS or len(frames) > 1:
            return [[frame] for frame in frames]
        seconds = part.pts_seconds[frames[0] - part.first_frame]
        text = f"{self.clip.name}: the frame at {seconds:.3f} s {blame} and is left out"
        self._warnings.append((frames[0], text))
        self.num_given_up += 1
        self._account(1)
        return []

    def _read(self, segment: Any, deaths: int = 0) -> KindAndUnit:
        gated = self._is_gated(segment.first_frame, deaths)
        request = ReadRequest(
            segment=segment,
            tiles=self.clip.tiles,
            resize=self.clip.resize,
            gated=gated,
            anchor=self._anchor(segment.first_frame) if gated else None,
            thumbnail_width=self.clip.thumbnail_width,
        )
        return "decoder", Unit(job=self, request=request, frames=segment, deaths=deaths)

    def _encode(self, part: Any, chunk: Any, frames: list[int], deaths: int = 0) -> KindAndUnit:
        request = EncodeRequest(
            tiles=self.clip.tiles,
            prunings=self.clip.prunings,
            frame_indices=np.array(frames),
            gated=self._is_gated(frames[0], deaths),
        )
        unit = Unit(job=self, request=request, inputs=(chunk,), frames=part, deaths=deaths)
        return "encoder", unit

    def _is_gated(self, frame: int, deaths: int) -> bool:
        """Return whether a frame is compared with its anchor.

        Not at its last try where the anchor has not been encoded by then: it may be what kills.
        """
        if not self.clip.gated:
            return False
        return deaths < MAX_DEATHS - 1 or anchor_of(frame) in self.pts_seconds

    def _anchor(self, frame: int) -> Any:
        """Return a segment of a frame's anchor alone, None for an anchor."""
        anchor = anchor_of(frame)
        if anchor == frame:
            return None
        segments = (s for s in self.clip.segments if s.first_frame <= anchor)
        return _slice(max(segments, key=lambda s: s.first_frame), [anchor])

    def _account(self, num_frames: int) -> None:
        self._left -= num_frames
        if self._left == 0:
            self.end()


def _kind(unit: Unit) -> str:
    return "encoder" if isinstance(unit.request, EncodeRequest) else "decoder"


def _slice(segment: Any, frames: list[int]) -> Any:
    return segment[frames[0] - segment.first_frame : frames[-1] + 1 - segment.first_frame]
