import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pruner import FrameLayout, Settings, Task, rank
from tests.clips import destroy_bytes, draw_clip, paint_frame, read_frame_number
from tests.workers.vision.pictures import draw_picture
from workers.arrays import unpack
from workers.checkpoint import read_config
from workers.frames import PictureChunk, Pruning, RankedFrames, TileChunk
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.chat_template import ChatTemplate
from workers.llm.prompt import Prompt, timestamp_text
from workers.messages import (
    AllocateRequest,
    EncodeRequest,
    GenerateRequest,
    Note,
    ReadNews,
    ReadRequest,
    ShortenRequest,
)
from workers.process import ModelOptions
from workers.stages import EncodeStage, GenerateStage, ReadStage
from workers.video.images import open_images
from workers.video.segments import Segment, cut_segments
from workers.video.source import open_source
from workers.video.thumbnail import make_thumbnail
from workers.vision.encoder import FrameFeatures, VisionEncoder
from workers.vision.geometry import TileGeometry
from workers.vision.resize import cut_pictures_on
from workers.vision.tiles import cut_pictures
from workers.vision.tower import read_geometry
from workers.visual import Allocation, KeptFrame, VisualSequence

FRAMES = [1, 5, 9, 20, 33]
SAMPLING = SamplingOptions(max_new_tokens=8)
LENGTH = 52
Chunk = TileChunk | PictureChunk


@pytest.fixture(scope="module")
def tiles(checkpoint: Path) -> TileGeometry:
    return read_geometry(read_config(str(checkpoint)))


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    """Five frames of a drawn clip, in chunks of two."""
    path = draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", num_frames=40)
    return segment_of(open_source(str(path)), FRAMES)


@pytest.fixture(scope="module")
def chunks(segment: Segment, tiles: TileGeometry) -> list[TileChunk]:
    return [chunk for chunk, _ in read(segment, tiles) if isinstance(chunk, TileChunk)]


@pytest.fixture(scope="module")
def pictures(segment: Segment, tiles: TileGeometry) -> list[PictureChunk]:
    outputs = [chunk for chunk, _ in read(segment, tiles, resize="fast")]
    return [chunk for chunk in outputs if isinstance(chunk, PictureChunk)]


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> ModelOptions:
    return ModelOptions(model=str(checkpoint), device="cpu", dtype="auto")


@pytest.fixture(scope="module")
def encoder(options: ModelOptions) -> EncodeStage:
    return EncodeStage(options)


@pytest.fixture(scope="module")
def vision(checkpoint: Path) -> VisionEncoder:
    return VisionEncoder(str(checkpoint), device="cpu", dtype=torch.float32)


def segment_of(source: Any, frames: Sequence[int], *, frames_per_chunk: int = 2) -> Segment:
    (segment,) = cut_segments(
        "the clip",
        source,
        np.array(frames),
        decoder="pyav",
        frames_per_chunk=frames_per_chunk,
        max_chunks=100,
    )
    return segment


def read(segment: Segment, tiles: TileGeometry, **settings: Any) -> list[tuple[Chunk, Note]]:
    return list(ReadStage().run(ReadRequest(segment=segment, tiles=tiles, **settings)))


def encode(
    encoder: EncodeStage,
    chunk: Chunk,
    tiles: TileGeometry,
    *prunings: Pruning,
    frame_indices: Sequence[int] | None = None,
    gated: bool = False,
) -> tuple[tuple[RankedFrames, ...], Note]:
    frames = chunk.frame_indices if frame_indices is None else np.array(frame_indices)
    request = EncodeRequest(tiles=tiles, prunings=prunings, frame_indices=frames, gated=gated)
    (result,) = encoder.run(request, chunk)
    return result


def pruning(method: str = "mr_pruner", *, num_keep: int = 11, **settings: Any) -> Pruning:
    return Pruning(method=method, num_keep=num_keep, **({"max_keep": 30} | settings))


def allocate(
    encoder: EncodeStage, inputs: Sequence[tuple[RankedFrames, ...]], **settings: Any
) -> tuple[VisualSequence, tuple[KeptFrame, ...]]:
    allocation = Allocation(method="mr_pruner", **settings)
    ((visual, note),) = encoder.run(AllocateRequest(allocation=allocation), *inputs)
    return visual, note.news


