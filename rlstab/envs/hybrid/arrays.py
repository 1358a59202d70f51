"""One formula for numpy and torch: which library an array belongs to, and the few words that differ."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

Array = Any
"""A `numpy.ndarray` or a `torch.Tensor`; float64 wherever numbers are to be trusted."""


def namespace(array: Array) -> Any:
    """Module whose functions take ``array``: numpy, or torch for its tensors.

    Torch is never imported here: whoever holds one of its tensors has done so.

    Examples
    --------
    >>> namespace(np.zeros(2)).__name__
    'numpy'
    """
    return sys.modules["torch"] if type(array).__module__.partition(".")[0] == "torch" else np


def detached(array: Array) -> Array:
    """The same numbers, cut off from what they were computed from."""
    return array.detach() if hasattr(array, "detach") else array


def carries_gradient(*arrays: Array) -> bool:
    """Whether torch records how one of them was computed."""
    return any(getattr(array, "requires_grad", False) for array in arrays)


def columns(*parts: Array) -> Array:
    """Put arrays ``(n,)`` beside each other: ``(n, k)``. Plain numbers are repeated."""
    like = next(part for part in parts if hasattr(part, "shape") and part.shape)
    xp = namespace(like)
    return xp.stack([part if getattr(part, "shape", ()) else part + 0.0 * like for part in parts], -1)


def choose(mask: Array, chosen: Array, otherwise: Array) -> Array:
    """Rows of ``chosen (n, ...)`` where ``mask (n,)`` holds, of ``otherwise`` elsewhere."""
    shape = tuple(mask.shape) + (1,) * (len(chosen.shape) - 1)
    return namespace(chosen).where(mask.reshape(shape), chosen, otherwise)


def taken(table: Array, index: Array) -> Array:
    """Entry ``index[i]`` of each row of ``table (n, k)``: ``(n,)``."""
    if namespace(table) is np:
        return np.take_along_axis(table, np.asarray(index)[:, None], 1)[:, 0]
    return table.gather(1, index[:, None])[:, 0]


def any_of(mask: Array) -> bool:
    """Whether one holds."""
    return bool(mask.any())


def wrap(angle: Array) -> Array:
    """The same direction in ``[-pi, pi)``; angles that lie there already stay bit for bit, and the slope is 1.

    Examples
    --------
    >>> [round(float(wrap(np.array(angle))), 6) for angle in (0.1, 4.0, -math.pi, math.pi)]
    [0.1, -2.283185, -3.141593, -3.141593]
    """
    turns = namespace(angle).floor((detached(angle) + math.pi) / (2.0 * math.pi))
    return angle - 2.0 * math.pi * turns
