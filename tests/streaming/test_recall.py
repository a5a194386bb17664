"""Stored tokens in the pipeline: what is loaded is what was encoded, or it is encoded again."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest

from pruner import METHODS
from streaming import recall
from streaming.clip_plan import ClipPlan
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import WatchedClip, allocate, answer_clip, ask, encode, in_flight, watch
from streaming.plan import Variant, plan_clip, plan_clips
from streaming.recall import make_key, recall_or_encode
from streaming.result import Answer, BankUse
from streaming.sample import sample_clip, sample_source
from streaming.served import entry_options
from tests.clips import draw_clip
from tests.workers.disk.entries import DAMAGES, damage
from tests.workers.vision.pictures import draw_picture
from workers.disk.entry import read_manifest
from workers.disk.manifest import canonical
from workers.disk.requests import LoadRequest
from workers.disk.store import TokenStore, open_store
from workers.disk.stored import load_entry
from workers.messages import ReadRequest
from workers.process import ModelOptions
from workers.run.clips import EncodedClip
from workers.run.engine import Engine
from workers.stages import EncodeStage, GenerateStage, ReadStage, Result
from workers.video.entry_source import EntrySource
from workers.video.images import open_images
from workers.video.source import open_source

QUESTION = "What color is the cat?"
SETTINGS = {"device": "cpu", "num_frames": 4, "budget": 60, "max_new_tokens": 6}


def asked(variants: list[Options]) -> list[Variant]:
    return [Variant(options=each, questions=(QUESTION,)) for each in variants]


class BlindReader(ReadStage):
    """Fails when it is asked for anything."""

    def run(self, request: ReadRequest) -> Iterator[Result]:
        raise AssertionError(f"{request} is read")


class BlindEncoder(EncodeStage):
    """Fails where it would load the vision tower."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__(options, lazy=True)

    @cached_property
    def _encoder(self) -> Any:
        raise AssertionError("the vision tower is loaded")


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> Options:
    return change(Options(), {"model": str(checkpoint), **SETTINGS}, source="the test")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", num_frames=30))


@pytest.fixture(scope="module")
def engine(options: Options) -> Iterator[Engine]:
    with open_engine(options, lazy_vision=True) as engine:
        yield engine


@pytest.fixture(scope="module")
def blind(options: Options) -> Iterator[Engine]:
    """An engine that can neither read nor encode."""
    stages = {
        "decoder": BlindReader,
        "encoder": partial(BlindEncoder, options.model),
        "llm": partial(GenerateStage, options.model),
    }
    with open_engine(options, stages) as engine:
        yield engine


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return open_store(str(tmp_path / "bank"), 1.0)


def plan_of(clip: str, options: Options, **changes: Any) -> ClipPlan:
    options = change(options, changes, source="the test")
    return plan_clip(sample_clip(clip, options), options, [QUESTION])


def answer(engine: Engine, watched: WatchedClip) -> Answer:
    *_, answer = ask(engine, watched, QUESTION)
    assert isinstance(answer, Answer)
    return answer


def entries(store: TokenStore) -> list[Path]:
    return sorted(Path(store.folder).glob("*.safetensors"))


def check_same(first: WatchedClip, second: WatchedClip) -> None:
    """The language model is shown the same, bit for bit, and told of it the same."""
    assert first.visual.handle.visual_id == second.visual.handle.visual_id
    for one, other in zip(first.visual.frames, second.visual.frames, strict=True):
        assert one.keep_indices.tolist() == other.keep_indices.tolist()
        assert one.novelty == other.novelty
        assert (one.pts_seconds, one.layout) == (other.pts_seconds, other.layout)


def budget_of(pruner: str, budget: int) -> dict[str, Any]:
    return {"pruner": pruner, "budget": None if pruner == "none" else budget}


@pytest.mark.parametrize("pruner", METHODS)
def test_a_hit_is_what_was_encoded_and_needs_neither_decoder_nor_tower(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore, pruner: str
) -> None:
    plan = plan_of(clip, options, **budget_of(pruner, 60))
    fresh, made = watch(engine, plan), watch(engine, plan, store=store)
    again = watch(blind, plan, store=store)
    check_same(fresh, made)
    check_same(made, again)
    said = [answer(engine, fresh), answer(engine, made), answer(blind, again)]
    assert len({each.answer for each in said}) == 1
    assert said[0].bank is None
    assert said[1].bank == BankUse(hit=False, made_for_budget=plan.budget)
    assert said[2].bank == BankUse(hit=True, made_for_budget=plan.budget)
    assert said[2].to_json()["bank"] == {"hit": True, "made_for_budget": plan.budget}
    assert set(said[2].seconds) == {"load", "prune", "allocate", "prefill", "generate"}


