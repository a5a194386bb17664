"""What a run's answers depend on, and a digest of it."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streaming.flags import flat, places
from streaming.options import Options
from workers.checkpoint import EMBEDDED, locate, read_config
from workers.version import version_with

_WITHOUT_EFFECT = ("run", "store", "cache_tokens", "llm_key_file")
"""Groups and names of options."""


def settings_of(options: Options) -> dict[str, Any]:
    """Return by name all that answers depend on but the manifest: model, options, version.

    Not how many workers there are and where, or what is kept: the answers are the same. A
    checkpoint in a folder is known by its ``config.json`` and by the names and sizes of its
    weights beside where it is, one on the hub by its name and ``config.json``.

    Raises:
        ModelError: the checkpoint cannot be found.
    """
    values = flat(options)
    chosen = {
        name: values[name]
        for name, place in places().items()
        if place.path[0] not in _WITHOUT_EFFECT and name not in _WITHOUT_EFFECT
    }
    version = version_with(options.pruning.pruner)
    model = options.model.model
    return {"version": version, "checkpoint": _checkpoint(model), **chosen, "model": _name(model)}


def digest(settings: Mapping[str, Any]) -> str:
    """Return a digest of settings, as it is on every row."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _name(model: str) -> str:
    """Return a model's name, of one in a folder the whole path, however it is named.

    Sizes and configuration do not tell a checkpoint from another that was tuned from it.
    """
    is_folder = model != EMBEDDED and os.path.isdir(model)
    return os.path.realpath(model) if is_folder else model


def _checkpoint(model: str) -> str:
    location = locate(model)
    weights = sorted((p.name, p.stat().st_size) for p in Path(location).glob("*.safetensors"))
    text = json.dumps([read_config(location), weights], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
