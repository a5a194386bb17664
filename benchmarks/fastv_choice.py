"""python -m benchmarks.fastv_choice QUESTIONS: is it what FastV keeps that counts, or when?

After the same layers of the language model a tenth of the visual tokens goes on: the most attended
(FastV), a random tenth, or the least attended.
"""

import argparse
import json
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch

from pruner.fastv import fastv
from streaming.evaluate import command as evaluate

CHOICES = ("most attended", "random", "least attended")


def share_right(questions: Path, choice: str, limit: int) -> float:
    """Return the share of questions right at 90 % pruning, kept by ``choice``."""
    generator = torch.Generator().manual_seed(0)

    def choose(attention: torch.Tensor, *, is_visual: torch.Tensor, num_keep: int) -> torch.Tensor:
        if choice == "random":
            attention = torch.rand(attention.shape, generator=generator).to(attention.device)
        elif choice == "least attended":
            attention = -attention
        return fastv(attention, is_visual=is_visual, num_keep=num_keep)

    with tempfile.TemporaryDirectory() as folder, patch("workers.llm.layer_pruning.fastv", choose):
        arguments = [str(questions), "--output", folder, "--executor", "local"]
        arguments += ["--clips-in-flight", "1"]  # clips draw from one generator, in turn
        arguments += ["--pruners", "fastv", "--keep-ratios", "0.1", "--limit", str(limit)]
        if evaluate.main(arguments):
            raise SystemExit(1)
        table = json.loads(Path(folder, "table.json").read_text(encoding="utf-8"))
    (found,) = table["scores"]
    return float(found["accuracy"]["all"])


def main() -> None:
    """Print one row for each choice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--limit", type=int, default=400)
    options = parser.parse_args()
    shares = {each: share_right(options.questions, each, options.limit) for each in CHOICES}
    print("\n| kept after FastV's layers | right |\n|---|---:|")
    for choice, share in shares.items():
        print(f"| {choice} | {100 * share:.1f} |")


if __name__ == "__main__":
    main()
