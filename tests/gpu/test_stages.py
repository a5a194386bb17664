"""Every stage on a device, in float32, against the same stage on the CPU. No video is needed."""

from typing import Any

import numpy as np
import pytest

from pruner import METHODS
from workers.arrays import UInt8Array, unpack
from workers.checkpoint import locate
from workers.frames import Pruning, RankedFrames, TileChunk
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.chat_template import ChatTemplate
from workers.messages import AllocateRequest, EncodeRequest, GenerateRequest
from workers.process import ModelOptions
from workers.stages import EncodeStage, GenerateStage
from workers.vision.geometry import TileGeometry
from workers.vision.tiles import cut_pictures
from workers.visual import Allocation, KeptFrame, VisualSequence

QUESTION = "how many shapes are there?"
BUDGET = 90
RANKING = [name for name, method in METHODS.items() if method.scope == "frame"]


def pictures() -> UInt8Array:
    coarse = np.random.default_rng(7).integers(0, 256, (5, 9, 16, 3), np.uint8)
    return coarse.repeat(14, axis=1).repeat(14, axis=2)


def chunk_of(encoder: EncodeStage) -> tuple[TileChunk, TileGeometry]:
    geometry = encoder._encoder.geometry
    tiles, frames = cut_pictures(pictures(), geometry)
    chunk = TileChunk(
        clip_id="noise",
        frame_indices=np.arange(5),
        pts_seconds=np.arange(5.0),
        sizes=np.full((5, 2), (126, 224)),
        num_tiles=np.array([frame.num_tiles for frame in frames]),
        tiles=tiles,
    )
    return chunk, geometry


def make_options(device: str) -> ModelOptions:
    return ModelOptions(device=device, dtype="float32")


def encode(device: str, method: str) -> RankedFrames:
    stage = EncodeStage(make_options(device))
    chunk, tiles = chunk_of(stage)
    pruning = Pruning(method=method, num_keep=18, max_keep=40)
    request = EncodeRequest(tiles=tiles, prunings=(pruning,), frame_indices=np.arange(5))
    (((ranked,), note),) = stage.run(request, chunk)
    assert set(note.seconds) == {"encode"}
    return ranked


def allocate(device: str) -> tuple[VisualSequence, tuple[KeptFrame, ...]]:
    stage = EncodeStage(make_options(device), lazy=True)
    request = AllocateRequest(allocation=Allocation(method="mr_pruner", budget=BUDGET))
    ((visual, note),) = stage.run(request, (encode(device, "mr_pruner"),))
    return visual, note.news


def generate(device: str, visual: VisualSequence) -> GeneratedAnswer:
    stage = GenerateStage(make_options(device))
    prompt = ChatTemplate.load(locate("embedded")).build(QUESTION, [""] * len(visual))
    request = GenerateRequest(prompt=prompt, sampling=SamplingOptions(max_new_tokens=8))
    *_, (_, note) = stage.run(request, visual)
    return note.news


def assert_close(one: Any, two: Any) -> None:
    np.testing.assert_allclose(
        unpack(one.features, one.dtype), unpack(two.features, two.dtype), atol=1e-4, rtol=1e-4
    )


def test_encoding(device: str) -> None:
    here, there = encode("cpu", "uniform"), encode(device, "uniform")
    assert there.dtype == "float32"
    np.testing.assert_array_equal(there.order, here.order)
    assert_close(there, here)


@pytest.mark.parametrize("method", RANKING)
def test_pruning(device: str, method: str) -> None:
    here, there = encode("cpu", method), encode(device, method)
    np.testing.assert_array_equal(there.order, here.order)
    np.testing.assert_allclose(there.informativeness, here.informativeness, rtol=1e-5)


def test_allocation(device: str) -> None:
    (here, kept), (there, kept_there) = allocate("cpu"), allocate(device)
    assert there.counts.sum() == BUDGET
    np.testing.assert_array_equal(there.counts, here.counts)
    np.testing.assert_array_equal(there.keep_indices, here.keep_indices)
    assert_close(there, here)
    novelty = [frame.novelty for frame in kept_there]
    assert novelty == pytest.approx([frame.novelty for frame in kept], abs=1e-4)


def test_generating(device: str) -> None:
    visual, _ = allocate("cpu")
    here, there = generate("cpu", visual), generate(device, visual)
    assert len(here.token_ids) > 1
    assert there.token_ids == here.token_ids


def test_from_tiles_to_an_answer(device: str) -> None:
    here, there = (generate(name, allocate(name)[0]) for name in ("cpu", device))
    assert there.text == here.text
