"""Gymnasium spaces as JSON, so that a saved policy knows its interface without a pickle."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlstab.errors import UserError


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """Describe a space; `space_from_json` is the inverse.

    Raises
    ------
    UserError
        The space is of a kind that no policy here reads.
    """
    match space:
        case spaces.Box():
            return {
                "kind": "box",
                "low": _bounds_to_json(space.low),
                "high": _bounds_to_json(space.high),
                "shape": list(space.shape),
                "dtype": str(space.dtype),
            }
        case spaces.Discrete():
            return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {"kind": "multi_discrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
        case spaces.MultiBinary():
            return {"kind": "multi_binary", "shape": list(space.shape)}
    message = (
        f"{type(space).__name__} spaces are not supported: flatten them first, for example with "
        "gymnasium.wrappers.FlattenObservation"
    )
    raise UserError(message)


def space_from_json(description: dict[str, Any]) -> spaces.Space:
    """Rebuild a space from `space_to_json`."""
    match description["kind"]:
        case "box":
            shape = tuple(description["shape"])
            dtype = np.dtype(description["dtype"])
            low = np.broadcast_to(np.array(description["low"], np.float64), shape).astype(dtype)
            high = np.broadcast_to(np.array(description["high"], np.float64), shape).astype(dtype)
            return spaces.Box(low, high, dtype=dtype.type)
        case "discrete":
            return spaces.Discrete(description["n"], start=description["start"])
        case "multi_discrete":
            return spaces.MultiDiscrete(np.array(description["nvec"]), start=np.array(description["start"]))
        case "multi_binary":
            shape = description["shape"]
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    message = f"unknown space '{description['kind']}': the file was written by a newer version"
    raise UserError(message)


def _bounds_to_json(bounds: np.ndarray) -> Any:
    """One number where all bounds agree (an image has 28,224 of them), else the full nested list."""
    first = bounds.flat[0] if bounds.size else 0.0
    if bounds.size and np.all(bounds == first):
        return float(first)
    return bounds.astype(np.float64).tolist()
