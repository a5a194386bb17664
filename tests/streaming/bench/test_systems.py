"""Both systems of a bench on the embedded model, which answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from streaming.bench import engine_system as engines
from streaming.bench.clip import draw_clip
from streaming.bench.engine_system import EngineSystem
from streaming.bench.flops import prefill_flops
from streaming.bench.laboratory import Laboratory
from streaming.bench.pictures import read_pictures
from streaming.bench.transformers_system import TransformersSystem
from streaming.bench.trial import STAGES, System, Trial
from streaming.flags import change
from streaming.options import Options
from streaming.sample import sample_clip
from tests.clips import decode_sequentially
from workers import stages
from workers.llm.decoder import Decoder

QUESTIONS = ("what color is the circle?", "what number is shown?")
OPTIONS = change(
    Options(), {"executor": "local", "device": "cpu", "budget": 60, "max_new_tokens": 8}, source=""
)
EVERYTHING = change(OPTIONS, {"pruner": "none", "budget": None}, source="")
NUM_FRAMES, TOKENS_OF_A_FRAME = 4, 234


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bench") / "clip.mp4"
    draw_clip(path, duration_seconds=3)
    return str(path)


@pytest.fixture(scope="module")
def engine_system() -> Iterator[EngineSystem]:
    system = EngineSystem(OPTIONS)
    yield system
    system.close()


@pytest.fixture(scope="module")
def transformers_system() -> TransformersSystem:
    return TransformersSystem(OPTIONS)


def check(trial: Trial) -> None:
    assert trial.num_frames == NUM_FRAMES
    assert trial.video_seconds == pytest.approx(3 - 1 / 15)
    assert trial.num_tokens_seen == NUM_FRAMES * TOKENS_OF_A_FRAME
    assert set(trial.seconds) <= set(STAGES)
    assert all(seconds >= 0 for seconds in trial.seconds.values())
    assert 0 < trial.first_token_seconds <= trial.elapsed_seconds
    assert 0 < trial.second_first_token_seconds <= trial.second_elapsed_seconds
    assert trial.cpu_seconds > 0
    assert trial.gpu_seconds == 0
    assert all(num_bytes > 2**20 for num_bytes in trial.peak_memory_bytes.values())


def test_a_trial_of_the_engine(engine_system: EngineSystem, clip: str) -> None:
    trial = engine_system.trial(clip, NUM_FRAMES, QUESTIONS)
    check(trial)
    assert trial.num_tokens_entering == 60
    assert trial.remark == ""


def test_a_trial_of_transformers(transformers_system: TransformersSystem, clip: str) -> None:
    trial = transformers_system.trial(clip, NUM_FRAMES, QUESTIONS)
    check(trial)
    assert trial.num_tokens_entering == NUM_FRAMES * TOKENS_OF_A_FRAME
    # what it does is all accounted for, one thing after another
    assert sum(trial.seconds.values()) == pytest.approx(trial.elapsed_seconds, rel=1e-3)


def test_both_need_the_same_of_the_vision_tower(
    engine_system: EngineSystem, transformers_system: TransformersSystem, clip: str
) -> None:
    systems: list[System] = [engine_system, transformers_system]
    ours, theirs = (system.trial(clip, NUM_FRAMES, QUESTIONS) for system in systems)
    # transformers runs the last layer of the tower as well, whose states it does not use
    assert 0.75 < ours.vision_flops / theirs.vision_flops <= 1
    assert ours.prefill_flops < theirs.prefill_flops


@pytest.mark.parametrize(
    ("values", "num_entering"),
    [
        ({"pruner": "fastv"}, NUM_FRAMES * TOKENS_OF_A_FRAME),
        ({"question_aware": True, "headroom": 2.0}, 120),
    ],
)
def test_layers_that_see_one_budget_need_no_more(
    transformers_system: TransformersSystem, clip: str, values: dict, num_entering: int
) -> None:
    system = EngineSystem(change(OPTIONS, values, source=""))
    try:
        trial = system.trial(clip, NUM_FRAMES, QUESTIONS)
    finally:
        system.close()
    sampled = sample_clip(clip, change(OPTIONS, {"num_frames": NUM_FRAMES}, source=""))
    length = transformers_system._ids(sampled, QUESTIONS[0]).shape[1]
    text = length - NUM_FRAMES * TOKENS_OF_A_FRAME
    config = transformers_system._model.config.text_config
    assert trial.num_tokens_entering == num_entering
    assert trial.prefill_flops == prefill_flops(
        config, num_entering + text, layer=2, num_keep=60 + text
    )


def test_unpruned_they_answer_the_same(transformers_system: TransformersSystem, clip: str) -> None:
    system = EngineSystem(EVERYTHING)
    try:
        said = system.answers(clip, NUM_FRAMES, QUESTIONS)
    finally:
        system.close()
    assert said == transformers_system.answers(clip, NUM_FRAMES, QUESTIONS)
    assert all(said)


def test_the_prompt_is_the_processors_own(
    transformers_system: TransformersSystem, clip: str
) -> None:
    sampled = sample_clip(clip, change(OPTIONS, {"num_frames": NUM_FRAMES}, source=""))
    processor = transformers_system._processor
    content = [{"type": "image"}] * NUM_FRAMES + [{"type": "text", "text": QUESTIONS[0]}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    pictures = read_pictures(clip, sampled.frame_indices.tolist())
    expected = processor(images=[Image.fromarray(p) for p in pictures], text=text)["input_ids"]
    assert transformers_system._ids(sampled, QUESTIONS[0]).tolist() == expected


def test_pictures_are_those_of_the_frames(clip: str) -> None:
    indices = [0, 17, 44]
    every = [picture for _, picture in decode_sequentially(Path(clip))]
    for picture, index in zip(read_pictures(clip, indices), indices, strict=True):
        assert (picture == every[index]).all()


def test_every_trial_reads_its_clip_anew(
    engine_system: EngineSystem, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    prefill = Decoder.prefill

    def count(self, visual, prompt):
        read.append(len(visual.features))
        return prefill(self, visual, prompt)

    monkeypatch.setattr(Decoder, "prefill", count)
    for _ in range(2):
        engine_system.trial(clip, NUM_FRAMES, QUESTIONS)
    assert read.count(60) == 2  # once for both questions of a trial, and again in the next


def test_seconds_are_a_gpus_where_auto_finds_one(
    clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = ("cuda", torch.float32)
    monkeypatch.setattr(engines, "prepare_torch", lambda options: settled)
    monkeypatch.setattr(stages, "prepare_torch", lambda options: ("cpu", torch.float32))
    system = EngineSystem(change(OPTIONS, {"device": "auto"}, source=""))
    try:
        trial = system.trial(clip, NUM_FRAMES, QUESTIONS)
    finally:
        system.close()
    assert trial.gpu_seconds == sum(
        trial.seconds[stage] for stage in ("encode", "prune", "prefill", "generate")
    )


@pytest.mark.parametrize("question_aware", [False, True])
def test_fewer_frames_fill_the_budget(clip: str, question_aware: bool) -> None:
    values = {"budget": 500, "question_aware": question_aware}
    options = change(OPTIONS, values, source="")
    system = EngineSystem(options, fill_budget=True)
    try:
        trial = system.trial(clip, NUM_FRAMES, QUESTIONS)
    finally:
        system.close()
    assert (trial.num_frames, trial.num_tokens_entering) == (2, 2 * TOKENS_OF_A_FRAME)


def test_clients_share_a_clip(
    engine_system: EngineSystem, transformers_system: TransformersSystem, clip: str
) -> None:
    for system in (engine_system, transformers_system):
        loads = system.load(clip, NUM_FRAMES, QUESTIONS, (1, 3))
        assert [(load.num_clients, load.num_questions) for load in loads] == [(1, 8), (3, 8)]
        assert all(0 < load.seconds_p50 <= load.seconds_p95 for load in loads)
        assert all(load.questions_per_second > 0 for load in loads)


def test_a_prompt_beyond_the_context_is_told(
    transformers_system: TransformersSystem, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = transformers_system._model.config.text_config
    monkeypatch.setattr(config, "max_position_embeddings", 100)
    trial = transformers_system.trial(clip, NUM_FRAMES, QUESTIONS)
    assert "beyond the model's context of 100" in trial.remark


def test_pruners_are_timed_beside_their_plain_forms(clip: str) -> None:
    laboratory = Laboratory(OPTIONS)
    methods = ("mr_pruner", "random", "tome", "vidcom2")
    measured = laboratory.time_pruners(methods, clip, 2)
    assert [times.method for times in measured] == ["mr_pruner", "tome", "vidcom2"]
    for times in measured:
        assert len(times.fast_seconds) == len(times.plain_seconds) == len(times.ratios) == 2
        assert min(*times.fast_seconds, *times.plain_seconds) > 0
