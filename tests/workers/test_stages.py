import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pruner import Settings, rank_frames
from tests.clips import draw_clip, read_frame_number
from workers.arrays import unpack
from workers.messages import (
    BudgetOptions,
    Candidates,
    FrameChunk,
    GeneratedAnswer,
    ModelOptions,
    PruneOptions,
    SamplingOptions,
    Segment,
)
from workers.stages import (
    AnswerStage,
    DecodeStage,
    EncodeStage,
    make_thumbnail,
)
from workers.video.decode import cut_segments, index_video
from workers.vision.encoder import VisionEncoder

FRAMES = [1, 5, 9, 20, 33]
SAMPLING = SamplingOptions(max_new_tokens=8)


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    """Five frames of a drawn clip, in chunks of two."""
    path = draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", num_frames=40)
    (segment,) = cut_segments(
        index_video(str(path)),
        np.array(FRAMES),
        decoder="pyav",
        frames_per_chunk=2,
        num_segments=1,
    )
    return segment


@pytest.fixture(scope="module")
def chunks(segment: Segment) -> list[FrameChunk]:
    return list(DecodeStage().decode(segment))


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> ModelOptions:
    return ModelOptions(model=str(checkpoint), device="cpu", dtype="auto")


@pytest.fixture(scope="module")
def encoder(options: ModelOptions) -> EncodeStage:
    return EncodeStage(options)


def encode_all(
    encoder: EncodeStage, chunks: Sequence[FrameChunk], prune: PruneOptions
) -> list[Candidates]:
    return [encoder.encode(chunk, [prune])[0] for chunk in chunks]


def test_the_decode_stage_gives_the_frames_and_its_time(segment: Segment) -> None:
    stage = DecodeStage()
    chunks = list(stage.decode(segment))
    assert [chunk.frame_indices.tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]
    numbers = [read_frame_number(frame) for chunk in chunks for frame in chunk.frames]
    assert numbers == FRAMES
    seconds = stage.usage().seconds
    assert list(seconds) == ["decode"]
    assert seconds["decode"] > 0


@pytest.mark.parametrize("max_keep", [1, 13, 44, 1000])
def test_candidates_are_the_best_of_each_frame_s_ranking(
    checkpoint: Path, encoder: EncodeStage, chunks: list[FrameChunk], max_keep: int
) -> None:
    prune = PruneOptions(num_keep=11, max_keep=max_keep, beta=0.8, num_steps=2)
    chunk = chunks[0]
    candidates = encoder.encode(chunk, [prune])[0]
    vision = VisionEncoder(str(checkpoint), device="cpu", dtype=torch.float32)
    features = vision.encode(chunk.frames)
    settings = Settings(beta=0.8, num_steps=2)
    ranking = rank_frames(features.base, features.grid, num_keep=11, settings=settings)
    num_tokens = ranking.order.shape[1]
    count = min(max_keep, num_tokens)
    assert candidates.counts.tolist() == [count, count]
    order = candidates.order.reshape(2, count)
    assert order.tolist() == ranking.order[:, :count].tolist()
    np.testing.assert_array_equal(candidates.informativeness, ranking.informativeness.numpy())
    newline = features.newline.expand(*features.grid.shape[:2], 1, -1)
    rows = torch.cat([features.grid, newline], dim=2).flatten(1, 2)
    flat = torch.cat([features.base, rows], dim=1)
    expected = torch.stack([flat[frame][order[frame]] for frame in range(2)])
    assert torch.equal(torch.from_numpy(candidates.features).view_as(expected), expected)
    assert candidates.num_base + candidates.rows * (candidates.columns + 1) == num_tokens


def test_candidates_keep_number_and_time_of_their_frames(
    encoder: EncodeStage, chunks: list[FrameChunk]
) -> None:
    candidates = encode_all(encoder, chunks, PruneOptions(num_keep=4, max_keep=4))
    assert [each.frame_indices.tolist() for each in candidates] == [[0, 1], [2, 3], [4]]
    times = np.concatenate([each.pts_seconds for each in candidates])
    np.testing.assert_allclose(times, np.array(FRAMES) / 25)
    assert [each.thumbnails for each in candidates] == [()] * 3


def test_a_frame_s_candidates_do_not_depend_on_its_chunk(
    encoder: EncodeStage, chunks: list[FrameChunk]
) -> None:
    prune = PruneOptions(num_keep=9, max_keep=30)
    together = encoder.encode(chunks[1], [prune])[0]
    second = FrameChunk(
        chunk_index=0,
        frame_indices=chunks[1].frame_indices[1:],
        pts_seconds=chunks[1].pts_seconds[1:],
        frames=chunks[1].frames[1:],
    )
    alone = encoder.encode(second, [prune])[0]
    np.testing.assert_array_equal(alone.order, together.order[30:])
    np.testing.assert_array_equal(alone.features, together.features[30:])


