"""The two places where data changes between numpy and torch, and where a device is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlstab.errors import UserError


def to_tensor(
    array: Any, device: torch.device | str = "cpu", dtype: torch.dtype | None = torch.float32
) -> torch.Tensor:
    """Copy an array to ``device``; ``dtype=None`` keeps the array's own type."""
    return torch.as_tensor(np.asarray(array), device=device).to(dtype=dtype, copy=True)


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Copy a tensor to host memory."""
    return tensor.detach().cpu().numpy().copy()


def state_to_arrays(module: torch.nn.Module) -> dict[str, NDArray[Any]]:
    """A module's parameters and buffers as arrays, by name."""
    return {name: to_array(value) for name, value in module.state_dict().items()}


def arrays_to_state(module: torch.nn.Module, arrays: dict[str, Any]) -> None:
    """Load what `state_to_arrays` returned.

    Raises
    ------
    UserError
        Names or shapes differ: the weights belong to another network.
    """
    own = module.state_dict()
    if own.keys() != arrays.keys():
        names = ", ".join(sorted(own.keys() ^ arrays.keys())[:4])
        message = f"these weights belong to another network: {names} do not match"
        raise UserError(message)
    for name, value in own.items():
        array = np.asarray(arrays[name])
        if tuple(value.shape) != array.shape:
            shapes = f"{name} has shape {array.shape}, expected {tuple(value.shape)}"
            message = f"these weights belong to another network: {shapes}"
            raise UserError(message)
        value.copy_(torch.as_tensor(array))


def pick_device(name: str) -> torch.device:
    """``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises
    ------
    UserError
        The device is unknown or not present.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    # Torch has more: devices without data (meta), and those that its CPU and CUDA builds only know by name.
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        message = f"unknown device '{name}': use auto, cpu, cuda or cuda:N"
        raise UserError(message)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            message = f"device '{name}' was asked for, but torch sees no GPU: use --device cpu"
            raise UserError(message)
        if device.index is not None and device.index >= count:
            message = f"device '{name}' was asked for, but the GPUs torch sees are cuda:0 to cuda:{count - 1}"
            raise UserError(message)
    return device
