"""Golden vectors as plain objects; see tests/golden/README.md."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    name: str
    params: dict[str, Any]
    info: dict[str, Any]
    arrays: dict[str, Tensor]

    def __repr__(self) -> str:
        return self.name

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    @property
    def base(self) -> Tensor:
        return self["base"][None]  # (1, N1, D)

    @property
    def grid(self) -> Tensor:
        return self["hires"][None]  # (1, rows, columns, D)


def load(name: str) -> Case:
    with numpy.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        meta = json.loads(str(file["meta_json"]))
        names = [key for key in file.files if key != "meta_json"]
        arrays = {key: torch.from_numpy(numpy.asarray(file[key])) for key in names}
    return Case(name=name, params=meta["params"], info=meta["info"], arrays=arrays)


def load_all(prefix: str) -> list[Case]:
    return [load(path.stem) for path in sorted(GOLDEN.glob(f"{prefix}*.npz"))]
