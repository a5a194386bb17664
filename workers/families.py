"""The model classes of transformers that can be asked, and what tells them apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.checkpoint import read_config
from workers.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How the checkpoints of one class see frames.

    With ``has_grid`` a frame is seen in high-resolution tiles beside its base, and a newline token
    ends each row of theirs; else as its base alone. With ``is_video`` the frames of a clip are a
    video to the chat template, one placeholder for all of them, and tokens are pooled.
    """

    has_grid: bool = False
    is_video: bool = False

    @property
    def modality(self) -> str:
        """What chat templates and processors call what is shown: ``image`` or ``video``."""
        return "video" if self.is_video else "image"


FAMILIES = {
    "llava": Family(),
    "llava_next": Family(has_grid=True),
    "llava_next_video": Family(is_video=True),
}
"""By ``model_type``, as in ``config.json``."""


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the family of a checkpoint's ``config.json``.

    Raises:
        ModelError: of another class; names it and what is supported.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        *others, last = FAMILIES
        raise ModelError(
            f"a checkpoint of class {kind!r} cannot be asked: give one of {', '.join(others)} or "
            f"{last} (model_type in config.json)"
        )
    return FAMILIES[kind]


def load_config(location: str) -> Any:
    """Return transformers' configuration of a checkpoint.

    Args:
        location: what :func:`workers.checkpoint.locate` returned.

    Raises:
        ModelError: of an unsupported class, or one that transformers cannot read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    raw = read_config(location)
    family_of(raw)
    try:
        return CONFIG_MAPPING[raw["model_type"]](**raw)
    except (AttributeError, KeyError, StrictDataclassError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{location}: transformers cannot read config.json: {reason}") from None
