"""python -m training.measure --model workers/embedded --clips clips: accuracy, plain transformers.

Every clip is decoded from its file, sampled, and put through ``AutoProcessor`` and ``generate``,
one question at a time; with ``--timestamps`` the prompt tells when every frame is shown. Two
controls take something away: ``base`` leaves only the base tokens of every frame, ``single`` only
the middle frame.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from streaming.evaluate.questions import is_right
from training.arguments import folder_of
from training.questions import TYPES
from workers.llm.prompt import timestamp_text

_MOST_TOKENS = 8
VIEWS = ("full", "base", "single")
Tally = dict[tuple[str, int], list[int]]


@lru_cache(maxsize=4)
def sample_frames(path: Path, num_frames: int) -> tuple[list[Image.Image], list[float]]:
    """Return pictures from the middles of ``num_frames`` equal parts of a clip, and their times."""
    with av.open(str(path)) as container:
        pictures = [
            (Image.fromarray(frame.to_ndarray(format="rgb24")), frame.time)
            for frame in container.decode(video=0)
        ]
    taken = [
        pictures[int((index + 0.5) * len(pictures) / num_frames)] for index in range(num_frames)
    ]
    return [picture for picture, _ in taken], [time for _, time in taken]


class Answerer:
    """A checkpoint that is asked about frames."""

    def __init__(self, folder: Path) -> None:
        self.model = LlavaNextForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def answer(
        self,
        frames: list[Image.Image],
        question: str,
        *,
        base_only: bool = False,
        times: Sequence[float] = (),
    ) -> str:
        """Return the greedy answer to a question about frames, told their times if given."""
        content = [{"type": "image"}] * len(frames) + [{"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        image = self.processor.image_token
        for time in times:
            prompt = prompt.replace(image, f"{timestamp_text(time)}\0", 1)
        prompt = prompt.replace("\0", image)
        inputs = self.processor(images=frames, text=prompt, return_tensors="pt")
        if base_only:
            embeds = self._base_embeds(inputs)
            output = self.model.generate(inputs_embeds=embeds, max_new_tokens=_MOST_TOKENS)[0]
        else:
            length = inputs["input_ids"].shape[1]
            output = self.model.generate(**inputs, max_new_tokens=_MOST_TOKENS)[0, length:]
        return str(self.processor.tokenizer.decode(output, skip_special_tokens=True)).strip()

    def _base_embeds(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the prompt's embeddings without high-resolution and newline tokens."""
        model, ids = self.model, inputs["input_ids"][0]
        features = model.model.get_image_features(
            inputs["pixel_values"], inputs["image_sizes"]
        ).pooler_output
        num_base = (
            model.config.vision_config.image_size // model.config.vision_config.patch_size
        ) ** 2
        embeds: torch.Tensor = model.get_input_embeddings()(ids)
        is_image = ids == model.config.image_token_index
        embeds[is_image] = torch.cat(list(features))
        place = torch.cat([torch.arange(len(feature)) for feature in features])
        kept = ~is_image
        kept[is_image.nonzero()[:, 0][place < num_base]] = True
        return embeds[kept][None]


def measure(answerer: Answerer, questions: Path, view: str, *, timestamps: bool = False) -> Tally:
    """Return right and asked, by question type and number of frames of the clip."""
    tally: Tally = defaultdict(lambda: [0, 0])
    for line in questions.read_text().splitlines():
        asked = json.loads(line)
        num_frames = asked["num_frames"] if view != "single" else 1
        frames, times = sample_frames(questions.parent / asked["clip"], num_frames)
        said = answerer.answer(
            frames, asked["question"], base_only=view == "base", times=times if timestamps else ()
        )
        count = tally[asked["type"], asked["num_frames"]]
        count[0] += is_right(said, asked["answers"], asked.get("tolerance"))
        count[1] += 1
    return tally


def guesses(questions: Path) -> dict[str, float]:
    """Return the share of each type that always saying its best answer gets right.

    Of two named shapes one came first, so a guess at ``order`` is right half the time.
    """
    asked: dict[str, list[Any]] = defaultdict(list)
    for line in questions.read_text().splitlines():
        asked[json.loads(line)["type"]].append(json.loads(line))
    shares = {name: _best_guess(lines) for name, lines in asked.items()}
    return shares | ({"order": 0.5} if "order" in shares else {})


def _best_guess(lines: list[Any]) -> float:
    """Return the share of questions that one and the same answer gets right."""
    said = {line["answers"][0] for line in lines}
    right = [
        sum(is_right(answer, line["answers"], line.get("tolerance")) for line in lines)
        for answer in said
    ]
    return max(right) / len(lines)


def table(tally: Tally, guess: dict[str, float]) -> str:
    """Return a Markdown table of shares right (asked): types down, numbers of frames across."""
    lengths = sorted({num_frames for _, num_frames in tally})
    head = ["type", *(f"{length} fr" for length in lengths), "all", "guess"]
    lines = [_row(head), _row(["---"] * len(head))]
    for name in (*TYPES, "all"):
        names = TYPES if name == "all" else (name,)
        cells = [[tally[n, length] for n in names if (n, length) in tally] for length in lengths]
        cells.append([count for cell in cells for count in cell])
        guessed = f"{guess[name]:.2f}" if name in guess else ""
        lines.append(_row([name, *(_share(cell) for cell in cells), guessed]))
    return "\n".join(lines) + "\n"


def _share(counts: list[list[int]]) -> str:
    right, asked = (sum(count[index] for count in counts) for index in (0, 1))
    return f"{right / asked:.2f} ({asked})" if asked else ""


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print one table per view."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=folder_of("config.json"), required=True)
    parser.add_argument(
        "--clips",
        type=folder_of("questions.jsonl"),
        required=True,
        help="folder with questions.jsonl",
    )
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=list(VIEWS))
    parser.add_argument("--timestamps", action="store_true", help="as `streaming.ask` puts them")
    options = parser.parse_args()
    answerer = Answerer(options.model)
    questions = options.clips / "questions.jsonl"
    for view in options.views:
        tally = measure(answerer, questions, view, timestamps=options.timestamps)
        print(f"\n{view}\n\n{table(tally, guesses(questions))}", flush=True)


if __name__ == "__main__":
    main()
