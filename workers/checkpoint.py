"""Reading a checkpoint in transformers format, one part at a time.

A vision worker reads the vision tower and the projector only, a language worker the language model
only: just those tensors are read from the safetensors files, and from the hub just the files that
hold them. Weights in any other format, and code shipped with a checkpoint, are never touched.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.errors import ModelError

if TYPE_CHECKING:
    import torch

EMBEDDED = "embedded"

# The names written by transformers 4 and 5, and what they are called in the module loaded alone.
VISION_TOWER = {r"(?:model\.)?vision_tower\.(?:vision_model\.)?(.+)": r"\1"}
PROJECTOR = {
    r"(?:model\.)?multi_modal_projector\.(.+)": r"projector.\1",
    r"(?:model\.)?image_newline": "image_newline",
}
LANGUAGE_MODEL = {
    r"(?:language_model\.)?(lm_head\..+)": r"\1",
    r"language_model\.model\.(.+)": r"model.\1",
    r"model\.language_model\.(?!model\.)(.+)": r"model.\1",
}


def locate(model: str) -> str:
    """Turn what the user calls a model into a local folder or a hub repository's name.

    Args:
        model: ``"embedded"``, a folder, or ``namespace/name`` on the hub.

    Raises:
        ModelError: neither a folder nor shaped like a hub name.
    """
    if model == EMBEDDED:
        return str(Path(__file__).with_name("embedded"))
    if (model and Path(model).is_dir()) or re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return model
    raise ModelError(
        f"unknown model {model!r}: give {EMBEDDED!r}, a checkpoint folder, or namespace/name on "
        "the hub"
    )


def read_config(location: str) -> dict[str, Any]:
    """Return the checkpoint's ``config.json``.

    Raises:
        ModelError: it is missing or is not JSON.
    """
    path = fetch(location, "config.json")
    if path is None:
        raise ModelError(f"{location}: no config.json, so this is no checkpoint folder")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raises ModelError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not a JSON object")
    return content


def read_tensors(
    location: str,
    names: Mapping[str, str],
    *,
    dtype: "torch.dtype",
    wanted: Callable[[str], bool] = lambda name: True,
) -> dict[str, "torch.Tensor"]:
    """Read the tensors whose names match, renamed and cast, from the safetensors files.

    Args:
        location: what ``locate`` returned.
        names: regular expression of a stored name -> the name to return it under.
        dtype: floating dtype to cast to while reading, so that no second copy is ever held.
        wanted: asked with the new name; a tensor it declines is not read.

    Returns:
        New name -> tensor on the CPU.

    Raises:
        ModelError: no safetensors files, an unreadable one, or no tensor that matches.
    """
    from safetensors import SafetensorError, safe_open

    tensors = {}
    for file, stored_names in stored_tensors(location).items():
        renamed = {stored: new_name(stored, names) for stored in stored_names}
        chosen = {stored: new for stored, new in renamed.items() if new and wanted(new)}
        if not chosen:
            continue
        path = fetch(location, file)
        if path is None:
            raise ModelError(f"{location}: {file} is missing")
        try:
            with safe_open(path, framework="pt") as shard:
                for stored, new in chosen.items():
                    tensors[new] = shard.get_tensor(stored).to(dtype)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: unreadable safetensors file ({error})") from None
    if not tensors:
        raise ModelError(f"{location}: its safetensors files hold no {' or '.join(names)}")
    return tensors


def build_module(
    module_class: Any, location: str, *, config: Any, tensors: dict[str, Any], dtype: "torch.dtype"
) -> Any:
    """Make a transformers model of exactly these tensors, ready for inference on the CPU.

    The tensors become its parameters without a copy.

    Raises:
        ModelError: one is missing, or has another shape than the configuration says.
    """
    module, info = module_class.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    for name in sorted(info["missing_keys"]):
        raise ModelError(f"{location}: no tensor {name} for the {module_class.__name__}")
    for name, stored, configured in sorted(info["mismatched_keys"]):
        raise ModelError(
            f"{location}: {name} is {tuple(stored)}, but the configuration says {tuple(configured)}"
        )
    return module.eval()


def new_name(stored: str, names: Mapping[str, str]) -> str | None:
    """Return the name under which a stored tensor is used, None where it is not."""
    for pattern, replacement in names.items():
        match = re.fullmatch(pattern, stored)
        if match:
            return match.expand(replacement)
    return None


def stored_tensors(location: str) -> dict[str, list[str]]:
    """Return the names of the tensors in each safetensors file of the checkpoint."""
    from safetensors import SafetensorError, safe_open

    index = fetch(location, "model.safetensors.index.json", optional=True)
    if index is not None:
        files: dict[str, list[str]] = {}
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ModelError(f"{index}: no weight_map")
        for name, file in weight_map.items():
            files.setdefault(file, []).append(name)
        return files
    single = fetch(location, "model.safetensors")
    if single is None:
        raise ModelError(f"{location}: no safetensors weights (other formats are not read)")
    try:
        with safe_open(single, framework="pt") as shard:
            return {"model.safetensors": list(shard.keys())}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{single}: unreadable safetensors file ({error})") from None


def read_optional(location: str, file: str) -> dict[str, Any]:
    """Return the object in a JSON file that a checkpoint may lack, ``{}`` without it.

    Raises:
        ModelError: it is not JSON, or the hub fails.
    """
    path = fetch(location, file, optional=True)
    return {} if path is None else read_json(path)


def fetch(location: str, file: str, *, optional: bool = False) -> Path | None:
    """Return the local path of a checkpoint's file, or None; from the hub if need be.

    Args:
        location: what ``locate`` returned.
        file: its name.
        optional: take a file that is not in the hub cache, while the checkpoint's configuration is,
            for one that the checkpoint lacks, where the hub cannot be asked.

    Raises:
        ModelError: the hub fails or cannot be reached.
    """
    if Path(location).is_dir():
        path = Path(location, file)
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(hf_hub_download(location, file))
    except LocalEntryNotFoundError:
        if optional and isinstance(try_to_load_from_cache(location, "config.json"), str):
            return None
        raise ModelError(
            f"model {location!r} is neither a local folder nor in the hub cache, and the hub "
            "cannot be reached"
        ) from None
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError) as error:
        raise ModelError(f"model {location!r}: {str(error).splitlines()[0]}") from None