def flat_tokens(features: FrameFeatures) -> torch.Tensor:
    """Return (n, num_tokens, hidden) in the order of the flat indices."""
    newline = features.newline.expand(*features.grid.shape[:2], 1, -1)
    rows = torch.cat([features.grid, newline], dim=2).flatten(1, 2)
    return torch.cat([features.base, rows], dim=1)


def check_same(some: RankedFrames, others: RankedFrames) -> None:
    assert some.layouts == others.layouts
    for name in ("frame_indices", "pts_seconds", "counts", "order", "features", "informativeness"):
        np.testing.assert_array_equal(getattr(some, name), getattr(others, name), err_msg=name)


def test_the_read_stage_gives_tiles_and_tells_what_is_in_them(
    segment: Segment, tiles: TileGeometry
) -> None:
    results = read(segment, tiles)
    chunks = [chunk for chunk, _ in results]
    assert [chunk.frame_indices.tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]
    assert {chunk.clip_id for chunk in chunks} == {"the clip"}
    times = np.concatenate([chunk.pts_seconds for chunk in chunks])
    np.testing.assert_allclose(times, np.array(FRAMES) / 25)
    bases = [
        chunk.tiles[first]
        for chunk in chunks
        for first in np.cumsum(chunk.num_tiles) - chunk.num_tiles
    ]
    assert [read_frame_number(base) for base in bases] == FRAMES
    for chunk, note in results:
        news = note.news
        assert isinstance(news, ReadNews)
        assert news.num_covered == len(chunk)
        np.testing.assert_array_equal(news.frame_indices, chunk.frame_indices)
        np.testing.assert_array_equal(news.pts_seconds, chunk.pts_seconds)
        assert (news.thumbnails, news.warnings) == ((), ())
        assert set(note.seconds) == {"decode", "tile"}
        assert min(note.seconds.values()) > 0
        assert note.peak_memory_bytes > 50_000_000


def test_a_chunk_with_the_fast_resize_holds_the_pictures(pictures: list[PictureChunk]) -> None:
    assert [chunk.frame_indices.tolist() for chunk in pictures] == [[0, 1], [2, 3], [4]]
    shown = [picture for chunk in pictures for picture in chunk.pictures]
    assert [read_frame_number(picture) for picture in shown] == FRAMES
    assert {picture.shape for picture in shown} == {(96, 160, 3)}


def test_the_tiles_are_those_of_the_pictures(
    chunks: list[TileChunk], pictures: list[PictureChunk], tiles: TileGeometry
) -> None:
    for chunk, shown in zip(chunks, pictures, strict=True):
        cut, frames = cut_pictures(shown.pictures, tiles)
        np.testing.assert_array_equal(chunk.tiles, cut)
        assert chunk.num_tiles.tolist() == [frame.num_tiles for frame in frames]
        assert chunk.sizes.tolist() == [[96, 160]] * len(shown)


@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_frames_that_cannot_be_read_are_named_and_counted(
    tmp_path: Path, tiles: TileGeometry, resize: str
) -> None:
    sound = draw_clip(tmp_path / "sound.mp4", num_frames=60)
    source = open_source(str(sound))
    damaged = destroy_bytes(sound, tmp_path / "damaged.mp4", start_share=0.3, end_share=0.5)
    broken = segment_of(replace(source, path=str(damaged)), range(60), frames_per_chunk=1)
    results = read(broken, tiles, resize=resize, thumbnail_width=80)
    assert [note.news.num_covered for _, note in results] == [1] * 60
    found = [frame for _, note in results for frame in note.news.frame_indices.tolist()]
    assert 0 < len(found) < 60
    for frame, (chunk, note) in enumerate(results):
        was_read = frame in found
        assert len(chunk) == len(note.news.frame_indices) == len(note.news.thumbnails) == was_read
        assert bool(note.news.warnings) == (not was_read)


@pytest.mark.parametrize("width", [40, 160, 400])
@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_thumbnails_show_the_frame(
    segment: Segment, tiles: TileGeometry, width: int, resize: str
) -> None:
    results = read(segment, tiles, thumbnail_width=width, resize=resize)
    thumbnails = [picture for _, note in results for picture in note.news.thumbnails]
    assert all(picture.startswith(b"\xff\xd8") for picture in thumbnails)
    pictures = [np.asarray(Image.open(io.BytesIO(picture))) for picture in thumbnails]
    assert [read_frame_number(picture) for picture in pictures] == FRAMES
    assert {picture.shape[1] for picture in pictures} == {min(width, 160)}


def test_a_thumbnail_is_never_larger_than_the_frame() -> None:
    small = make_thumbnail(np.zeros((10, 20, 3), np.uint8), 448)
    assert Image.open(io.BytesIO(small)).size == (20, 10)
    tall = make_thumbnail(np.zeros((300, 20, 3), np.uint8), 10)
    assert Image.open(io.BytesIO(tall)).size == (1, 20)


@pytest.mark.parametrize("max_keep", [1, 13, 44, 1000])
def test_ranked_frames_are_the_best_of_each_frame_s_ranking(
    encoder: EncodeStage,
    vision: VisionEncoder,
    chunks: list[TileChunk],
    tiles: TileGeometry,
    max_keep: int,
) -> None:
    settings = Settings(beta=0.8, num_steps=2)
    chunk = chunks[0]
    (ranked,), _ = encode(encoder, chunk, tiles, pruning(max_keep=max_keep, settings=settings))
    (features,) = vision.encode(chunk.tiles, [tiles.frame(96, 160)] * 2)
    task = Task(frame_indices=[0, 1], num_keep=11, settings=settings)
    ranking = rank("mr_pruner", features.base, features.grid, task)
    count = min(max_keep, LENGTH)
    assert ranked.counts.tolist() == [count, count]
    order = ranked.order.reshape(2, count)
    assert order.tolist() == ranking.order[:, :count].tolist()
    np.testing.assert_array_equal(ranked.informativeness, ranking.informativeness.numpy())
    flat = flat_tokens(features)
    expected = torch.stack([flat[frame][order[frame]] for frame in range(2)])
    assert torch.equal(unpack(ranked.features, ranked.dtype).view_as(expected), expected)
    assert ranked.layouts == (FrameLayout(num_base=16, rows=4, columns=8),) * 2
    assert ranked.layouts[0].num_tokens == LENGTH


def test_ranked_frames_keep_clip_number_and_time_of_their_frames(
    encoder: EncodeStage, chunks: list[TileChunk], tiles: TileGeometry
) -> None:
    results = [encode(encoder, chunk, tiles, pruning())[0][0] for chunk in chunks]
    assert [each.frame_indices.tolist() for each in results] == [[0, 1], [2, 3], [4]]
    assert {each.clip_id for each in results} == {"the clip"}
    times = np.concatenate([each.pts_seconds for each in results])
    np.testing.assert_allclose(times, np.array(FRAMES) / 25)


def test_a_chunk_is_encoded_once_for_all_prunings(
    encoder: EncodeStage, chunks: list[TileChunk], tiles: TileGeometry
) -> None:
    prunings = [pruning(), pruning("none", num_keep=0, max_keep=99), pruning("random", seed=3)]
    together, note = encode(encoder, chunks[0], tiles, *prunings)
    assert len(note.news.prune_seconds) == 3
    assert min(note.news.prune_seconds) > 0
    assert note.news.num_encoded_tiles == 2 * 5
    assert set(note.seconds) == {"encode"}
    for each, alone in zip(together, prunings, strict=True):
        check_same(each, encode(encoder, chunks[0], tiles, alone)[0][0])
    assert together[1].order.tolist() == [*range(LENGTH)] * 2
    assert together[0].order.tolist() != together[2].order.tolist()


@pytest.mark.parametrize("method", ["mr_pruner", "random", "uniform", "gprune", "none"])
def test_a_frame_s_ranking_does_not_depend_on_its_chunk(
    encoder: EncodeStage, chunks: list[TileChunk], tiles: TileGeometry, method: str
) -> None:
    (together,), _ = encode(encoder, chunks[1], tiles, pruning(method))
    (alone,), _ = encode(encoder, chunks[1][1:], tiles, pruning(method))
    (chosen,), _ = encode(encoder, chunks[1], tiles, pruning(method), frame_indices=[3])
    check_same(alone, together[1:])
    check_same(chosen, alone)


def test_bfloat16_travels_as_bits(
    checkpoint: Path, chunks: list[TileChunk], tiles: TileGeometry
) -> None:
    stage = EncodeStage(ModelOptions(model=str(checkpoint), device="cpu", dtype="bfloat16"))
    (ranked,), _ = encode(stage, chunks[0], tiles, pruning(max_keep=20))
    assert (ranked.features.dtype, ranked.dtype) == (np.uint16, "bfloat16")
    vision = VisionEncoder(str(checkpoint), device="cpu", dtype=torch.bfloat16)
    (features,) = vision.encode(chunks[0].tiles, [tiles.frame(96, 160)] * 2)
    expected = flat_tokens(features)[0][torch.from_numpy(ranked.order[:20])]
    assert torch.equal(unpack(ranked.features[:20], ranked.dtype), expected)


def test_the_fast_resize_encodes_the_pictures_that_it_cuts_itself(
    encoder: EncodeStage,
    vision: VisionEncoder,
    pictures: list[PictureChunk],
    tiles: TileGeometry,
) -> None:
    (ranked,), _ = encode(encoder, pictures[1], tiles, pruning("none", max_keep=99))
    cut, frames = cut_pictures_on(torch.device("cpu"), pictures[1].pictures, tiles)
    (features,) = vision.encode(cut, frames)
    expected = flat_tokens(features).flatten(0, 1)
    assert torch.equal(unpack(ranked.features, ranked.dtype), expected)
    (second,), _ = encode(
        encoder, pictures[1], tiles, pruning("none", max_keep=99), frame_indices=[3]
    )
    check_same(second, ranked[1:])


SIZES = [(96, 160), (96, 160), (160, 96), (40, 40), (3, 200), (96, 160)]
"""The fifth is thinner than a token: of it there is but one tile."""


