"""What the best controller of a small plant costs from every state: dynamic programming on a grid, LQR near 0.

A grid does not resolve the neighbourhood of the origin, where a controller and its Lyapunov function have to fit each
other best: there the linearised plant is solved instead, with as little weight on the control as its limits allow.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlstab.envs.plants import Plant
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LinearFeedback, lqr

MOST_STATES = 3
OUTSIDE = 200.0
"""Cost of leaving the box: more than any way to the origin that is worth its time."""

_REACH = 2.0
"""Cells that the set in which the linearised plant counts reaches in its shortest direction."""
_WEIGHTS = tuple(float(weight) for weight in np.geomspace(1e-3, 1e4, 29))
_CONTROLS = 21
_SWEEPS = 600
_SETTLED = 1e-3


@dataclass(frozen=True, eq=False)
class Local:
    """The linearised plant's regulator, and the norm of its cost in units of the grid's."""

    feedback: LinearFeedback
    """In float32."""
    form: Tensor
    """``P (n, n)``: ``sqrt(x' P x)`` is the cost near 0."""
    radius: float
    """In that norm: within it the cost is the norm, beyond twice it the grid's."""

    def norm(self, state: Tensor) -> Tensor:
        """``sqrt(x' P x)``, of states ``(..., n)``; with a slope of 0 at 0."""
        return torch.einsum("...i,ij,...j->...", state, self.form, state).clamp(min=1e-12).sqrt()


@dataclass(frozen=True, eq=False)
class CostToGo:
    """Costs on a grid over a box, with ``|x / box|`` as the cost of a step; between nodes, linear in each state.

    Such a cost behaves like a norm near the origin and falls by at least that of the state a step: it is a Lyapunov
    function wherever the grid resolves it.
    """

    values: Tensor
    """``(cells^n,)``, float32, first state slowest."""
    half: Tensor
    """Half-widths of the box, ``(n,)``."""
    local: Local | None = None
    """Takes over near 0 if given."""

    @property
    def cells(self) -> int:
        """Nodes a side."""
        return round(len(self.values) ** (1.0 / len(self.half)))

    def at(self, state: Tensor, most: float = OUTSIDE) -> Tensor:
        """Cost of states ``(..., n)``, and of nothing more than ``most``; differentiable in the state."""
        values = self.values.clamp(max=most)
        found = sum_of_corners(values, *corners(state, self.half, self.cells))
        if self.local is None:
            return found
        norm = self.local.norm(state)
        share = (norm / self.local.radius - 1.0).clamp(0.0, 1.0)
        return share * found + (1.0 - share) * norm.clamp(max=most)

    def level(self, share: float) -> float:
        """Cost that a share of the states from which the origin is reached do not exceed."""
        reached = self.values[self.values < 0.5 * OUTSIDE].sort().values
        if not len(reached):
            raise UserError("no state of the grid reaches the origin within the box: are the control limits too tight?")
        return float(reached[max(0, round(share * len(reached)) - 1)])


def with_local(plant: Plant, cost: CostToGo) -> CostToGo:
    """Let the linearised plant take over near 0: the first of a range of regulators that stays within the limits there.

    Returns
    -------
    CostToGo
        The cost as it is where no regulator does.
    """
    cell = 2.0 * cost.half.numpy() / (cost.cells - 1)
    room = np.minimum(
        np.array(plant.control_high) - np.array(plant.equilibrium_control),
        np.array(plant.equilibrium_control) - np.array(plant.control_low),
    )
    for weight in _WEIGHTS:
        feedback, form = lqr(plant, control_weight=weight)
        matrix, gain = form.matrix, feedback.gain.numpy()
        inverse = np.linalg.inv(matrix)
        # The set sqrt(x' P x) <= r reaches sqrt(inv(P)_ii) r far in state i, and K x up to sqrt(K inv(P) K') r.
        outer = _REACH / float((np.sqrt(np.diag(inverse)) / cell).min())
        if bool((outer * np.sqrt(np.diag(gain @ inverse @ gain.T)) <= room).all()):
            break
    else:
        return cost
    local = Local(feedback.float(), torch.as_tensor(matrix).float(), 0.5 * outer)
    # In units of the grid's cost, on the shell in which one gives way to the other.
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2000, len(cell), generator=generator)
    length = local.radius * (1.0 + torch.rand(2000, 1, generator=generator))
    states = length * directions / local.norm(directions)[:, None]
    scale = float((cost.at(states) / local.norm(states)).median())
    return CostToGo(cost.values, cost.half, Local(local.feedback, scale**2 * local.form, scale * local.radius))


def optimal_cost(plant: Plant, cells: int, margin: float) -> CostToGo:
    """Iterate the values of a plant until they settle.

    Parameters
    ----------
    plant
        Of at most three states.
    cells
        Nodes a side; at most 31 for three states.
    margin
        Share of the box in which next states must stay.

    Raises
    ------
    UserError
        The plant has more states.
    """
    size = plant.state_size
    if size > MOST_STATES:
        raise UserError(
            f"{plant.id} has {size} states, too many for the grid that a network starts from: add --lyapunov quadratic"
        )
    cells = cells if size < 3 else min(cells, 31)
    half = torch.tensor(plant.box, dtype=torch.float32)
    nodes = torch.cartesian_prod(*(torch.linspace(-1.0, 1.0, cells) * side for side in half)).reshape(-1, size)
    following, outside = _all_steps(plant, nodes, margin * half)
    indices, weights = corners(following, half, cells)
    cost = (nodes / half).norm(dim=-1)
    values = torch.zeros(len(nodes))
    for _ in range(_SWEEPS):
        ahead = torch.where(outside, OUTSIDE, sum_of_corners(values, indices, weights))
        before, values = values, (cost + ahead.amin(1)).clamp(max=OUTSIDE)
        if float((values - before).abs().max()) < _SETTLED:
            break
    return CostToGo(values, half)


def corners(state: Tensor, half: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Nodes around states ``(..., n)`` and their weights, ``(..., 2^n)`` each."""
    place = ((state / half + 1.0) * (0.5 * (cells - 1))).clamp(0.0, cells - 1.001)
    first = place.detach().floor()
    share = place - first
    indices, weights = [], []
    for upper in itertools.product((0, 1), repeat=len(half)):
        index, weight = torch.zeros_like(first[..., 0]), torch.ones_like(share[..., 0])
        for axis, up in enumerate(upper):
            index = index * cells + first[..., axis] + up
            weight = weight * (share[..., axis] if up else 1.0 - share[..., axis])
        indices.append(index.long())
        weights.append(weight)
    return torch.stack(indices, -1), torch.stack(weights, -1)


def sum_of_corners(values: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Values between nodes."""
    return (values[indices] * weights).sum(-1)


def _all_steps(plant: Plant, nodes: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Next states ``(k, controls, n)`` under each of a set of controls, and whether they are outside."""
    sides = [
        torch.cat([torch.linspace(low, high, _CONTROLS if plant.control_size == 1 else 7), torch.tensor([middle])])
        for low, high, middle in zip(plant.control_low, plant.control_high, plant.equilibrium_control, strict=True)
    ]
    controls = torch.cartesian_prod(*sides).reshape(-1, plant.control_size)
    state, control = nodes[:, None, :], controls[None]
    state = state.expand(-1, len(controls), -1)
    control = control.expand(len(nodes), -1, -1)
    following = torch.stack(tuple(plant.step(state.unbind(-1), control.unbind(-1))), -1)
    return following, (following.abs() > within).any(-1)
