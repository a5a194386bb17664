"""A fleet of workers in memory that die on demand, for the tests of the schedule."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workers.messages import PruneOptions, Segment, VideoIndex
from workers.run.fleet import ChunkLostError, DecodedChunk, WorkerDiedError
from workers.run.schedule import CHUNKS_PER_ENCODER, MAX_DEATHS, slice_segment

PRUNE = PruneOptions(num_keep=1, max_keep=1)
Frames = tuple[int, ...]


def make_segments(
    num_frames: int, *, frames_per_chunk: int = 4, num_segments: int = 2
) -> list[Segment]:
    index = VideoIndex(
        path="clip.mp4",
        codec="h264",
        width=16,
        height=16,
        rotation_degrees=0,
        time_base_seconds=0.001,
        pts=np.arange(num_frames) * 40,
        seekable=True,
    )
    whole = Segment(
        index=index, decoder="pyav", first_frame=0, pts=index.pts, frames_per_chunk=frames_per_chunk
    )
    num_chunks = -(-num_frames // frames_per_chunk)
    size = -(-num_chunks // num_segments) * frames_per_chunk
    return [slice_segment(whole, start, size) for start in range(0, num_frames, size)]


@dataclass(eq=False)
class FakeStream:
    fleet: "FakeFleet"
    decoder: int
    segment: Segment
    position: int = 0
    reached: int = 0
    cancelled: bool = False

    def next(self) -> DecodedChunk | None:
        frames = self._chunk_at(self.position)
        ahead = self.fleet.chunks_ahead * self.segment.frames_per_chunk
        while frames and self.reached <= min(self.position + ahead, len(self.segment.pts) - 1):
            self.fleet.meet(self, self._chunk_at(self.reached))
            self.reached += self.segment.frames_per_chunk
        self.position += len(frames)
        return self.fleet.next_chunk(self, frames)

    def _chunk_at(self, position: int) -> Frames:
        first = self.segment.first_frame
        numbers = range(first, first + len(self.segment.pts))
        return tuple(numbers[position : position + self.segment.frames_per_chunk])

    def cancel(self) -> None:
        self.cancelled = True


@dataclass(eq=False)
class FakeTask:
    fleet: "FakeFleet"
    encoder: int
    chunk: DecodedChunk

    def result(self) -> Frames:
        return self.fleet.finish(self)


def never(frames: Frames) -> bool:
    return False


@dataclass(eq=False)
class FakeFleet:
    """Workers that die on demand; what is asked of them is recorded and checked.

    The three faults are told the frames at hand, none at the end of a segment, and say whether the
    worker dies, or the chunk is gone. ``seed`` decides who is ready first. A decoder is always
    ``chunks_ahead`` chunks ahead, and what it had ready dies with it.
    """

    num_decoders: int = 2
    num_encoders: int = 2
    seed: int = 0
    chunks_ahead: int = 0
    decoder_dies: Callable[[Frames], bool] = never
    encoder_dies: Callable[[Frames], bool] = never
    is_lost: Callable[[Frames], bool] = never
    undecodable: Collection[int] = ()
    deaths: list[tuple[str, Frames]] = field(default_factory=list)
    decoded: Counter[int] = field(default_factory=Counter)
    submitted: list[DecodedChunk] = field(default_factory=list)
    streams: list[FakeStream] = field(default_factory=list)
    held: Counter[int] = field(default_factory=Counter)
    most_held: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.busy: dict[int, FakeStream] = {}
        self.queues: dict[int, list[FakeTask]] = {i: [] for i in range(self.num_encoders)}
        self.broken: set[tuple[str, int]] = set()

    def decode(self, decoder: int, segment: Segment) -> FakeStream:
        assert decoder not in self.busy, "a decoder reads one segment at a time"
        assert ("decoder", decoder) not in self.broken
        self.busy[decoder] = FakeStream(self, decoder, segment)
        self.streams.append(self.busy[decoder])
        return self.busy[decoder]

    def meet(self, stream: FakeStream, frames: Frames) -> None:
        if self.decoder_dies(frames):
            self.deaths.append(("decoder", frames))
            self.broken.add(("decoder", stream.decoder))
            del self.busy[stream.decoder]
            raise WorkerDiedError("decoder")

    def next_chunk(self, stream: FakeStream, frames: Frames) -> DecodedChunk | None:
        if not frames:
            self.meet(stream, frames)
            del self.busy[stream.decoder]
            return None
        self.decoded.update(frames)
        found = tuple(frame for frame in frames if frame not in self.undecodable)
        self.held.update(found)
        self.most_held = max(self.most_held, self.held.total())
        warnings = ("some frames are missing",) * (found != frames)
        return DecodedChunk(
            handle=frames, frame_indices=found, segment=stream.segment, warnings=warnings
        )

    def submit(self, encoder: int, chunk: DecodedChunk, prune: PruneOptions) -> FakeTask:
        assert prune is PRUNE
        assert ("encoder", encoder) not in self.broken
        queue = self.queues[encoder]
        suspects = [task.chunk.deaths for task in queue] + [chunk.deaths]
        assert len(suspects) == 1 or not any(suspects), "a suspect runs alone"
        assert len(suspects) <= CHUNKS_PER_ENCODER
        self.submitted.append(chunk)
        queue.append(FakeTask(self, encoder, chunk))
        return queue[-1]

    def finish(self, task: FakeTask) -> Frames:
        frames = task.chunk.frame_indices
        if ("encoder", task.encoder) in self.broken:
            raise WorkerDiedError("encoder, while the task waited")
        queue = self.queues[task.encoder]
        assert queue.pop(0) is task
        if self.encoder_dies(frames):
            self.deaths.append(("encoder", frames))
            self.broken.add(("encoder", task.encoder))
            given_up = task.chunk.deaths == MAX_DEATHS - 1
            self.held.subtract(frames if given_up else ())
            raise WorkerDiedError("encoder")
        self.held.subtract(frames)
        if self.is_lost(frames):
            raise ChunkLostError("its machine is gone")
        return frames

    def wait(self, work: Sequence[Any]) -> Sequence[Any]:
        heads = [queue[0] for queue in self.queues.values() if queue]
        ready = [each for each in work if isinstance(each, FakeStream) or each in heads]
        assert ready, "the schedule waits for nothing"
        count = int(self.rng.integers(1, len(ready) + 1))
        return [ready[i] for i in self.rng.permutation(len(ready))[:count]]

    def replace_decoder(self, decoder: int) -> None:
        self.broken.remove(("decoder", decoder))

    def replace_encoder(self, encoder: int) -> None:
        self.broken.remove(("encoder", encoder))
        self.queues[encoder] = []
