"""What the commands here take as arguments, refused in one line where it cannot be used."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import torch


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return int(text)


def folder_of(name: str) -> Callable[[str], Path]:
    """Return a type of folders that hold a file of this name."""

    def folder(text: str) -> Path:
        if not (Path(text) / name).is_file():
            raise ArgumentTypeError(f"{text}: must be a folder with {name}")
        return Path(text)

    return folder


def file(text: str) -> Path:
    """Return the path of a file that is there."""
    if not Path(text).is_file():
        raise ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def new_folder(text: str) -> Path:
    """Return the path of a folder that may have to be made."""
    if Path(text).exists() and not Path(text).is_dir():
        raise ArgumentTypeError(f"{text}: is a file; give a folder")
    return Path(text)


def device(text: str) -> torch.device:
    """Return a device that torch has."""
    try:
        return torch.empty(0, device=text).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: built without CUDA
        reason = str(error).splitlines()[0]
        raise ArgumentTypeError(f"{text}: cannot be used ({reason})") from None
