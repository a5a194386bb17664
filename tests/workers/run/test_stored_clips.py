"""Stored tokens on the engine: what is lost is loaded again, else encoded again as it was."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.workers.disk.entries import PRUNING, make_entry
from tests.workers.run.fake_workers import ALLOCATION, Book, FakeDecoder, FakeEncoder, make_clip
from workers.digests import DigestMemory
from workers.disk.requests import LoadRequest, OpenRequest, SaveRequest, StoreNews
from workers.disk.store import TokenStore
from workers.errors import EntryError, WorkerError
from workers.messages import AllocateRequest, Clip, EncodeRequest, Note
from workers.run.clips import EncodedClip
from workers.run.engine import Engine
from workers.run.job import MAX_DEATHS
from workers.run.worker import InputLostError, Results, WorkerDiedError

STORE = TokenStore(folder="/nowhere", limit_bytes=0)
LARGER = replace(PRUNING, num_keep=7, max_keep=28)


class StoreEncoder(FakeEncoder):
    """Has an entry as often as it is told, and loses what came of it as often."""

    def __init__(self, *, hits: int = 1, losses: int = 0, deaths: int = 0) -> None:
        super().__init__("encoder-0", Book())
        self.hits, self.losses, self.deaths = hits, losses, deaths
        self.loads = 0
        self.pruning = LARGER
        self.prunings: list[Any] = []

    def call(self, request: Any, inputs: Sequence[Any]) -> Results:
        if self.deaths:
            self.deaths -= 1
            raise WorkerDiedError("killed")
        if isinstance(request, LoadRequest | OpenRequest):
            self.loads += 1
            yield self._load(request)
        elif isinstance(request, EncodeRequest):
            self.prunings.append(request.prunings)
            yield from super().call(request, inputs)
        elif self.losses:
            self.losses -= 1
            raise InputLostError("its machine is gone")
        else:
            news: Any = inputs if isinstance(request, AllocateRequest) else StoreNews()
            yield inputs, Note(news=news, seconds={"busy": 1.0}, peak_memory_bytes=1)

    def _load(self, request: Any) -> tuple[Any, Note]:
        if self.loads <= self.hits:
            manifest = make_entry(pruning=self.pruning).manifest
            manifest = replace(manifest, frame_indices=(0, 2), pts_seconds=(0.0, 0.5))
            news = StoreNews(manifest=manifest, thumbnails={0: b"jpeg"}, warnings=("amiss",))
            return f"load {self.loads}", Note(news=news, seconds={"load": 2.0}, peak_memory_bytes=1)
        if isinstance(request, OpenRequest):
            raise EntryError("the entry is gone")
        return None, Note(news=StoreNews(warnings=("gone",)), seconds={}, peak_memory_bytes=1)


def load_request() -> LoadRequest:
    return LoadRequest(clip_id="clip", store=STORE, key={}, pruning=PRUNING, thumbnails=False)


def open_request() -> OpenRequest:
    return OpenRequest(
        clip_id="clip",
        path="entry",
        arrays_digest="",
        frames=np.arange(3),
        memory=DigestMemory(folder=None),
    )


def save_request() -> SaveRequest:
    return SaveRequest(store=STORE, manifest=make_entry().manifest, thumbnails={})


@pytest.fixture
def clip() -> Clip:
    return make_clip(8)


def engine_of(encoder: StoreEncoder) -> Engine:
    engine = Engine({"decoder": [FakeDecoder("decoder-0", encoder._book)], "encoder": [encoder]})
    engine.start()
    return engine


def load(engine: Engine, clip: Clip, request: Any = None) -> EncodedClip:
    encoded, _ = engine.load(clip, request or load_request())
    assert encoded is not None
    return encoded


def test_a_hit_is_an_encoded_clip_of_the_pruning_it_was_made_with(clip: Clip) -> None:
    encoded, warnings = engine_of(StoreEncoder()).load(clip, load_request())
    assert encoded is not None
    assert encoded.bank == ("load 1",)
    assert encoded.pts_seconds == {0: 0.0, 2: 0.5}
    assert encoded.thumbnails == {0: b"jpeg"}
    assert encoded.warnings == ("a frame is missing",)
    assert warnings == ("amiss",)
    assert encoded.clip.prunings == (LARGER,)
    assert (encoded.made_for_budget, encoded.seconds) == (9, {"load": 2.0})
    assert clip.prunings != encoded.clip.prunings


def test_a_miss_is_none(clip: Clip) -> None:
    assert engine_of(StoreEncoder(hits=0)).load(clip, load_request()) == (None, ("gone",))


def test_a_worker_that_dies_over_an_entry_is_replaced(clip: Clip) -> None:
    assert load(engine_of(StoreEncoder(deaths=MAX_DEATHS - 1)), clip).bank == ("load 1",)
    with pytest.raises(WorkerError, match=r"clip\.mp4: looking for stored tokens killed its wor"):
        engine_of(StoreEncoder(deaths=MAX_DEATHS)).load(clip, load_request())


def test_what_is_lost_is_loaded_again(clip: Clip) -> None:
    encoder = StoreEncoder(hits=2, losses=1)
    engine = engine_of(encoder)
    encoded = load(engine, clip)
    assert engine.allocate(encoded, ALLOCATION).frames == ("load 2",)
    assert encoder.prunings == []


def test_what_is_lost_and_gone_is_encoded_as_it_was(clip: Clip) -> None:
    encoder = StoreEncoder(hits=1, losses=1)
    engine = engine_of(encoder)
    encoded = load(engine, clip)
    assert engine.allocate(encoded, ALLOCATION).frames == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert encoder.prunings == [(LARGER,)] * 2


def test_another_entry_does_not_stand_in_for_what_was_lost(clip: Clip) -> None:
    encoder = StoreEncoder(hits=2, losses=1)
    engine = engine_of(encoder)
    encoded = load(engine, clip)
    encoder.pruning = PRUNING
    assert engine.allocate(encoded, ALLOCATION).frames == ((0, 1, 2, 3), (4, 5, 6, 7))


def test_an_entry_without_its_video_cannot_be_made_again(clip: Clip) -> None:
    engine = engine_of(StoreEncoder(hits=1, losses=1))
    encoded = load(engine, replace(clip, segments=()), open_request())
    with pytest.raises(EntryError, match="the entry is gone"):
        engine.allocate(encoded, ALLOCATION)


def test_what_is_lost_before_it_is_saved_is_encoded_again(clip: Clip) -> None:
    encoder = StoreEncoder(losses=1)
    engine = engine_of(encoder)
    encoded = engine.encode(clip)
    assert engine.save(encoded, save_request()) == ()
    assert len(encoder.prunings) == 4
    assert encoded.seconds["busy"] == 1.0