def test_bfloat16_travels_as_bits(checkpoint: Path, chunks: list[FrameChunk]) -> None:
    stage = EncodeStage(ModelOptions(model=str(checkpoint), device="cpu", dtype="bfloat16"))
    candidates = stage.encode(chunks[0], [PruneOptions(num_keep=20, max_keep=20)])[0]
    assert (candidates.features.dtype, candidates.dtype) == (np.uint16, "bfloat16")
    vision = VisionEncoder(str(checkpoint), device="cpu", dtype=torch.bfloat16)
    features = vision.encode(chunks[0].frames)
    order = torch.from_numpy(candidates.order[:20])
    is_base = order < candidates.num_base
    actual = unpack(candidates.features[:20], candidates.dtype)[is_base]
    assert torch.equal(actual, features.base[0][order[is_base]])


@pytest.mark.parametrize("width", [40, 160, 400])
def test_thumbnails_show_the_frame(
    encoder: EncodeStage, chunks: list[FrameChunk], width: int
) -> None:
    prune = PruneOptions(num_keep=4, max_keep=4, thumbnail_width=width)
    thumbnails = [
        picture for each in encode_all(encoder, chunks, prune) for picture in each.thumbnails
    ]
    assert all(picture.startswith(b"\xff\xd8") for picture in thumbnails)
    pictures = [np.asarray(Image.open(io.BytesIO(picture))) for picture in thumbnails]
    assert [read_frame_number(picture) for picture in pictures] == FRAMES
    assert {picture.shape[1] for picture in pictures} == {min(width, 160)}


def test_a_thumbnail_is_never_larger_than_the_frame() -> None:
    small = make_thumbnail(np.zeros((10, 20, 3), np.uint8), 448)
    assert Image.open(io.BytesIO(small)).size == (20, 10)
    tall = make_thumbnail(np.zeros((300, 20, 3), np.uint8), 10)
    assert Image.open(io.BytesIO(tall)).size == (10, 150)


def test_the_encode_stage_knows_its_time(options: ModelOptions, chunks: list[FrameChunk]) -> None:
    stage = EncodeStage(options)
    assert stage.usage().seconds == {}
    stage.encode(chunks[0], [PruneOptions(num_keep=4, max_keep=4)])
    first = stage.usage()
    stage.encode(chunks[1], [PruneOptions(num_keep=4, max_keep=4)])
    second = stage.usage()
    assert set(first.seconds) == {"encode", "prune"}
    assert all(0 < first.seconds[name] < second.seconds[name] for name in first.seconds)
    assert second.peak_memory_bytes >= first.peak_memory_bytes > 50_000_000


def test_an_answer_ends_with_its_record(
    options: ModelOptions, encoder: EncodeStage, chunks: list[FrameChunk]
) -> None:
    stage = AnswerStage(options)
    candidates = encode_all(encoder, chunks, PruneOptions(num_keep=20, max_keep=44))
    selections = stage.select(
        BudgetOptions(budget=60, time_marks=True), *[(each,) for each in candidates[::-1]]
    )
    assert sum(selection.num_visual_tokens for selection in selections) == 60
    assert [selection.frame_index for selection in selections] == list(range(5))
    assert min(selection.num_marker_tokens for selection in selections) > 0
    *pieces, record = stage.answer("What color is the cat?", SAMPLING)
    assert isinstance(record, GeneratedAnswer)
    assert record.text == "".join(map(str, pieces)).strip()
    assert len(record.token_ids) == 8
    assert set(record.seconds) == {"prefill", "generate"}
    assert set(stage.usage().seconds) == {"select", "load", "prefill"}
    *_, again = stage.answer("What color is the cat?", SAMPLING)
    assert isinstance(again, GeneratedAnswer)
    assert again.token_ids == record.token_ids
    prefill = record.seconds["prefill"] - again.seconds["prefill"]
    assert prefill > 0


def test_measured_marks_are_what_the_selection_pays(
    options: ModelOptions, encoder: EncodeStage, chunks: list[FrameChunk]
) -> None:
    stage = AnswerStage(options)
    candidates = encode_all(encoder, chunks, PruneOptions(num_keep=20, max_keep=44))
    selections = stage.select(
        BudgetOptions(budget=70, time_marks=True), *[(each,) for each in candidates]
    )
    times = [selection.pts_seconds for selection in selections]
    cost = stage.measure(["Why?"], times)
    assert cost.num_marker_tokens == tuple(each.num_marker_tokens for each in selections)


def test_a_prompt_never_costs_more_than_was_measured(
    options: ModelOptions, encoder: EncodeStage, chunks: list[FrameChunk]
) -> None:
    stage = AnswerStage(options)
    questions = ["Why?", "What is the long name of the animal beside the tree in the picture?"]
    cost = stage.measure(questions, [])
    candidates = encode_all(encoder, chunks, PruneOptions(num_keep=4, max_keep=4))
    stage.select(BudgetOptions(budget=20), *[(each,) for each in candidates])
    used = []
    for question in questions:
        *_, record = stage.answer(question, SAMPLING)
        assert isinstance(record, GeneratedAnswer)
        used.append(record.num_text_tokens)
    bound = cost.num_text_tokens + 5 * cost.num_separator_tokens
    assert max(used) == bound
    assert min(used) < bound
    assert cost.context_length == 32_768
    assert cost.num_marker_tokens == ()
