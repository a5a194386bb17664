"""What the device path reaches: tower, pruner, single images, and clips against transformers.

CLIP-L/336 before Llama-3-8B with random weights and synthetic frames of 2 x 2 tiles and a base, in
one process, in bfloat16. Decoding and tiling are left out on both sides. Goals: 60 % of the matmul
peak in the tower, 5 % of encoding in the pruner, a clip of 64 frames ten times as fast as
transformers. Neither ray nor av is needed.

Run: python -m benchmarks.gpu [--device cpu --small] [--minutes 8] [--output FOLDER]
"""

import argparse
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from benchmarks.gpu_runs import Runs
from benchmarks.gpu_tables import Bench, Table
from benchmarks.random_llava import SMALL, make_llava, make_llava_config
from benchmarks.stopwatch import Stopwatch
from streaming.bench.hardware import describe_hardware
from streaming.bench.shapes import SHAPES


def describe_device(device: str) -> dict[str, str]:
    """Return what was measured on: hardware, versions, and a GPU's clocks and power now."""
    about = {
        "host": describe_hardware(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if torch.device(device).type != "cuda":
        return about
    fields = "clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        clocks = done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        clocks = "unknown"
    return {**about, "gpu": torch.cuda.get_device_name(), fields: clocks}


def main(arguments: list[str] | None = None) -> None:
    """Print the report, and write it as Markdown and JSON part by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model, few repeats")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop with what there is then")
    parser.add_argument("--output", type=Path, default=Path("gpu-report"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    watch = Stopwatch(options.device, options.minutes)
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    shape = SMALL if options.small else SHAPES["llava-next-8b"]
    config = make_llava_config(shape)
    model = make_llava(config, device=options.device, dtype=dtype)
    new_tokens = 4 if options.small else 16
    runs = Runs(model, device=options.device, dtype=dtype, num_new_tokens=new_tokens)
    bench = Bench(runs, watch, dtype=dtype, small=options.small)
    about = {"before": describe_device(options.device)}
    tables = []
    options.output.mkdir(parents=True, exist_ok=True)
    for table in bench.tables():
        tables.append(table)
        about["after"] = describe_device(options.device)
        print(table.to_markdown(), flush=True)
        _write(options.output, about, tables)


def _write(folder: Path, about: dict[str, dict[str, str]], tables: list[Table]) -> None:
    lines = [
        f"- {when}, {name}: {text}" for when, each in about.items() for name, text in each.items()
    ]
    text = "\n".join(["# On a device", "", *lines, "", *(table.to_markdown() for table in tables)])
    (folder / "gpu.md").write_text(text, encoding="utf-8")
    values = {**about, "tables": [asdict(table) for table in tables]}
    (folder / "gpu.json").write_text(json.dumps(values, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
