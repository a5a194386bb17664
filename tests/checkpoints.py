"""Copies of a checkpoint under other names, with parts missing, and a watch on what is read."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def rewrite_checkpoint(
    source: Path,
    folder: Path,
    *,
    rename: Callable[[str], str] = str,
    without: str = "nothing",
    changes: Callable[[Tensors], Tensors] = dict,
    config: Mapping[str, Any] | None = None,
    num_shards: int = 1,
) -> Path:
    """Copy a checkpoint into files with an index.

    Args:
        source: saved by transformers, in one file.
        folder: where to; must not exist.
        rename: from a tensor's name to the one it is written under.
        without: tensors whose names contain this are left out.
        changes: made to the tensors under their old names.
        config: keys of ``config.json`` to replace.
        num_shards: number of files.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    held = changes(load_file(source / "model.safetensors"))
    tensors = {rename(name): held[name].clone() for name in held if without not in name}
    settings = json.loads((source / "config.json").read_text()) | dict(config or {})
    (folder / "config.json").write_text(json.dumps(settings))
    weight_map = {}
    for shard in range(num_shards):
        file = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        names = sorted(tensors)[shard::num_shards]
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def old_name(name: str) -> str:
    """Return the name a tensor has in the checkpoints that transformers 4 wrote."""
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def new_name(name: str) -> str:
    """Return the name a tensor has in the modules of transformers 5."""
    if "lm_head." in name:
        return name.removeprefix("language_model.")
    return "model." + name.replace("language_model.model.", "language_model.")


class WatchedReader:
    """Stands in for ``safetensors.safe_open`` and notes which tensors are read."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._safe_open = safetensors.safe_open

    def __call__(self, *args: Any, **options: Any) -> "WatchedReader":
        """Open a file."""
        opened = WatchedReader(self.names)
        opened._file = self._safe_open(*args, **options)
        return opened

    _file: Any = None

    def __enter__(self) -> "WatchedReader":
        self._file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def keys(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._file.keys())

    def get_tensor(self, name: str) -> torch.Tensor:
        """Read a tensor."""
        self.names.append(name)
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor
