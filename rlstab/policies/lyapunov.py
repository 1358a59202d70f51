"""Controllers and Lyapunov functions for certified control: torch modules that bounds can be propagated through."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov
from torch import Tensor, nn

from rlstab.envs.plants import Plant
from rlstab.errors import UserError


def _mlp(sizes: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, dtype=torch.float64), activation()]
    return nn.Sequential(*layers[:-1])


class LinearFeedback(nn.Module):
    """``u = u_eq - K x``; limits are the plant's and are applied by the loop.

    Parameters
    ----------
    gain
        ``K (m, n)``.
    equilibrium
        ``u_eq (m,)``.
    """

    gain: Tensor
    equilibrium: Tensor

    def __init__(self, gain: ArrayLike, equilibrium: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("gain", _matrix("gain", gain))
        self.register_buffer("equilibrium", torch.tensor(list(equilibrium), dtype=torch.float64))
        if self.gain.shape[0] != len(self.equilibrium):
            raise UserError(f"gain has {self.gain.shape[0]} rows for {len(self.equilibrium)} controls")

    def forward(self, state: Tensor) -> Tensor:
        """``(..., n)`` to ``(..., m)``."""
        return nn.functional.linear(state, -self.gain, self.equilibrium)


class NetworkFeedback(nn.Module):
    """``u = u_eq + net(x) - net(0)``, ReLU, so that the equilibrium is kept whatever the weights.

    Parameters
    ----------
    state_size
        ``n``.
    equilibrium
        ``u_eq (m,)``.
    hidden
        Widths of the hidden layers.

    References
    ----------
    Yang et al. (2024), arXiv:2404.07956, section 3.1.
    """

    equilibrium: Tensor

    def __init__(self, state_size: int, equilibrium: Sequence[float], hidden: Sequence[int] = (8, 8, 8)) -> None:
        super().__init__()
        self.net = _mlp((state_size, *hidden, len(equilibrium)), nn.ReLU)
        self.register_buffer("equilibrium", torch.tensor(list(equilibrium), dtype=torch.float64))

    def forward(self, state: Tensor) -> Tensor:
        """``(..., n)`` to ``(..., m)``."""
        return self.net(state) + (self.equilibrium - self.net(_origin(self.net)))


class QuadraticLyapunov(nn.Module):
    """``V = x' P x`` as the sum of squares of ``L' x`` with ``P = L L'``.

    Parameters
    ----------
    matrix
        ``P (n, n)``, positive definite. What is evaluated and certified is ``L L'`` for the stored factor ``L``.
    """

    factor: Tensor

    def __init__(self, matrix: ArrayLike) -> None:
        super().__init__()
        matrix = _matrix("the Lyapunov matrix", matrix)
        if matrix.shape[0] != matrix.shape[1] or not torch.allclose(matrix, matrix.T):
            raise UserError(f"the Lyapunov matrix must be square and symmetric, got shape {tuple(matrix.shape)}")
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed):
            raise UserError("the Lyapunov matrix must be positive definite")
        self.register_buffer("factor", factor)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """``P``."""
        return (self.factor @ self.factor.T).numpy()

    def forward(self, state: Tensor) -> Tensor:
        """``(..., n)`` to ``(...,)``."""
        return nn.functional.linear(state, self.factor.T).square().sum(-1)


class LyapunovNetwork(nn.Module):
    """``V = sum |phi(x) - phi(0)| + ||(eps I + R'R) x||_1``, phi with leaky ReLU: zero at 0 and positive elsewhere.

    Parameters
    ----------
    state_size
        ``n``.
    hidden
        Widths of the hidden layers of ``phi``.
    rows
        Rows of ``R``.
    eps
        Smallest growth away from 0.
    output_size
        Of ``phi``.

    References
    ----------
    Yang et al. (2024), arXiv:2404.07956, equation 5; there eps is 0.01 and ``phi`` has one output.
    """

    def __init__(
        self,
        state_size: int,
        hidden: Sequence[int] = (16, 16, 8),
        rows: int | None = None,
        eps: float = 0.01,
        output_size: int = 1,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.phi = _mlp((state_size, *hidden, output_size), nn.LeakyReLU)
        rows = state_size + 1 if rows is None else rows
        self.root = nn.Parameter(0.1 * torch.randn(rows, state_size, dtype=torch.float64))

    def extra_repr(self) -> str:
        """What is no weight."""
        return f"eps={self.eps}"

    def forward(self, state: Tensor) -> Tensor:
        """``(..., n)`` to ``(...,)``."""
        weight = self.eps * torch.eye(self.root.shape[1], dtype=self.root.dtype) + self.root.T @ self.root
        cone = nn.functional.linear(state, weight).abs().sum(-1)
        return (self.phi(state) - self.phi(_origin(self.phi))).abs().sum(-1) + cone


def linearise(plant: Plant) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``A (n, n)`` and ``B (n, m)`` of one step at the equilibrium, by automatic differentiation."""

    def step(state: Tensor, control: Tensor) -> Tensor:
        return torch.stack(tuple(plant.step(state.unbind(-1), control.unbind(-1))), -1)

    state = torch.zeros(plant.state_size, dtype=torch.float64)
    control = torch.tensor(plant.equilibrium_control, dtype=torch.float64)
    a, b = torch.autograd.functional.jacobian(step, (state, control))
    return a.numpy(), b.numpy()


def lqr(plant: Plant, *, control_weight: float = 1.0) -> tuple[LinearFeedback, QuadraticLyapunov]:
    """The discrete LQR controller with ``Q = I`` and ``R = control_weight I``, and its cost as a Lyapunov function.

    The cost is ``x' P x`` with ``P`` of the Riccati equation. For what the literature mostly takes, see
    `discrete_lyapunov`; certified sets of the two differ by up to a factor of three, in either direction.

    Raises
    ------
    UserError
        The weight is not positive, or the plant cannot be stabilised by its linearisation.
    """
    if not control_weight > 0.0:
        raise UserError(f"control_weight must be positive, got {control_weight}")
    a, b = linearise(plant)
    weight = control_weight * np.eye(plant.control_size)
    try:
        cost = solve_discrete_are(a, b, np.eye(plant.state_size), weight)
    except np.linalg.LinAlgError as error:
        raise UserError(f"{plant.id}: no LQR controller exists ({error})") from error
    gain = np.linalg.solve(weight + b.T @ cost @ b, b.T @ cost @ a)
    return LinearFeedback(gain, plant.equilibrium_control), QuadraticLyapunov(0.5 * (cost + cost.T))


def discrete_lyapunov(plant: Plant, feedback: LinearFeedback) -> QuadraticLyapunov:
    """``x' P x`` with ``A' P A - P = -I`` for the linearised loop ``A``: it falls by ``|x|^2`` a step near 0.

    Raises
    ------
    UserError
        The linearised loop is unstable.
    """
    a, b = linearise(plant)
    closed = a - b @ feedback.gain.numpy()
    radius = float(np.abs(np.linalg.eigvals(closed)).max())
    if radius >= 1.0:
        raise UserError(f"{plant.id}: the linearised loop is unstable, its spectral radius is {radius:.4g}")
    cost = solve_discrete_lyapunov(closed.T, np.eye(len(a)))
    return QuadraticLyapunov(0.5 * (cost + cost.T))


def _matrix(name: str, value: ArrayLike) -> Tensor:
    matrix = torch.as_tensor(np.array(value, np.float64, ndmin=2))
    if matrix.ndim != 2 or not bool(matrix.isfinite().all()):
        raise UserError(f"{name} must be a matrix of finite numbers")
    return matrix


def _origin(network: nn.Sequential) -> Tensor:
    first = network[0]
    assert isinstance(first, nn.Linear)
    return torch.zeros(first.in_features, dtype=first.weight.dtype)
