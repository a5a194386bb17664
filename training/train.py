"""python -m training.train --folder runs/embedded: trains a checkpoint; run again to resume."""

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from transformers import LlavaNextForConditionalGeneration, PreTrainedTokenizerFast

from training.arguments import count, device, file, new_folder
from training.curriculum import Curriculum
from training.heads import SequenceHeads, VisionHeads
from training.language_stage import LanguageStage
from training.model import build_model
from training.plan import Plan, load_plan
from training.runner import LearningRate, Pace, run_stage
from training.start import copy_attended, match_words, whiten_patches
from training.vision_stage import VisionStage
from training.words import build_processor


def prepare(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> LlavaNextForConditionalGeneration:
    """Return the untrained model of a plan, in float32."""
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(plan.seed)
    model = build_model(
        tokenizer, hidden_size=plan.hidden_size, vision_size=plan.vision_size,
        num_layers=plan.num_layers, num_vision_layers=plan.num_vision_layers,
    )  # fmt: skip
    model.set_attn_implementation("eager")
    whiten_patches(model, plan.seed)
    return model


def vision_stage(plan: Plan, model: LlavaNextForConditionalGeneration) -> VisionStage:
    """Return the first stage of a plan."""
    learning_rate = LearningRate(
        peak=plan.vision_peak, warmup=100, steps=plan.vision_steps, decay_from=plan.vision_decay
    )
    heads = VisionHeads(plan.hidden_size)
    return VisionStage(
        model=model, heads=heads, seed=plan.seed, learning_rate=learning_rate,
        num_pictures=plan.vision_batch,
    )  # fmt: skip


def language_stage(
    plan: Plan,
    model: LlavaNextForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
) -> LanguageStage:
    """Return the second stage of a plan, begun from the model as it is."""
    learning_rate = LearningRate(
        peak=plan.language_peak, warmup=60, steps=plan.language_steps,
        decay_from=plan.language_decay,
    )  # fmt: skip
    curriculum = Curriculum(
        mixtures=plan.mixtures, tokens_per_batch=plan.tokens_per_batch,
        plate_chance=plan.plate_chance, code_chance=plan.code_chance,
        text_share=plan.text_share, timed_share=plan.timed_share, dense_weights=plan.dense_weights,
        stamp_weights=plan.stamp_weights,
    )  # fmt: skip
    return LanguageStage(
        model=model, tokenizer=tokenizer, heads=SequenceHeads(plan.hidden_size),
        seed=plan.seed, learning_rate=learning_rate, curriculum=curriculum,
        look_weight=plan.look_weight, type_weights=plan.type_weights,
    )  # fmt: skip


def train(plan: Plan, folder: Path, pace: Pace) -> LlavaNextForConditionalGeneration | None:
    """Run every stage that is not finished yet; return the model, or None where stopped early."""
    tokenizer = build_processor().tokenizer
    model = prepare(plan, tokenizer)
    first = vision_stage(plan, model)
    if not run_stage(first, folder, pace):
        return None
    torch.manual_seed(plan.seed + 1)
    copy_attended(model)
    match_words(model, first.heads, tokenizer, plan.seed)
    second = language_stage(plan, model, tokenizer)
    return model if run_stage(second, folder, pace) else None


def main() -> None:
    """Train in a folder, from where it left off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=new_folder, required=True)
    parser.add_argument("--plan", type=file, help="JSON file that replaces parts of the plan")
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw clips")
    parser.add_argument(
        "--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_default_device(options.device)
    options.folder.mkdir(parents=True, exist_ok=True)
    plan = load_plan(options.plan) if options.plan else Plan()
    (options.folder / "plan.json").write_text(json.dumps(dataclasses.asdict(plan), indent=1))
    train(plan, options.folder, Pace(num_workers=options.workers))


if __name__ == "__main__":
    main()
