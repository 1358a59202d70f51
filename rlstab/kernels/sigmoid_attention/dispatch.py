"""Which code runs a call: fast code where it is right, the reference where only that is.

A function with a custom derivative answers forward-mode differentiation with a tangent of zero, and says nothing.
Whatever asks for other derivatives than plain reverse mode therefore gets the reference, whose derivatives are torch's
own.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import blockwise, function, ops, reference
from rlstab.kernels.sigmoid_attention.problem import Problem
from rlstab.kernels.sigmoid_attention.transforms import under_transform

Backend: TypeAlias = Literal["auto", "triton", "specialised", "eager", "blockwise"]
BACKENDS = ("auto", "triton", "specialised", "eager", "blockwise")

_log = logging.getLogger(__name__)

_FEW_KEYS = 192
"""Up to so many keys the reference is as fast on a CPU, and its weights are small."""


def run(problem: Problem, backend: Backend) -> Tensor:
    """Compute a call by the code that ``backend`` names, or by the best one for it.

    Raises
    ------
    UserError
        The backend can't run here, or not this call.
    """
    if needs_reference(problem):
        if backend in ("triton", "specialised", "blockwise") and not torch.compiler.is_compiling():
            _say_once(f"{backend} has no forward-mode or torch.func derivatives: the reference computes these calls")
        return reference.attend(problem)
    chosen = _choose(problem) if backend == "auto" else backend
    if chosen == "specialised":
        problem = replace(problem, specialised=True)
    if torch.compiler.is_compiling() and chosen in ("blockwise", "triton", "specialised"):
        return ops.attend(problem)
    if chosen == "eager":
        return reference.attend(problem)
    if chosen == "blockwise":
        if problem.q.device.type != "cpu":
            raise UserError(f"backend 'blockwise' is for the CPU, q is on {problem.q.device}: use 'auto'")
        return function.attend(problem, blockwise)
    if not has_triton():
        raise UserError(f"backend '{chosen}' needs the package triton: pip install triton, or use backend='auto'")
    from rlstab.kernels.sigmoid_attention import launch

    launch.check(problem)
    return function.attend(problem, launch)


def needs_reference(problem: Problem) -> bool:
    """Whether something other than plain reverse mode looks at this call."""
    if torch.compiler.is_exporting():
        return True
    tensors = [problem.q, problem.k, problem.v, problem.bias_tensor, problem.alibi_slopes]
    return under_transform([tensor for tensor in tensors if tensor is not None])


def _choose(problem: Problem) -> Backend:
    if problem.q.device.type == "cuda" and problem.q.dtype != torch.float64 and has_triton():
        return "triton"
    if problem.q.device.type == "cpu" and problem.k.shape[2] > _FEW_KEYS:
        return "blockwise"
    return "eager"


def has_triton() -> bool:
    """Whether Triton is installed; it is not imported."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _say_once(message: str) -> None:
    _log.warning(message)
