"""What stands in for a tensor in code that was written for tensors, torch's own modules included."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from rlstab.envs.plants import SmoothFunction
from rlstab.errors import UserError


class TensorLike(ABC):
    """A quantity for ``N`` boxes that behaves as a tensor of shape ``(N, *shape)``: torch calls its methods.

    Subclasses give the operations below; what can be made of them is made here. Shapes are those of one state or
    control vector, ``(N, k)``, or of one number, ``(N,)``: the only axis to index, sum, split and join along is the
    last.
    """

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """As of the tensor that this stands for: ``(N, *shape)``."""

    @property
    def ndim(self) -> int:
        """Number of axes, the boxes' included."""
        return len(self.shape)

    @abstractmethod
    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Self:
        """``weight q + bias`` for a quantity of shape ``(N, k)`` and ``weight (m, k)``."""

    @abstractmethod
    def __add__(self, other: Any) -> Self: ...

    @abstractmethod
    def __mul__(self, other: Any) -> Self: ...

    @abstractmethod
    def __neg__(self) -> Self: ...

    @abstractmethod
    def reciprocal(self) -> Self:
        """``1 / q`` of what is positive on every box."""

    @abstractmethod
    def sum(self, dim: int = -1) -> Self:
        """Over the last axis."""

    @abstractmethod
    def __getitem__(self, index: tuple[Any, Any]) -> Self: ...

    @staticmethod
    @abstractmethod
    def stack(parts: Sequence[Any], dim: int = -1) -> Any:
        """The inverse of `unbind`."""

    @abstractmethod
    def leaky_relu(self, negative_slope: float = 0.01) -> Self:
        """``max(q, leak q)``."""

    @abstractmethod
    def clamp(self, min: Any = None, max: Any = None) -> Self:
        """``q`` within constant limits."""

    @abstractmethod
    def abs(self) -> Self:
        """``|q|``."""

    @abstractmethod
    def square(self) -> Self:
        """``q^2``; tighter than ``q * q``."""

    @abstractmethod
    def sin(self) -> Self:
        """``sin q``."""

    @abstractmethod
    def tanh(self) -> Self:
        """``tanh q``."""

    @abstractmethod
    def smooth(self, function: SmoothFunction) -> Self:
        """Any function whose curvature is bounded."""

    @abstractmethod
    def rounded(self, relative: float) -> Self:
        """``q + d`` for every ``d``, which may differ from state to state, with ``|d| <= relative |q|``."""

    def relu(self) -> Self:
        """``max(q, 0)``."""
        return self.leaky_relu(0.0)

    def cos(self) -> Self:
        """``cos q = sin(q + pi/2)``."""
        return (self + 0.5 * torch.pi).sin()

    def unbind(self, dim: int = -1) -> tuple[Self, ...]:
        """Entries of the last axis, one by one."""
        last_axis(dim)
        return tuple(self[..., index] for index in range(self.shape[-1]))

    def __radd__(self, other: Any) -> Self:
        return self + other

    def __rmul__(self, other: Any) -> Self:
        return self * other

    def __sub__(self, other: Any) -> Self:
        return self + (-other)

    def __rsub__(self, other: Any) -> Self:
        return -self + other

    def __truediv__(self, other: Any) -> Self:
        return self * (other.reciprocal() if isinstance(other, TensorLike) else 1.0 / other)

    def __rtruediv__(self, other: Any) -> Self:
        return self.reciprocal() * other

    def __matmul__(self, other: Tensor) -> Self:
        return self.linear(other.T)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let torch's own functions and modules run on this."""
        del types
        name = getattr(func, "__name__", str(func))
        found = _FUNCTIONS.get(name.strip("_"))
        if found is None:
            known = ", ".join(sorted(_FUNCTIONS))
            raise UserError(f"no bounds are known for torch's {name}: write the map with {known}")
        return found(*args, **{key: value for key, value in (kwargs or {}).items() if key != "inplace"})


def last_axis(dim: int) -> None:
    """Refuse any other.

    Raises
    ------
    UserError
        ``dim`` is not -1.
    """
    if dim != -1:
        raise UserError(f"bounds are split and joined along their last axis, dim=-1, not {dim}")


def last_index(index: Any) -> Any:
    """What is taken of the last axis in ``q[..., index]``.

    Raises
    ------
    UserError
        Another axis is indexed.
    """
    if not (isinstance(index, tuple) and len(index) == 2 and index[0] is Ellipsis):
        raise UserError("bounds are indexed along their last axis only, as in q[..., 0]")
    return index[1]


def _leaky_relu(bounds: TensorLike, negative_slope: float = 0.01, inplace: bool = False) -> TensorLike:
    del inplace
    return bounds.leaky_relu(negative_slope)


def _hardtanh(bounds: TensorLike, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> TensorLike:
    del inplace
    return bounds.clamp(min_val, max_val)


def _add(left: Any, right: Any) -> TensorLike:
    return left + right if isinstance(left, TensorLike) else right + left


def _mul(left: Any, right: Any) -> TensorLike:
    return left * right if isinstance(left, TensorLike) else right * left


def _sub(left: Any, right: Any) -> TensorLike:
    return left - right if isinstance(left, TensorLike) else right.__rsub__(left)


def _div(left: Any, right: Any) -> TensorLike:
    return left / right if isinstance(left, TensorLike) else right.__rtruediv__(left)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "linear": lambda bounds, weight, bias=None: bounds.linear(weight, bias),
    "matmul": lambda bounds, weight: bounds @ weight,
    "add": _add,
    "radd": _add,
    "sub": _sub,
    "rsub": lambda right, left: _sub(left, right),
    "mul": _mul,
    "rmul": _mul,
    "div": _div,
    "truediv": _div,
    "rtruediv": lambda right, left: _div(left, right),
    "relu": lambda bounds, inplace=False: bounds.relu(),
    "leaky_relu": _leaky_relu,
    "hardtanh": _hardtanh,
    "clamp": lambda bounds, min=None, max=None: bounds.clamp(min, max),
    "abs": lambda bounds: bounds.abs(),
    "square": lambda bounds: bounds.square(),
    "sin": lambda bounds: bounds.sin(),
    "cos": lambda bounds: bounds.cos(),
    "tanh": lambda bounds: bounds.tanh(),
    "reciprocal": lambda bounds: bounds.reciprocal(),
    "sum": lambda bounds, dim=-1: bounds.sum(dim),
    "stack": lambda parts, dim=0: parts[0].stack(parts, dim),
    "unbind": lambda bounds, dim=0: bounds.unbind(dim),
}
"""torch's name of an operation to ours."""