@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_pictures_of_several_sizes_share_a_chunk(
    encoder: EncodeStage, tiles: TileGeometry, resize: str
) -> None:
    drawn = [draw_picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    segment = segment_of(open_images(drawn), range(6), frames_per_chunk=6)
    ((chunk, _),) = read(segment, tiles, resize=resize)
    (ranked,), _ = encode(encoder, chunk, tiles, pruning(max_keep=99))
    assert ranked.layouts == tuple(tiles.frame(*size).layout for size in SIZES)
    assert [layout.rows for layout in ranked.layouts][4] == 0
    assert ranked.counts.tolist() == [layout.num_tokens for layout in ranked.layouts]
    assert ranked.frame_indices.tolist() == list(range(6))
    for place in range(6):
        (alone,), _ = encode(encoder, chunk[place : place + 1], tiles, pruning(max_keep=99))
        check_same(alone, ranked[place : place + 1])
        assert sorted(alone.order.tolist()) == list(range(alone.layouts[0].num_tokens))


@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_without_a_grid_only_the_base_is_cut_and_ranked(
    encoder: EncodeStage, segment: Segment, tiles: TileGeometry, resize: str
) -> None:
    base_tiles = tiles.without_grid()
    chunk, _ = read(segment, base_tiles, resize=resize)[0]
    (ranked,), _ = encode(encoder, chunk, base_tiles, pruning("none", max_keep=99))
    assert ranked.layouts == (FrameLayout(num_base=16, rows=0, columns=0),) * 2
    whole, _ = read(segment, tiles, resize=resize)[0]
    (both,), _ = encode(encoder, whole, tiles, pruning("none", max_keep=99))
    for place in range(2):
        np.testing.assert_array_equal(
            ranked[place : place + 1].features, both[place : place + 1].features[:16]
        )


@pytest.fixture(scope="module")
def long_segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    """Twenty frames, of which the lower half stays as it is, in chunks of eight."""
    path = draw_clip(tmp_path_factory.mktemp("clip") / "long.mp4", num_frames=20)
    return segment_of(open_source(str(path)), range(20), frames_per_chunk=8)


@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_a_gated_chunk_has_its_anchor_in_front(
    long_segment: Segment, tiles: TileGeometry, resize: str
) -> None:
    results = read(long_segment, tiles, gated=True, resize=resize, thumbnail_width=40)
    told = [note.news for _, note in results]
    assert [news.frame_indices.tolist() for news in told] == [
        [*range(8)], [*range(8, 16)], [*range(16, 20)],
    ]  # fmt: skip
    assert [(news.num_covered, len(news.thumbnails)) for news in told] == [(8, 8), (8, 8), (4, 4)]
    chunks = [chunk for chunk, _ in results]
    assert [chunk.frame_indices.tolist() for chunk in chunks] == [
        [*range(8)], [0, *range(8, 16)], [*range(16, 20)],
    ]  # fmt: skip
    pixels = "tiles" if resize == "exact" else "pictures"
    first = getattr(chunks[0][:1], pixels)
    np.testing.assert_array_equal(getattr(chunks[1][:1], pixels), first)


@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_a_gated_frame_gives_the_same_wherever_it_is_read_and_encoded(
    encoder: EncodeStage, long_segment: Segment, tiles: TileGeometry, resize: str
) -> None:
    ways = {"gated": True, "resize": resize}
    results = read(long_segment, tiles, **ways)
    whole = pruning(max_keep=99)
    every = [
        encode(encoder, chunk, tiles, whole, frame_indices=note.news.frame_indices, gated=True)
        for chunk, note in results
    ]
    assert sum(note.news.num_encoded_tiles for _, note in every) < 20 * 5
    together = [ranked[row : row + 1] for (ranked,), _ in every for row in range(len(ranked))]
    for frame in (0, 3, 8, 13, 19):
        anchor = long_segment[frame // 16 * 16 :][:1] if frame % 16 else None
        ((chunk, _),) = read(long_segment[frame : frame + 1], tiles, anchor=anchor, **ways)
        for at_hand in (chunk, results[frame // 8][0]):
            (alone,), _ = encode(encoder, at_hand, tiles, whole, frame_indices=[frame], gated=True)
            check_same(alone, together[frame])


def test_without_its_anchor_a_frame_is_encoded_in_full(
    encoder: EncodeStage, long_segment: Segment, tiles: TileGeometry
) -> None:
    (whole, _), *_ = read(long_segment, tiles, gated=True)
    (expected,), _ = encode(encoder, whole[1:], tiles, pruning(max_keep=99))
    (ranked,), note = encode(encoder, whole[1:], tiles, pruning(max_keep=99), gated=True)
    check_same(ranked, expected)
    assert note.news.num_encoded_tiles == 7 * 5


def test_an_anchor_that_cannot_be_read_is_missing_from_its_group(
    tmp_path: Path, tiles: TileGeometry
) -> None:
    sound = draw_clip(tmp_path / "sound.mp4", num_frames=60, gop=1)
    source = open_source(str(sound))
    damaged = destroy_bytes(sound, tmp_path / "damaged.mp4", start_share=0.22, end_share=0.32)
    broken = segment_of(replace(source, path=str(damaged)), range(60), frames_per_chunk=8)
    chunks = [chunk.frame_indices.tolist() for chunk, _ in read(broken, tiles, gated=True)]
    missing = {*range(40)} - {*chunks[0], *chunks[1], *chunks[2], *chunks[3], *chunks[4]}
    assert 16 in missing
    assert chunks[1] == [0, *(frame for frame in range(8, 16) if frame not in missing)]
    assert chunks[2] == [frame for frame in range(16, 24) if frame not in missing]
    assert chunks[3] == [*range(24, 32)]
    assert chunks[5] == [32, *range(40, 48)]


def test_a_stage_remembers_nothing_of_another_clip(
    options: ModelOptions, encoder: EncodeStage, chunks: list[TileChunk], tiles: TileGeometry
) -> None:
    other = replace(chunks[1], clip_id="other", frame_indices=np.array([0, 1]))
    (first,), (second,) = (
        encode(encoder, chunk, tiles, pruning())[0] for chunk in (chunks[0], other)
    )
    assert (first.clip_id, second.clip_id) == ("the clip", "other")
    own, frames = allocate(encoder, [(first,)], budget=40)
    fresh = EncodeStage(options)
    alone, expected = allocate(fresh, [encode(fresh, chunks[0], tiles, pruning())[0]], budget=40)
    assert (
        own.visual_id == alone.visual_id != allocate(encoder, [(second,)], budget=40)[0].visual_id
    )
    kept = [[frame.keep_indices.tolist() for frame in each] for each in (frames, expected)]
    assert kept[0] == kept[1]


def test_allocating_takes_ranked_frames_in_any_order(
    encoder: EncodeStage, chunks: list[TileChunk], tiles: TileGeometry
) -> None:
    inputs = [encode(encoder, chunk, tiles, pruning(max_keep=44))[0] for chunk in chunks]
    visual, frames = allocate(encoder, inputs[::-1], budget=60)
    assert [frame.frame_index for frame in frames] == list(range(5))
    assert [frame.pts_seconds for frame in frames] == pytest.approx(np.array(FRAMES) / 25)
    assert sum(frame.num_visual_tokens for frame in frames) == len(visual.features) == 60
    assert visual.visual_id == allocate(encoder, inputs, budget=60)[0].visual_id
    paid, marked = allocate(encoder, inputs, budget=60, num_timestamp_tokens=(3, 4, 3, 3, 3))
    assert len(paid.features) == 60 - 16
    assert [frame.num_timestamp_tokens for frame in marked] == [3, 4, 3, 3, 3]
    assert sum(frame.num_visual_tokens for frame in marked) == 60


def test_allocating_takes_the_pruning_that_is_meant(
    encoder: EncodeStage, chunks: list[TileChunk], tiles: TileGeometry
) -> None:
    prunings = pruning("random", seed=1), pruning("random", seed=2)
    inputs = [encode(encoder, chunk, tiles, *prunings)[0] for chunk in chunks]
    for number in (0, 1):
        _, frames = allocate(encoder, inputs, budget=40, pruning=number, novelty=False)
        for frame in frames:
            ranked = inputs[frame.frame_index // 2][number]
            order = ranked[frame.frame_index % 2 :][:1].order[: len(frame.keep_indices)]
            assert frame.keep_indices.tolist() == sorted(order.tolist())


def test_allocating_takes_frames_of_several_sizes(
    encoder: EncodeStage, tiles: TileGeometry
) -> None:
    drawn = [draw_picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    segment = segment_of(open_images(drawn), range(6))
    inputs = [
        encode(encoder, chunk, tiles, pruning(max_keep=99))[0] for chunk, _ in read(segment, tiles)
    ]
    visual, frames = allocate(encoder, inputs, budget=10_000)
    layouts = [tiles.frame(*size).layout for size in SIZES]
    assert [frame.layout for frame in frames] == layouts
    lengths = [layout.num_tokens for layout in layouts]
    assert visual.frame_lengths.tolist() == visual.counts.tolist() == lengths


def make_prompt(
    checkpoint: Path, frames: Sequence[KeptFrame], question: str = "What color is the cat?"
) -> Prompt:
    stamps = [timestamp_text(frame.pts_seconds) for frame in frames]
    return ChatTemplate.load(str(checkpoint)).build(question, stamps)


def test_an_answer_comes_in_pieces_and_ends_with_its_record(
    checkpoint: Path,
    options: ModelOptions,
    encoder: EncodeStage,
    chunks: list[TileChunk],
    tiles: TileGeometry,
) -> None:
    stage = GenerateStage(options)
    inputs = [encode(encoder, chunk, tiles, pruning(max_keep=44))[0] for chunk in chunks]
    visual, frames = allocate(encoder, inputs, budget=60)
    request = GenerateRequest(prompt=make_prompt(checkpoint, frames), sampling=SAMPLING)
    outputs, notes = zip(*stage.run(request, visual), strict=True)
    assert set(outputs) == {None}
    *pieces, record = (note.news for note in notes)
    assert isinstance(record, GeneratedAnswer)
    assert record.text == "".join(pieces).strip()
    assert len(record.token_ids) == 8
    assert record.num_text_tokens == request.prompt.num_text_tokens
    assert all(note.seconds == {} for note in notes[:-1])
    assert notes[-1].seconds == record.seconds
    assert set(record.seconds) == {"prefill", "generate"}
    *_, (_, last) = stage.run(request, visual)
    assert last.news.token_ids == record.token_ids


def test_any_other_stage_gives_the_same_answers_about_clips_in_turn(
    checkpoint: Path,
    options: ModelOptions,
    encoder: EncodeStage,
    chunks: list[TileChunk],
    tiles: TileGeometry,
) -> None:
    shown = [
        allocate(encoder, [encode(encoder, chunk, tiles, pruning())[0]], budget=50)
        for chunk in chunks[:2]
    ]

    def answers(stage: GenerateStage, order: Sequence[int]) -> dict[int, tuple[int, ...]]:
        said = {}
        for number in order:
            visual, frames = shown[number]
            request = GenerateRequest(prompt=make_prompt(checkpoint, frames), sampling=SAMPLING)
            *_, (_, note) = stage.run(request, visual)
            said[number] = note.news.token_ids
        return said

    first, second = (GenerateStage(options) for _ in range(2))
    assert answers(first, [0, 1, 0, 1]) == answers(second, [1, 0])
    assert answers(first, [0])[0] != answers(first, [1])[1]


def test_a_painted_picture_is_read_through_all_stages(
    encoder: EncodeStage, tiles: TileGeometry
) -> None:
    painted = open_images([paint_frame(number) for number in (3, 700)])
    ((chunk, note),) = read(segment_of(painted, [0, 1]), tiles, thumbnail_width=64)
    bases = [chunk.tiles[place] for place in (0, chunk.num_tiles[0])]
    assert [read_frame_number(base) for base in bases] == [3, 700]
    shown = [np.asarray(Image.open(io.BytesIO(each))) for each in note.news.thumbnails]
    assert [read_frame_number(picture) for picture in shown] == [3, 700]
    _, frames = allocate(encoder, [encode(encoder, chunk, tiles, pruning())[0]], budget=20)
    assert [frame.pts_seconds for frame in frames] == [0.0, 1.0]


def test_a_lazy_stage_loads_the_vision_half_with_the_first_frames(
    options: ModelOptions,
    chunks: list[TileChunk],
    tiles: TileGeometry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []

    class Counted(VisionEncoder):
        def __init__(self, location: str, **settings: Any) -> None:
            loaded.append(location)
            super().__init__(location, **settings)

    monkeypatch.setattr("workers.vision.encoder.VisionEncoder", Counted)
    lazy = EncodeStage(options, lazy=True)
    assert loaded == []
    ranked = [encode(lazy, chunk, tiles, pruning())[0] for chunk in chunks]
    assert len(loaded) == 1
    allocate(lazy, ranked, budget=30)
    EncodeStage(options)
    assert len(loaded) == 2


@pytest.mark.parametrize("stand_ins", [False, True])
@pytest.mark.parametrize("most", [1, 5, 9, 1000])
def test_a_shortened_frame_is_the_frame_ranked_for_less(
    encoder: EncodeStage, chunks: list[TileChunk], tiles: TileGeometry, most: int, stand_ins: bool
) -> None:
    pruning = Pruning(method="mr_pruner", num_keep=8, max_keep=12, stand_ins=stand_ins)
    whole, _ = encode(encoder, chunks[0][:1], tiles, pruning)
    less, _ = encode(encoder, chunks[0][:1], tiles, replace(pruning, max_keep=min(most, 12)))
    ((short, note),) = encoder.run(ShortenRequest(max_keep=most), whole)
    assert note.news is None
    for name in ("frame_indices", "counts", "order", "features", "informativeness", "stand_ins"):
        np.testing.assert_array_equal(getattr(short[0], name), getattr(less[0], name))
    assert short[0].features.base is None  # what is cut off is not held with it
    assert short[0].order.base is None
