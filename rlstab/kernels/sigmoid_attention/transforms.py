"""What torch is doing around a call: differentiating in other ways, compiling, exporting, or casting by itself."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# Neither has a public way to ask whether it is at work.
_functorch: Any = importlib.import_module("torch._C._functorch")
_forward_ad: Any = importlib.import_module("torch.autograd.forward_ad")

_CASTING_DEVICES = ("cpu", "cuda")


def _is_transforming() -> bool:
    """Whether the code that runs, or is compiled, is inside of a `torch.func` transform."""
    return _functorch.peek_interpreter_stack() is not None


# Compilers call it when they trace, and keep the answer: code is traced anew inside of a transform.
_compiler: Any = torch.compiler
transforming: Callable[[], bool] = _compiler.assume_constant_result(_is_transforming)


def under_transform(tensors: list[Tensor]) -> bool:
    """Whether a `torch.func` transform or forward-mode differentiation is under way."""
    if transforming():
        return True
    # Read here, so that compiled code is guarded by it. Outside of a level, looking for tangents is an error.
    if _forward_ad._current_level < 0:
        return False
    return torch.compiler.is_compiling() or any(
        _forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors
    )


def holds_several(cotangent: Tensor) -> bool:
    """Whether a cotangent is many at once, as in a vectorised Jacobian (``is_grads_batched``)."""
    # The prototype of vmap that `torch.autograd.grad` has kept is no transform of `torch.func`.
    return transforming() or _functorch.is_legacy_batchedtensor(cotangent)


def readable(tensor: Tensor) -> bool:
    """Whether values can be looked at without waiting for a GPU, and are there at all: not while a call is traced."""
    return tensor.device.type == "cpu" and _has_values(tensor)


def _has_values(tensor: Tensor) -> bool:
    # Compilers ask, too: a subclass stands for what is to come.
    return not torch.compiler.is_compiling() and type(tensor) in (Tensor, nn.Parameter) and not transforming()


def autocast_type(device: torch.device) -> torch.dtype | None:
    """The type that `torch.autocast` computes in on a device, ``None`` where it is not at work."""
    if device.type not in _CASTING_DEVICES or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def as_autocast_does(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast tensors as autocast casts the arguments of torch's own attention; float64 is left as it is."""
    if not all(isinstance(tensor, Tensor) for tensor in tensors):  # pyright: ignore[reportUnnecessaryIsInstance]
        return tensors  # Refused later, by name.
    dtype = autocast_type(tensors[0].device)
    if dtype is None:
        return tensors
    return tuple(
        tensor.to(dtype) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor
        for tensor in tensors
    )


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Leave the types inside of a call to the call."""
    if autocast_type(device) is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
