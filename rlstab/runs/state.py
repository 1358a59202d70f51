"""Take a tree of arrays and plain values apart into named arrays and JSON, and put it together again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from rlstab.runs.tensors import FORMAT_NAMES

StateTree: TypeAlias = dict[str, Any]
"""A dictionary with string keys whose values are dictionaries, lists, None, bool, int, float, str or numpy arrays."""

Tensors: TypeAlias = dict[str, NDArray[Any]]

# Marks, among the keys of the JSON tree, what JSON itself cannot hold. A user's key that starts with it is escaped by
# doubling it.
_MARK = "$"
_ARRAY_MARKS = ("$array", "$scalar")


def pack(tree: Any) -> tuple[Tensors, Any]:
    """Split a state tree into arrays and a JSON-able skeleton.

    Parameters
    ----------
    tree : dict, list or leaf
        Leaves: None, bool, int of any size, float (also NaN and infinities), str, numpy arrays and numpy scalars of
        boolean, integer, float16/32/64 or complex64 type. Shapes may be empty or zero-dimensional.

    Returns
    -------
    tensors : dict of str to numpy.ndarray
        The arrays by their path in the tree, as in ``"policy/weights/0"``. Not copied.
    skeleton : object
        The rest, with references to the arrays; ``json.dumps`` takes it.

    Raises
    ------
    TypeError
        A leaf or a key of another type. The message names its place.

    Examples
    --------
    >>> tensors, skeleton = pack({"step": 3, "weights": [np.zeros(2)]})
    >>> list(tensors), skeleton
    (['weights/0'], {'step': 3, 'weights': [{'$array': 'weights/0'}]})
    """
    tensors: Tensors = {}
    return tensors, _pack(tree, (), tensors)


def unpack(tensors: Mapping[str, NDArray[Any]], skeleton: Any) -> Any:
    """Put together what `pack` took apart.

    Raises
    ------
    ValueError
        The skeleton refers to an array that is not there, or has an unknown mark.
    """
    if isinstance(skeleton, list):
        return [unpack(tensors, item) for item in cast("list[Any]", skeleton)]
    if not isinstance(skeleton, dict):
        return skeleton
    tree = cast("dict[str, Any]", skeleton)
    if len(tree) == 1:
        key, value = next(iter(tree.items()))
        if key.startswith(_MARK) and not key.startswith(_MARK * 2):
            return _restore(key, value, tensors)
    return {key[1:] if key.startswith(_MARK) else key: unpack(tensors, value) for key, value in tree.items()}


def array_names(skeleton: Any) -> list[str]:
    """Names of the arrays that a skeleton, or a branch of one, refers to."""
    if isinstance(skeleton, list):
        return [name for item in cast("list[Any]", skeleton) for name in array_names(item)]
    if not isinstance(skeleton, dict):
        return []
    tree = cast("dict[str, Any]", skeleton)
    if len(tree) == 1 and next(iter(tree)) in _ARRAY_MARKS:
        return [str(value) for value in tree.values()]
    return [name for value in tree.values() for name in array_names(value)]


def _pack(value: Any, path: tuple[str, ...], tensors: Tensors) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        mark = "$array" if isinstance(value, np.ndarray) else "$scalar"
        array = np.asarray(cast("Any", value))
        if array.dtype.name not in FORMAT_NAMES or not array.dtype.isnative:
            raise TypeError(f"state '{_place(path)}' has the array type {array.dtype}, which a checkpoint cannot hold")
        name = _free_name(path, tensors)
        tensors[name] = array
        return {mark: name}
    if isinstance(value, dict):
        packed: dict[str, Any] = {}
        for key, item in cast("dict[Any, Any]", value).items():
            if type(key) is not str:
                raise TypeError(f"state '{_place(path)}' has the key {key!r}; keys must be text")
            packed[_MARK + key if key.startswith(_MARK) else key] = _pack(item, (*path, key), tensors)
        return packed
    if isinstance(value, list):
        return [_pack(item, (*path, str(index)), tensors) for index, item in enumerate(cast("list[Any]", value))]
    raise TypeError(
        f"state '{_place(path)}' is a {type(value).__name__}; a checkpoint holds dict, list, None, bool, int, float, "
        "str and numpy arrays (torch tensors: .detach().cpu().numpy(); tuples: list())"
    )


def _restore(mark: str, value: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    if mark == "$float":
        return float(value)
    if mark not in _ARRAY_MARKS:
        raise ValueError(f"unknown mark '{mark}'")
    if value not in tensors:
        raise ValueError(f"the array '{value}' is missing")
    return tensors[value] if mark == "$array" else tensors[value][()]


def _place(path: tuple[str, ...]) -> str:
    return "/".join(path) or "(root)"


def _free_name(path: tuple[str, ...], tensors: Tensors) -> str:
    """Find a name for an array: its path, or with a suffix where keys that hold a slash made that ambiguous."""
    # Plain ASCII, because readers in other languages refuse broken Unicode; "__metadata__" is the format's own key.
    stem = _place(path).encode("ascii", "backslashreplace").decode()
    name, count = stem, 1
    while name in tensors or name == "__metadata__":
        count += 1
        name = f"{stem}#{count}"
    return name
