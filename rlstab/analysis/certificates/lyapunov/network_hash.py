"""A hash of all numbers that a module computes with, be they weights, buffers or plain attributes."""

from __future__ import annotations

import hashlib
import json
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from rlstab.analysis.certificates.certificate import digest
from rlstab.errors import UserError

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def network_sha256(*networks: nn.Module) -> str:
    """Hash structure, weights, buffers and plain attributes of modules and of all their parts.

    The code of ``forward`` is known by the name of its class only: one that is changed is the same to this hash.

    Raises
    ------
    UserError
        An attribute is neither numbers nor text nor a function with a name, so that two modules that differ in it alone
        would have the same hash.
    """
    found = hashlib.sha256()
    for network in networks:
        found.update(repr(network).encode())
        for path, module in network.named_modules(remove_duplicate=False):
            found.update(f"{path}:{type(module).__module__}.{type(module).__qualname__}".encode())
            # Buffers that are not saved are numbers all the same.
            own: dict[str, Any] = {**dict(module.named_parameters(recurse=False))}
            own.update(module.named_buffers(recurse=False))
            own.update({name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE})
            for name, value in sorted(own.items()):
                found.update(f"{name}={_text(value, f'{type(module).__name__}.{name}')};".encode())
    return found.hexdigest()


def _text(value: Any, where: str) -> str:
    if isinstance(value, Tensor):
        return digest(value.detach().cpu().double().numpy())
    if isinstance(value, np.ndarray | np.generic) and np.issubdtype(value.dtype, np.number):
        return digest(np.asarray(value, np.float64))
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value)
    if isinstance(value, list | tuple | set | frozenset):
        texts = [_text(entry, where) for entry in value]
        return "[" + ",".join(sorted(texts) if isinstance(value, set | frozenset) else texts) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(key, where)}:{_text(entry, where)}" for key, entry in value.items()) + "}"
    # A function at the top of a module is known by its name, as the code of a class is; one made elsewhere is not.
    is_function = isinstance(value, FunctionType | BuiltinFunctionType | type)
    if is_function and "<" not in value.__qualname__ and isinstance(_owner(value), ModuleType | type | None):
        return f"{value.__module__}.{value.__qualname__}"
    raise UserError(
        f"{where} is a {type(value).__name__}, which a certificate cannot identify: make it numbers, text or a module"
    )


def _owner(function: Any) -> Any:
    """What a built-in function is bound to; None for others."""
    return getattr(function, "__self__", None)
