"""Workers that do nothing but count, and die when told to."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from workers.frames import Pruning
from workers.llm.answer import GeneratedAnswer
from workers.messages import (
    Clip,
    EncodeNews,
    EncodeRequest,
    GenerateRequest,
    Note,
    ReadNews,
    ReadRequest,
)
from workers.run.worker import CHUNKS_AHEAD, InputLostError, Results, WorkerDiedError
from workers.vision.anchors import anchor_of
from workers.vision.geometry import TileGeometry
from workers.visual import Allocation

Frames = tuple[int, ...]
Fault = Callable[[Frames], bool]
SECONDS_EACH = 0.04
TILES = TileGeometry(tile_size=28, patch_size=14, pinpoints=())


@dataclass(frozen=True)
class FakeSegment:
    """Frames of a clip, in the shape in which the engine takes them."""

    first_frame: int
    num_frames: int
    frames_per_chunk: int

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, places: slice) -> "FakeSegment":
        start, stop, _ = places.indices(len(self))
        num = max(0, stop - start)
        return replace(self, first_frame=self.first_frame + start, num_frames=num)

    @property
    def pts_seconds(self) -> Any:
        return (self.first_frame + np.arange(len(self))) * SECONDS_EACH

    @property
    def frames(self) -> Frames:
        return tuple(range(self.first_frame, self.first_frame + len(self)))

    def chunks(self) -> "list[FakeSegment]":
        size = self.frames_per_chunk
        return [self[start : start + size] for start in range(0, len(self), size)]


def make_clip(
    num_frames: int,
    *,
    frames_per_chunk: int = 4,
    num_segments: int = 2,
    clip_id: str = "clip",
    gated: bool = False,
) -> Clip:
    whole = FakeSegment(0, num_frames, frames_per_chunk)
    chunks = len(whole.chunks())
    bounds = [(i * chunks // num_segments) * frames_per_chunk for i in range(num_segments + 1)]
    pairs = pairwise(bounds)
    segments = [whole[a:b] for a, b in pairs if a < min(b, num_frames)]
    if segments:
        segments[-1] = whole[segments[-1].first_frame :]
    return Clip(
        clip_id=clip_id,
        name=f"{clip_id}.mp4",
        segments=tuple(segments),
        num_frames=num_frames,
        tiles=TILES,
        prunings=(Pruning(method="none", num_keep=0, max_keep=1),),
        gated=gated,
    )


def never(frames: Frames) -> bool:
    return False


@dataclass(eq=False)
class Book:
    """What happened, told by all workers."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    deaths: list[tuple[str, Frames]] = field(default_factory=list)
    read: list[Frames] = field(default_factory=list)
    decoded: Counter[int] = field(default_factory=Counter)
    held: int = 0
    most_held: int = 0
    closed: int = 0
    """Calls that were closed before their end."""


class FakeDecoder:
    """Reads chunks, and may die up to some chunks ahead of the one it hands over."""

    slots = 1

    def __init__(
        self,
        name: str,
        book: Book,
        *,
        dies: Fault = never,
        chunks_ahead: int = CHUNKS_AHEAD,
        undecodable: set[int] | None = None,
        seconds: float = 0.0,
        death: type[WorkerDiedError] = WorkerDiedError,
    ) -> None:
        self.name = name
        self._book, self._dies, self._ahead = book, dies, chunks_ahead
        self._undecodable = undecodable or set()
        self._seconds = seconds
        self._death = death

    def start(self) -> None:
        pass

    def call(self, request: ReadRequest, inputs: Sequence[Any]) -> Results:
        book = self._book
        book.read.append((request.segment.first_frame, len(request.segment)))
        chunks = request.segment.chunks()
        reached = 0
        try:
            self._meet(() if request.anchor is None else request.anchor.frames)
            for place, chunk in enumerate(chunks):
                while reached < min(place + 1 + self._ahead, len(chunks)):
                    self._meet(chunks[reached].frames)
                    reached += 1
                time.sleep(self._seconds)
                good = [f for f in chunk.frames if f not in self._undecodable]
                with book.lock:
                    book.decoded.update(good)
                    book.held += len(good)
                    book.most_held = max(book.most_held, book.held)
                missing = ("some frames are missing",) if len(good) < len(chunk) else ()
                news = ReadNews(
                    num_covered=len(chunk),
                    frame_indices=np.array(good, np.int64),
                    pts_seconds=np.array(good) * SECONDS_EACH,
                    warnings=missing,
                )
                yield (
                    tuple(sorted({*good, *_anchor(request, chunk.first_frame)})),
                    Note(news=news, seconds={"decode": 1.0}, peak_memory_bytes=7),
                )
            self._meet(())
        except GeneratorExit:
            book.closed += 1
            raise

    def _meet(self, frames: Frames) -> None:
        with self._book.lock:
            if self._dies(frames):
                self._book.deaths.append(("decoder", frames))
                raise self._death("killed")

    def replace(self) -> None:
        pass

    def stop(self) -> None:
        pass


