"""Shapes of other families than LLaVA-NeXT with CLIP: both systems of a bench run them."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig

from streaming.bench.clip import draw_clip
from streaming.bench.engine_system import EngineSystem
from streaming.bench.flops import vision_flops
from streaming.bench.random_checkpoint import write_shape
from streaming.bench.shapes import SHAPES
from streaming.bench.transformers_system import TransformersSystem
from streaming.flags import change
from streaming.options import Options
from tests.model_kinds import GRANITE_PINPOINTS, MODEL_KINDS, write_model
from workers.errors import InputError

NARROW = {
    "vision_size": 32, "vision_wide": 64, "vision_heads": 2, "text_size": 64, "text_wide": 128,
    "text_heads": 4, "text_key_heads": 2, "vocabulary": 0,
}  # fmt: skip
OPTIONS = change(Options(), {"executor": "local", "pruner": "none", "max_new_tokens": 4}, source="")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava-1.5-7b", "granite-vision-2b"])
def test_both_systems_answer_alike(tmp_path: Path, name: str) -> None:
    shape = replace(SHAPES[name].thinned(3), **NARROW)
    write_shape(tmp_path / "model", shape)
    draw_clip(tmp_path / "clip.mp4", duration_seconds=2)
    options = change(OPTIONS, {"model": str(tmp_path / "model")}, source="")
    clip, questions = str(tmp_path / "clip.mp4"), ("what is it?", "and now?")
    engine = EngineSystem(options)
    try:
        said = engine.answers(clip, 1, questions)
    finally:
        engine.close()
    assert said == TransformersSystem(options).answers(clip, 1, questions)
    assert all(said)


def test_a_thinned_shape_uses_layers_that_it_has() -> None:
    granite, llava = SHAPES["granite-vision-2b"], SHAPES["llava-1.5-7b"]
    assert granite.thinned(99) == granite
    assert (granite.thinned(3).vision_layers, llava.thinned(3).vision_layers) == (3, 4)
    assert granite.thinned(3).feature_layers == (-4, -4, -4, -1)
    assert [[384 * side for side in sides] for sides in granite.pinpoints] == GRANITE_PINPOINTS


def test_a_tower_without_class_token_and_with_wide_features_needs_more_of_the_projector() -> None:
    config = AutoConfig.for_model(
        "llava_next",
        vision_config={"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14},
        text_config={"model_type": "llama", "hidden_size": 32},
        vision_feature_select_strategy="full",
        vision_feature_layer=[-2, -1],
    )
    embedding, projector = 2 * 4 * 3 * 14**2 * 768, 2 * 4 * (2 * 768 * 32 + 32 * 32)
    assert vision_flops(config, 0, 5) == 5 * (embedding + projector)


def test_transformers_is_not_asked_of_pictures_by_a_model_of_videos(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", MODEL_KINDS["llava-hf/LLaVA-NeXT-Video-7B-hf"])
    with pytest.raises(InputError, match="takes a video here, not pictures"):
        TransformersSystem(change(OPTIONS, {"model": str(folder)}, source=""))
