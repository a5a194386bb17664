"""Which worker does what next, and what happens to the work of one that dies.

Pure bookkeeping over a :class:`workers.run.fleet.Fleet`, so that recovery can be tested without a
cluster. A worker's death is nobody's result: its work is done again by a fresh worker, and since
chunks keep their frames and every stage is deterministic, the clip ends the same. Work that was on
a worker when it died, or may have been, is a suspect and runs alone from then on, first the chunk,
then each of its frames; a frame that has been on three deaths is left out and named.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workers.errors import WorkerError
from workers.messages import PruneOptions, Segment
from workers.run.fleet import (
    CHUNKS_AHEAD,
    ChunkLostError,
    DecodedChunk,
    Fleet,
    Stream,
    WorkerDiedError,
)
from workers.run.pool import Progress

MAX_DEATHS = 3
CHUNKS_PER_ENCODER = 2
"""Decoded chunks held for each encoder: one it works on and one that waits."""
_MAX_REPLACEMENTS_IN_A_ROW = 10


@dataclass(slots=True, kw_only=True, eq=False)
class _Reading:
    """A segment being read: ``done`` of its frames have been delivered."""

    decoder: int
    segment: Segment
    deaths: int
    stream: Stream
    done: int = 0


class Schedule:
    """Runs one clip through a fleet.

    At most ``CHUNKS_PER_ENCODER`` chunks for each encoder are taken from the decoders at any time,
    however long the clip; a decoder runs ahead by no more than ``CHUNKS_AHEAD``.
    """

    def __init__(
        self, fleet: Fleet, segments: Sequence[Segment], prunings: Sequence[PruneOptions]
    ) -> None:
        self._fleet = fleet
        self._prunings = prunings
        self._segments = deque((segment, 0) for segment in segments)
        self._readings: dict[Any, _Reading] = {}
        self._chunks: deque[DecodedChunk] = deque()
        self._tasks: dict[Any, tuple[int, DecodedChunk]] = {}
        self._replacements: Counter[str] = Counter()
        self.candidates: list[Any] = []
        """Handles on the candidates of everything encoded so far."""

    def run(self) -> Iterator[Progress]:
        """Yield progress until every frame is encoded or given up on."""
        try:
            while self._segments or self._readings or self._chunks or self._tasks:
                self._assign()
                listening = list(self._readings.values()) if self._has_room() else []
                work = [*(reading.stream for reading in listening), *self._tasks]
                for ready in self._fleet.wait(work):
                    yield from self._handle(ready)
        finally:
            for reading in self._readings.values():
                reading.stream.cancel()

    def _has_room(self) -> bool:
        return len(self._chunks) + len(self._tasks) < CHUNKS_PER_ENCODER * self._fleet.num_encoders

    def _assign(self) -> None:
        """Give idle decoders segments and encoders with room chunks, suspects to idle ones only."""
        busy = {reading.decoder for reading in self._readings.values()}
        for decoder in range(self._fleet.num_decoders):
            if decoder not in busy and self._segments:
                segment, deaths = self._segments.popleft()
                stream = self._fleet.decode(decoder, segment)
                self._readings[stream] = _Reading(
                    decoder=decoder, segment=segment, deaths=deaths, stream=stream
                )
        for chunk in list(self._chunks):
            encoder = self._encoder_for(chunk)
            if encoder is None:  # first come, first served: a suspect waits for an idle encoder
                return
            self._chunks.remove(chunk)
            task = self._fleet.submit(encoder, chunk, self._prunings)
            self._tasks[task] = (encoder, chunk)

    def _encoder_for(self, chunk: DecodedChunk) -> int | None:
        """Return the least busy encoder that may take the chunk."""
        load = dict.fromkeys(range(self._fleet.num_encoders), 0)
        for encoder, running in self._tasks.values():
            load[encoder] += CHUNKS_PER_ENCODER if running.deaths else 1
        encoder = min(load, key=lambda each: load[each])
        return encoder if load[encoder] < (1 if chunk.deaths else CHUNKS_PER_ENCODER) else None

    def _handle(self, ready: Any) -> Iterator[Progress]:
        if ready in self._readings:
            yield from self._take_chunk(self._readings[ready])
        elif ready in self._tasks:
            yield from self._take_result(ready)

    def _take_chunk(self, reading: _Reading) -> Iterator[Progress]:
        if not self._has_room():
            return
        try:
            chunk = reading.stream.next()
        except WorkerDiedError:
            del self._readings[reading.stream]
            self._replace("decoder", reading.decoder)
            if reading.done < len(reading.segment.pts):  # else it died with nothing left to say
                rest = slice_segment(reading.segment, reading.done)
                yield from self._redecode(rest, reading.deaths)
            return
        self._replacements["decoder"] = 0
        if chunk is None:
            del self._readings[reading.stream]
            return
        part = slice_segment(reading.segment, reading.done, reading.segment.frames_per_chunk)
        reading.done += len(part.pts)
        yield Progress(
            num_decoded=len(chunk.frame_indices),
            frame_index=part.first_frame,
            warnings=chunk.warnings,
        )
        if chunk.frame_indices:
            self._chunks.append(replace(chunk, segment=part))

    def _take_result(self, task: Any) -> Iterator[Progress]:
        encoder, chunk = self._tasks.pop(task)
        try:
            self.candidates.append(task.result())
        except WorkerDiedError:
            victims = [chunk, *self._drop_tasks(encoder)]
            self._replace("encoder", encoder)
            for victim in victims:
                yield from self._reencode(victim)
            return
        except ChunkLostError:
            yield Progress(num_decoded=-len(chunk.frame_indices))
            if len(chunk.frame_indices) < len(chunk.segment.pts):  # part of a split chunk
                for frame in reversed(chunk.frame_indices):
                    self._segments.appendleft((_one_frame(chunk.segment, frame), chunk.deaths))
            else:
                yield from self._redecode(chunk.segment, chunk.deaths)
            return
        self._replacements["encoder"] = 0
        yield Progress(num_encoded=len(chunk.frame_indices))

    def _drop_tasks(self, encoder: int) -> list[DecodedChunk]:
        """Forget everything an encoder was given, and return it."""
        lost = {task: chunk for task, (at, chunk) in self._tasks.items() if at == encoder}
        for task in lost:
            del self._tasks[task]
        return list(lost.values())

    def _reencode(self, chunk: DecodedChunk) -> Iterator[Progress]:
        """Queue a suspect again, ahead of all else; on its second death frame by frame."""
        deaths = chunk.deaths + 1
        if deaths < MAX_DEATHS - 1 or (len(chunk.frame_indices) == 1 and deaths < MAX_DEATHS):
            self._chunks.appendleft(replace(chunk, deaths=deaths))
        elif len(chunk.frame_indices) == 1:
            yield _epitaph(chunk.segment, chunk.frame_indices[0], "encoder")
        else:
            for frame in reversed(chunk.frame_indices):
                self._chunks.appendleft(replace(chunk, frame_indices=(frame,), deaths=deaths))

    def _redecode(self, segment: Segment, deaths: int) -> Iterator[Progress]:
        """Queue a segment again: each suspect chunk alone, on its second death frame by frame."""
        deaths += 1
        if not len(segment.pts):
            return
        size = segment.frames_per_chunk
        if len(segment.pts) > size:  # it died on the first chunk, or on one it was ahead with
            reach = min(size * (1 + CHUNKS_AHEAD), len(segment.pts))
            if reach < len(segment.pts):
                self._segments.appendleft((slice_segment(segment, reach), 0))
            for start in reversed(range(0, reach, size)):
                self._segments.appendleft((slice_segment(segment, start, size), deaths))
        elif deaths < MAX_DEATHS - 1 or (len(segment.pts) == 1 and deaths < MAX_DEATHS):
            self._segments.appendleft((segment, deaths))
        elif len(segment.pts) == 1:
            yield _epitaph(segment, segment.first_frame, "decoder")
        else:
            for place in reversed(range(len(segment.pts))):
                frame = segment.first_frame + place
                self._segments.appendleft((_one_frame(segment, frame), deaths))

    def _replace(self, kind: str, number: int) -> None:
        self._replacements[kind] += 1
        if self._replacements[kind] > _MAX_REPLACEMENTS_IN_A_ROW * MAX_DEATHS:
            raise WorkerError(
                f"{self._replacements[kind]} {kind}s died in a row without finishing anything"
            )
        if kind == "decoder":
            self._fleet.replace_decoder(number)
        else:
            self._fleet.replace_encoder(number)


def _one_frame(segment: Segment, frame: int) -> Segment:
    place = frame - segment.first_frame
    pts = segment.pts[place : place + 1]
    return replace(segment, first_frame=frame, pts=pts, frames_per_chunk=1)


def slice_segment(segment: Segment, start: int, count: int | None = None) -> Segment:
    """Return ``count`` frames of a segment (default: all) from its frame ``start`` on."""
    stop = None if count is None else start + count
    return replace(segment, first_frame=segment.first_frame + start, pts=segment.pts[start:stop])


def _epitaph(segment: Segment, frame_index: int, kind: str) -> Progress:
    pts_seconds = segment.pts[frame_index - segment.first_frame] * segment.index.time_base_seconds
    text = (
        f"{segment.index.path}: the frame at {pts_seconds:.3f} s killed its {kind} {MAX_DEATHS} "
        "times and is left out"
    )
    return Progress(frame_index=frame_index, warnings=(text,))
