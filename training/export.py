"""python -m training.export --run runs/embedded --output workers/embedded: saves the model."""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor

from training.arguments import folder_of, new_folder
from training.model import build_model
from training.plan import Plan, load_plan
from training.words import build_processor


def load_run(run: Path) -> LlavaNextForConditionalGeneration:
    """Return the averaged model as the run's last saved state has it, finished or not."""
    plan: Plan = load_plan(run / "plan.json")
    model = build_model(
        build_processor().tokenizer, hidden_size=plan.hidden_size, vision_size=plan.vision_size,
        num_layers=plan.num_layers, num_vision_layers=plan.num_vision_layers,
    )  # fmt: skip
    state = torch.load(run / "language.pt", weights_only=True, map_location="cpu")["module"]
    prefix = "average.module."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    model.load_state_dict(weights)
    return model.eval()


def write_checkpoint(
    model: LlavaNextForConditionalGeneration, processor: LlavaNextProcessor, output: Path
) -> None:
    """Write model and processor in transformers' format.

    The file holds float16 numbers to be small; the configuration says float32, so that is what
    ``from_pretrained`` loads them as.
    """
    model.set_attn_implementation("sdpa")
    model.save_pretrained(output)
    stored = load_file(output / "model.safetensors")
    halves = {name: weight.half().contiguous() for name, weight in stored.items()}
    save_file(halves, output / "model.safetensors", metadata={"format": "pt"})
    (output / "model.safetensors").chmod(0o644)
    config = json.loads((output / "config.json").read_text())
    config["dtype"] = "float32"
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    processor.save_pretrained(output)


def main() -> None:
    """Export one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=folder_of("language.pt"), required=True)
    parser.add_argument("--output", type=new_folder, required=True)
    options = parser.parse_args()
    write_checkpoint(load_run(options.run), build_processor(), options.output)


if __name__ == "__main__":
    main()
