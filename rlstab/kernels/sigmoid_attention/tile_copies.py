# pyright: basic
"""What kernels that copy whole tiles (TMA) need of the host. Imported only when one is to run: it imports Triton."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
import triton
from torch import Tensor

from rlstab.errors import UserError

_BYTES = 16
"""Descriptors of tiles begin, and step from row to row, at multiples of this."""

_can_allocate: ContextVar[bool] = ContextVar("_can_allocate", default=False)
_compiled: dict[tuple[Any, ...], int] = {}


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that descriptors of tiles can describe."""
    element = tensor.element_size()
    fits = tensor.data_ptr() % _BYTES == 0 and tensor.stride(3) == 1
    for axis, stride in enumerate(tensor.stride()[:3]):
        # That from row to row is written into the descriptor even where there is one row.
        counts = axis == 2 or tensor.shape[axis] > 1
        fits = fits and not (counts and (stride <= 0 or stride * element % _BYTES))
    return tensor if fits else tensor.clone(memory_format=torch.contiguous_format)


def let_allocate() -> None:
    """Let Triton ask torch for the memory that descriptors lie in; it keeps the way to ask by thread."""
    if not _can_allocate.get():
        triton.set_allocator(_allocate)
        _can_allocate.set(True)


def _allocate(size: int, alignment: int, stream: int | None) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="cuda")


def compiled_warps(
    name: str, kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any], grid: tuple[int, ...]
) -> int:
    """Compile a kernel for a call before it runs, once, and say how many warps it has.

    Raises
    ------
    UserError
        This version of Triton does not compile it: what compilers raise does not tell a user what to do.
    """
    # Tensors' types and whether integers are one, or divisible by 16, are what else a compiler is told of.
    known = tuple(argument.dtype if isinstance(argument, Tensor) else argument for argument in arguments)
    key = (name, arguments[0].device, known, *constants.values())
    if key not in _compiled:
        try:
            _compiled[key] = int(kernel.warmup(*arguments, grid=grid, **constants).metadata.num_warps)
        except Exception as error:
            cause = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            raise UserError(
                f"Triton {triton.__version__} does not compile {name} ({cause}): use backend='auto'"
            ) from error
    return _compiled[key]