def _anchor(request: Any, frame: int) -> Frames:
    return (anchor_of(frame),) if request.gated else ()


class FakeEncoder:
    """Encodes one chunk at a time; whatever else waits at it dies with it."""

    slots = 2

    def __init__(
        self,
        name: str,
        book: Book,
        *,
        dies: Fault = never,
        dies_after: Fault = never,
        is_lost: Fault = never,
        seed: int = 0,
    ) -> None:
        self.name = name
        self._dies_after = dies_after
        self._book, self._dies, self._is_lost = book, dies, is_lost
        self._turn = threading.Lock()
        self._life = 0
        self._random = random.Random(seed)
        self.most_deaths = 0

    def start(self) -> None:
        pass

    def call(self, request: Any, inputs: Sequence[Any]) -> Results:
        life = self._life
        with self._turn:
            if life != self._life:
                raise WorkerDiedError("killed with another request")
            if not isinstance(request, EncodeRequest):
                yield inputs, Note(news=inputs, seconds={"allocate": 1.0}, peak_memory_bytes=9)
                if self._dies_after(()):
                    self._life += 1
                    raise WorkerDiedError("killed after its result")
                return
            frames = tuple(request.frame_indices.tolist())
            assert set(frames) <= set(inputs[0])
            time.sleep(self._random.random() * 0.001)
            with self._book.lock:
                if self._is_lost(frames):
                    self._book.held -= len(frames)
                    raise InputLostError("its machine is gone")
                at_hand = {*frames, *_anchor(request, frames[0])} & set(inputs[0])
                if self._dies(tuple(sorted(at_hand))):
                    self._life += 1
                    self._book.deaths.append(("encoder", frames))
                    raise WorkerDiedError("killed")
                self._book.held -= len(frames)
        news = EncodeNews(prune_seconds=(0.5,), num_encoded_tiles=len(frames))
        yield frames, Note(news=news, seconds={"encode": 2.0}, peak_memory_bytes=9)
        with self._book.lock:
            if self._dies_after(frames):
                self._life += 1
                self._book.deaths.append(("encoder", frames))
                raise WorkerDiedError("killed after its result")

    def replace(self) -> None:
        pass

    def stop(self) -> None:
        pass


class FakeModel:
    """Says the prompt word by word."""

    def __init__(
        self,
        name: str,
        book: Book,
        *,
        dies: Callable[[str, int], bool],
        slots: int = 1,
        seconds: float = 0.0,
    ) -> None:
        self.name, self.slots = name, slots
        self._book, self._dies, self._seconds = book, dies, seconds
        self.most_at_once = self.most_clips_at_once = 0
        self._running: list[Any] = []
        self.said: list[str] = []

    def start(self) -> None:
        pass

    def call(self, request: GenerateRequest, inputs: Sequence[Any]) -> Results:
        text: str = request.prompt
        with self._book.lock:
            self._running.append(inputs[0])
            self.most_at_once = max(self.most_at_once, len(self._running))
            self.most_clips_at_once = max(self.most_clips_at_once, len(set(self._running)))
        try:
            for place, word in enumerate(text.split()):
                time.sleep(self._seconds)
                with self._book.lock:
                    if self._dies(text, place):
                        self._book.deaths.append((self.name, (place,)))
                        raise WorkerDiedError("killed")
                self.said.append(word)
                yield None, Note(news=f"{word} ", seconds={}, peak_memory_bytes=11)
            answer = GeneratedAnswer(
                text=f"{text} of {inputs[0]}", token_ids=(), num_text_tokens=0, seconds={}
            )
            yield None, Note(news=answer, seconds={"generate": 3.0}, peak_memory_bytes=11)
            if self._dies(text, -1):
                raise WorkerDiedError("killed after its result")
        finally:
            with self._book.lock:
                self._running.remove(inputs[0])

    def replace(self) -> None:
        pass

    def stop(self) -> None:
        pass


ALLOCATION = Allocation(method="none", budget=1)