@pytest.mark.parametrize("pruner", [name for name in METHODS if name not in ("none", "mr_pruner")])
@pytest.mark.parametrize("extra", [{}, {"novelty": False}, {"timestamps": True}])
def test_a_smaller_budget_is_served_as_a_run_of_its_own(
    engine: Engine,
    blind: Engine,
    clip: str,
    options: Options,
    store: TokenStore,
    pruner: str,
    extra: dict[str, Any],
) -> None:
    large = plan_of(clip, options, **budget_of(pruner, 150), **extra)
    small = plan_of(clip, options, **budget_of(pruner, 70), **extra)
    watch(engine, large, store=store)
    served = watch(blind, small, store=store)
    check_same(watch(engine, small), served)
    assert answer(blind, served).bank == BankUse(hit=True, made_for_budget=150)
    assert len(entries(store)) == 1


def test_mr_pruner_at_a_smaller_budget_keeps_its_cap_and_says_what_it_was_made_for(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    watch(engine, plan_of(clip, options, budget=150), store=store)
    plan = plan_of(clip, options, budget=30, headroom=2.0)
    served = watch(blind, plan, store=store)
    said = answer(blind, served)
    assert said.num_visual_tokens == said.budget == 30
    assert said.bank == BankUse(hit=True, made_for_budget=150)
    assert max(len(frame.keep_indices) for frame in served.visual.frames) <= plan.max_keep == 15


def test_the_exact_entry_goes_before_a_larger_one(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    small, large = (plan_of(clip, options, budget=budget) for budget in (40, 90))
    made = watch(engine, small, store=store)
    watch(engine, large, store=store)
    again = watch(blind, small, store=store)
    check_same(made, again)
    assert answer(blind, again).bank == BankUse(hit=True, made_for_budget=40)


def test_a_larger_budget_is_encoded(
    engine: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    watch(engine, plan_of(clip, options, budget=40), store=store)
    large = watch(engine, plan_of(clip, options, budget=80), store=store)
    assert answer(engine, large).bank == BankUse(hit=False, made_for_budget=80)
    assert len(entries(store)) == 2


@pytest.mark.parametrize(
    "name", ["empty", "cut in the manifest", "cut by a byte", "flip in a time", "flip in the data"]
)
def test_a_damaged_entry_is_a_miss_and_is_replaced(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore, name: str
) -> None:
    assert name in DAMAGES
    plan = plan_of(clip, options)
    made = watch(engine, plan, store=store)
    (path,) = entries(store)
    damage(path, name)
    again = watch(engine, plan, store=store)
    check_same(made, again)
    (warning,) = again.visual.encoded.warnings
    assert warning.startswith(f"{path}: cannot be used as stored tokens (")
    assert answer(engine, again).warnings == (warning,)
    whole = watch(blind, plan, store=store)
    check_same(made, whole)
    assert whole.visual.encoded.warnings == ()


def test_entries_under_each_others_names_are_misses(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    plans = [plan_of(clip, options), plan_of(clip, options, start=0.5)]
    made = [watch(engine, plan, store=store) for plan in plans]
    first, second = entries(store)
    first.rename(first.with_name("aside"))
    second.rename(first)
    first.with_name("aside").rename(second)
    for plan, expected in zip(plans, made, strict=True):
        again = watch(engine, plan, store=store)
        check_same(again, expected)
        (warning,) = again.visual.encoded.warnings
        assert "holds the tokens of something else; it is passed over" in warning
        check_same(watch(blind, plan, store=store), expected)


def test_a_damaged_entry_does_not_hide_a_sound_one(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    small, large = (plan_of(clip, options, pruner="uniform", budget=b) for b in (40, 90))
    made = watch(engine, small, store=store)
    (path,) = entries(store)
    watch(engine, large, store=store)
    damage(path, "flip in the data")
    served = watch(blind, small, store=store)
    check_same(made, served)
    assert len(served.visual.encoded.warnings) == 1


KEYS: dict[str, dict[str, Any]] = {
    "frames": {"num_frames": 5},
    "window": {"start": 0.2},
    "precision": {"precision": "keyframe"},
    "decoder": {"decoder": "decord"},
    "resize": {"resize": "fast"},
    "tiles": {"high_resolution": "none"},
    "gate": {"high_resolution": "gated"},
    "method": {"pruner": "gprune"},
    "newlines": {"newlines": "last"},
    "settings": {"pruner_beta": 0.25},
    "steps": {"pruner_steps": 2},
}


@pytest.mark.parametrize("changes", KEYS.values(), ids=KEYS)
def test_the_key_follows_what_the_tokens_depend_on(
    clip: str, options: Options, store: TokenStore, changes: dict[str, Any]
) -> None:
    keys = [make_key(plan_of(clip, options, **each), store) for each in ({}, changes)]
    assert canonical(keys[0]) != canonical(keys[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": 30}, {"headroom": 2.0}, {"novelty": False}, {"shares": "informative"},
        {"seed": 3}, {"max_new_tokens": 2}, {"frames_per_chunk": 1}, {"num_decoders": 3},
        {"position_ids": "compact"},
    ],
    ids=str,
)  # fmt: skip
def test_the_key_follows_nothing_else(
    clip: str, options: Options, store: TokenStore, changes: dict[str, Any]
) -> None:
    keys = [make_key(plan_of(clip, options, **each), store) for each in ({}, changes)]
    assert canonical(keys[0]) == canonical(keys[1])


def test_the_key_follows_the_seed_where_it_matters(
    clip: str, options: Options, store: TokenStore
) -> None:
    plans = [plan_of(clip, options, pruner="random", seed=seed) for seed in (0, 1)]
    assert len({canonical(make_key(plan, store)) for plan in plans}) == 2


def test_the_key_follows_content_and_version_not_the_path(
    clip: str,
    options: Options,
    store: TokenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "copy.mp4").write_bytes(Path(clip).read_bytes())
    other = draw_clip(tmp_path / "other.mp4", num_frames=30, first_number=7)
    paths = (clip, str(tmp_path / "copy.mp4"), str(other))
    plans = [plan_of(path, options) for path in paths]
    same, copied, another = (canonical(make_key(plan, store)) for plan in plans)
    assert same == copied != another
    monkeypatch.setattr(recall, "version_with", lambda method: "9.9")
    assert canonical(make_key(plans[0], store)) != same


@pytest.mark.parametrize("part", ["device", "dtype", "weights"])
def test_the_key_follows_the_encoder(
    engine: Engine, clip: str, options: Options, store: TokenStore, part: str
) -> None:
    plan = plan_of(clip, options)
    watch(engine, plan, store=store)
    made = read_manifest(str(entries(store)[0])).key
    own = {name: made[name] for name in ("device", "dtype", "weights")}
    request = LoadRequest(
        clip_id="clip",
        store=store,
        key=make_key(plan, store),
        pruning=plan.clip.prunings[0],
        thumbnails=False,
    )
    assert load_entry(request, own)[0] is not None
    assert load_entry(request, {**own, part: "another"})[0] is None


def test_pictures_are_told_apart_by_their_pixels(
    engine: Engine, blind: Engine, options: Options, store: TokenStore
) -> None:
    pictures = [draw_picture(97, 150), draw_picture(150, 97)]
    first, turned = (
        plan_clip(sample_source(open_images(order), options), options, [QUESTION])
        for order in (pictures, pictures[::-1])
    )
    made = watch(engine, first, store=store)
    check_same(made, watch(blind, first, store=store))
    other = watch(engine, turned, store=store)
    assert answer(engine, other).bank == BankUse(hit=False, made_for_budget=60)


def test_thumbnails_come_back_and_an_entry_without_them_will_not_do(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    plain = plan_of(clip, options)
    shown = plan_clip(sample_clip(clip, options), options, [QUESTION], thumbnail_width=64)
    watch(engine, plain, store=store)
    made = watch(engine, shown, store=store)
    assert answer(engine, made).bank == BankUse(hit=False, made_for_budget=60)
    again = watch(blind, shown, store=store)
    assert again.visual.encoded.thumbnails == made.visual.encoded.thumbnails
    assert len(again.visual.encoded.thumbnails) == 4
    assert answer(blind, watch(blind, plain, store=store)).bank is not None


def test_an_entry_without_thumbnails_will_do_where_nobody_looks_at_them(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    shown = plan_clip(sample_clip(clip, options), options, [QUESTION], thumbnail_width=64)
    made = watch(engine, plan_of(clip, options), store=store)
    again = watch(blind, shown, store=store, need_thumbnails=False)
    check_same(made, again)
    assert not again.visual.encoded.thumbnails


def test_what_went_wrong_is_kept_with_the_tokens(
    engine: Engine, blind: Engine, options: Options, store: TokenStore, tmp_path: Path
) -> None:
    whole = draw_clip(tmp_path / "whole.mkv", num_frames=30, gop=5)
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 900] = bytes(900)
    whole.write_bytes(content)
    plan = plan_of(str(whole), options, num_frames=30)
    made = watch(engine, plan, store=store)
    assert made.visual.encoded.warnings
    again = watch(blind, plan, store=store)
    check_same(made, again)
    assert again.visual.encoded.warnings == made.visual.encoded.warnings


def test_one_engine_and_one_store_serve_many_clips(
    engine: Engine, blind: Engine, options: Options, store: TokenStore, tmp_path: Path
) -> None:
    clips = [
        str(draw_clip(tmp_path / f"{number}.mp4", num_frames=9, first_number=100 * number))
        for number in range(4)
    ]
    plans = [plan_of(clip, options) for clip in clips]

    def said(engine: Engine) -> dict[str, str]:
        work = partial(answer_clip, engine, questions=[QUESTION], store=store)
        answers = [done for _, done in in_flight(work, plans, limit=3)]
        return {each.video: each.answer for (each,) in answers}  # type: ignore[union-attr]

    assert said(engine) == said(blind)
    assert len(entries(store)) == 4


def test_a_store_that_cannot_be_written_costs_a_warning(
    engine: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    Path(store.folder).rmdir()
    watched = watch(engine, plan_of(clip, options), store=store)
    (warning,) = watched.visual.encoded.warnings
    assert warning.startswith(f"--bank {store.folder}: {clip} could not be kept: ")
    assert answer(engine, watched).answer


class StubEngine:
    """Finds nothing, encodes nothing, and notes what it is to save."""

    def __init__(self, **encoded: Any) -> None:
        self.saved = 0
        self._encoded = encoded

    def load(self, *_: Any) -> tuple[None, tuple[str, ...]]:
        return None, ()

    def encode(self, clip: Any, _: Any) -> EncodedClip:
        values: dict[str, Any] = {
            "clip": clip, "bank": ("a handle",), "pts_seconds": {}, "thumbnails": {},
            "warnings": (), "seconds": {}, "prune_seconds": (0.0,), "elapsed_seconds": 0.0,
        }  # fmt: skip
        return EncodedClip(**(values | self._encoded))

    def save(self, *_: Any) -> tuple[str, ...]:
        self.saved += 1
        return ()


@pytest.mark.parametrize(
    ("encoded", "saved"), [({}, 1), ({"num_given_up": 1}, 0), ({"bank": ()}, 0)]
)
def test_only_what_would_come_out_again_is_kept(
    clip: str, options: Options, store: TokenStore, encoded: dict[str, Any], saved: int
) -> None:
    stub: Any = StubEngine(**encoded)
    recall_or_encode(stub, plan_of(clip, options), store, lambda progress: None)
    assert stub.saved == saved


def test_a_clip_that_changes_while_it_is_read_is_not_kept(
    options: Options, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw_clip(tmp_path / "clip.mp4", num_frames=9)
    plan = plan_of(str(path), options)
    stub: Any = StubEngine()
    monkeypatch.setattr(stub, "load", lambda *_: (os.utime(path, ns=(0, 0)), (None, ()))[1])
    recall_or_encode(stub, plan, store, lambda progress: None)
    assert stub.saved == 0


def test_a_clip_of_several_prunings_is_refused(
    clip: str, options: Options, store: TokenStore
) -> None:
    variants = [
        replace(options, pruning=replace(options.pruning, pruner=name))
        for name in ("uniform", "gprune")
    ]
    (plan, _) = plan_clips(sample_clip(clip, options), asked(variants))
    stub: Any = StubEngine()
    with pytest.raises(ValueError, match="a store holds clips of one pruning"):
        recall_or_encode(stub, plan, store, lambda progress: None)


@pytest.mark.parametrize(
    ("bank", "lazy_vision", "lazy"),
    [(None, None, False), ("bank", None, True), (None, True, True), ("bank", False, False)],
)
def test_the_vision_tower_waits_where_there_is_a_bank(
    options: Options,
    monkeypatch: pytest.MonkeyPatch,
    bank: str | None,
    lazy_vision: bool | None,
    lazy: bool,
) -> None:
    made: list[Any] = []

    def no_workers(_: Options, stages: Any) -> Engine:
        made.append(stages["encoder"].keywords["lazy"])
        return Engine({})

    monkeypatch.setattr("streaming.engine._local", no_workers)
    with open_engine(change(options, {"bank": bank}, source=""), lazy_vision=lazy_vision):
        assert made == [lazy]


def test_an_entry_serves_several_budgets_at_once(
    engine: Engine, blind: Engine, clip: str, options: Options, store: TokenStore
) -> None:
    watch(engine, plan_of(clip, options, budget=150), store=store)
    source = open_source(str(entries(store)[0]))
    assert isinstance(source, EntrySource)
    wanted = change(entry_options(source), {"model": options.model.model}, source="")
    variants = [change(wanted, {"budget": budget}, source="") for budget in (100, 50)]
    plans = plan_clips(sample_source(source, wanted), asked(variants))
    encoded = encode(blind, plans[0])
    for plan, budget in zip(plans, (100, 50), strict=True):
        served = allocate(blind, plan, encoded)
        expected = watch(blind, plan_of(clip, options, budget=budget), store=store)
        check_same(expected, served)
        assert answer(blind, served).num_visual_tokens == budget
