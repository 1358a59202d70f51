"""What arguments have to be. Each refusal is one line that names the argument."""

from __future__ import annotations

import math
import numbers

import numpy as np
import torch
from torch import Tensor

from rlstab.errors import UserError, suggest
from rlstab.kernels.sigmoid_attention.transforms import readable

MAX_HEAD_DIM = 256
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MOST_KEYS = 2**31 - 1
"""What kernels count with; a wider window is this wide."""


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is none of the choices."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        names = [str(choice) for choice in choices]
        raise UserError(f"{name} is {value!r}, it must be one of {', '.join(names)}{suggest(str(value), names)}")


def check_flag(name: str, value: object) -> bool:
    """Refuse what is neither true nor false: any other value would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise UserError(f"{name} must be True or False, got {value!r}")
    return bool(value)  # pyright: ignore[reportUnknownArgumentType]


def check_number(name: str, value: object, what: str = "a number") -> None:
    """Refuse what is no finite number."""
    # Compilers trace numbers as symbols.
    if isinstance(value, bool) or not isinstance(value, (float, numbers.Real, torch.SymInt, torch.SymFloat)):
        raise UserError(f"{name} must be {what}, got {type(value).__name__}")
    if not math.isfinite(value):
        raise UserError(f"{name} must be finite, got {value}")


def check_whole(name: str, value: object, least: int | None = None, unit: str = "") -> int:
    """Refuse what is no whole number, or less than ``least`` ``unit``; numpy's are made Python's."""
    # Types are not held to when a call comes from a notebook; compilers trace lengths as symbols.
    if isinstance(value, bool) or not isinstance(value, (int, numbers.Integral, torch.SymInt)):
        raise UserError(f"{name} must be a whole number{unit and f' of {unit}s'}, got {value!r}")
    whole = value if isinstance(value, (int, torch.SymInt)) else int(value)
    if least is not None and whole < least:
        raise UserError(f"{name} must be at least {least}{unit and f' {unit}'}, got {whole}")
    return whole  # pyright: ignore[reportReturnType]


def check_window(window: object) -> int | None:
    """Refuse a window that holds no key, or is no whole number."""
    if window is None:
        return None
    whole = check_whole("window", window, 1, "key")
    return _MOST_KEYS if whole > _MOST_KEYS else whole


def check_is_tensor(name: str, tensor: object) -> None:
    """Refuse what is no tensor, or a sparse one."""
    if not isinstance(tensor, Tensor):
        raise UserError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided:
        raise UserError(f"{name} must be a dense tensor, got one of layout {tensor.layout}: use its to_dense()")


def check_real_type(name: str, tensor: Tensor) -> None:
    """Refuse types that nothing here computes in."""
    if tensor.dtype not in _DTYPES:
        raise UserError(f"{name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}")


def check_index(name: str, tensor: Tensor, shape: tuple[int, ...], q: Tensor) -> None:
    """Refuse all but whole numbers of this shape, on the device of ``q``."""
    check_is_tensor(name, tensor)
    if tuple(tensor.shape) != shape:
        raise UserError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if tensor.dtype not in (torch.int32, torch.int64):
        raise UserError(f"{name} must be int32 or int64, got {tensor.dtype}")
    if tensor.device != q.device:
        raise UserError(f"{name} is on {tensor.device} and q on {q.device}")


def check_added(name: str, tensor: Tensor, shapes: tuple[tuple[int, ...], ...], q: Tensor) -> None:
    """Refuse all but real numbers of one of the shapes, on the device of ``q``: what is added to scores."""
    check_is_tensor(name, tensor)
    if tuple(tensor.shape) not in shapes:
        raise UserError(f"{name} must have shape {' or '.join(map(str, shapes))}, got {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise UserError(f"{name} must be of a floating-point type, got {tensor.dtype}")
    if tensor.device != q.device:
        raise UserError(f"{name} is on {tensor.device} and q on {q.device}")


def check_scores(
    scale: object, bias: object, alibi_slopes: Tensor | None, q: Tensor, heads: int, rows: tuple[int, int]
) -> None:
    """Refuse what does not go into the scores of ``q``: the one place that knows, for sequences and for steps.

    Parameters
    ----------
    scale, bias, alibi_slopes
        As callers gave them.
    q
        The queries, for their device.
    heads
        Query heads.
    rows
        Shape of a bias that has one number a row.
    """
    if alibi_slopes is not None:
        check_added("alibi_slopes", alibi_slopes, ((heads,),), q)
    if isinstance(bias, Tensor):
        # A vector of heads comes first where a batch has as many rows: row biases have two axes.
        check_added("bias", bias, ((heads,), rows), q)
    elif isinstance(bias, str):
        if bias != "count":
            raise UserError(f"bias is '{bias}', it must be a number, a tensor or 'count'")
    elif bias is not None:
        check_number("bias", bias, "a number, a tensor or 'count'")
    if scale is not None:
        check_number("scale", scale)


def check_lowest(name: str, tensor: Tensor) -> None:
    """Refuse numbers below zero, where they can be looked at."""
    if not readable(tensor) or not tensor.numel():
        return
    lowest = tensor.min().item()
    if lowest < 0:
        raise UserError(f"{name} must be at least 0, got {lowest}")
