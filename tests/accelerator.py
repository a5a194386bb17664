"""A pretend accelerator: a torch device of its own, whose numbers the CPU keeps and works on.

It gives the CPU's results and refuses what a GPU refuses: operators on tensors of two devices, a
random generator of the other device, NumPy's view of a tensor that is not in main memory. So code
that forgets to move a tensor fails here as it would there. It stays for the life of the process:
use it in one of its own. ``import tests.accelerator`` before anything that names ``torch.tensor``.

Torch's support for devices written in Python is new and changes (here: 2.13).
"""

from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_MOVES = ("aten::_to_copy", "aten::copy_")
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class OnDevice(torch.Tensor):
    """A tensor on the device; ``numbers`` is the CPU's."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "OnDevice":
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, numbers.size(), strides=numbers.stride(), dtype=numbers.dtype,
            storage_offset=numbers.storage_offset(), device=torch.device(NAME, 0),
        )  # fmt: skip
        tensor.numbers = numbers
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.numbers.tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError(f"this tensor is on {self.device}: move it to the CPU first")

    def __array__(self, *options: Any, **more: Any) -> Any:
        return self.numpy()


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    target = kwargs.get("device")
    lands_here = bool(here) if target is None else torch.device(target).type == NAME
    _check_devices(name, args, kwargs, here, tensors)
    out = func(*tree_map(_bare, args), **tree_map(_bare, kwargs))
    if name == "aten::copy_":
        return args[0]
    if not lands_here:
        return out
    out = tree_map(lambda leaf: OnDevice(leaf) if isinstance(leaf, torch.Tensor) else leaf, out)
    if not here or name == "aten::_to_copy":
        return out
    return return_and_correct_aliasing(func, args, kwargs, out)


def _check_devices(
    name: str, args: Any, kwargs: Any, here: list[OnDevice], tensors: list[torch.Tensor]
) -> None:
    if name in _MOVES:
        return
    if name in _INDEXING:  # indices may be on the CPU, as with CUDA; what is indexed may not
        tensors = [args[0], *args[2:3]]
    elsewhere = [t for t in tensors if not isinstance(t, OnDevice) and t.dim()]
    if here and elsewhere:
        shapes = [tuple(tensor.shape) for tensor in elsewhere]
        raise RuntimeError(f"{name}: some tensors are on {NAME}:0, others on the CPU: {shapes}")
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != NAME:
        raise RuntimeError(f"{name}: a generator of {generator.device} on {NAME}:0")


def _bare(leaf: Any) -> Any:
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.numbers if isinstance(leaf, OnDevice) else leaf


def _tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
    """Stand in for ``torch.tensor``, which does not ask devices written in Python."""
    if device is None:
        modes = [mode for mode in _get_current_function_mode_stack() if hasattr(mode, "device")]
        device = modes[-1].device if modes else "cpu"
    return _make_tensor(data, device="cpu", **options).to(device)


_setup_privateuseone_for_python_backend(NAME)
getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16]
_fallbacks = torch.library.Library("_", "IMPL")
_fallbacks.fallback(_run, "PrivateUse1")
_fallbacks.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
_make_tensor, torch.tensor = torch.tensor, _tensor
torch.inference_mode = torch.no_grad
"""Tensors made in inference mode have no versions, which tensors of Python devices need."""
