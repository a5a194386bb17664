"""What the two tasks do with a document; lmms-eval imports this file from beside the YAML."""

from typing import Any

from PIL import Image


def image_of(doc: dict[str, Any]) -> list[Image.Image]:
    """Return the picture as the published benchmarks give it: opened by PIL, as RGB."""
    return [Image.open(doc["image"]).convert("RGB")]


def video_of(doc: dict[str, Any]) -> list[str]:
    return [doc["video"]]


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"accuracy": float(results[0] == doc["answer"])}
