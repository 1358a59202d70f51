"""An engine whose worlds are one linear system: what is known exactly there tests everything that uses an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.linear.systems import LinearSystem
from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError

BODY = "load"
"""Name of the body whose force is the disturbance: x, y, z are its first channels."""


@dataclass(frozen=True)
class Part:
    """A named part of the model."""

    name: str


@dataclass(frozen=True)
class LinearModel:
    """What tasks and disturbances may ask of a compiled model."""

    nq: int
    nv: int
    nu: int
    nbody: int = 2

    @property
    def actuator_ctrlrange(self) -> FloatArray:
        """``(nu, 2)``: no limits."""
        return np.tile([-np.inf, np.inf], (self.nu, 1))

    def body(self, index: int) -> Part:
        """The world, or the load."""
        return Part(("world", BODY)[index])


@dataclass(frozen=True)
class LinearSlice:
    """A copy of some worlds' state (`Physics.take`)."""

    qpos: FloatArray
    qvel: FloatArray

    def field(self, name: str) -> FloatArray:
        """Refuse: nothing is derived."""
        raise UserError(f"a linear system has no derived quantity '{name}'")


class LinearPhysics:
    """Batched worlds of a `LinearSystem`, stepped exactly. The state is ``qpos``; ``qvel`` is empty.

    Parameters
    ----------
    system
        With at most three disturbance channels.
    num_envs
        Number of worlds.

    Raises
    ------
    UserError
        There are more channels than a force has components.
    """

    def __init__(self, system: LinearSystem, num_envs: int) -> None:
        if system.disturbance_size > 3:
            raise UserError(f"a force has three components, the system has {system.disturbance_size} disturbances")
        self.system = system
        self.num_envs = num_envs
        self.timestep = system.dt
        self._model = LinearModel(nq=system.state_size, nv=0, nu=system.control_size)
        self._state = np.zeros((num_envs, system.state_size))
        self._nothing = np.zeros((num_envs, 0))

    @property
    def model(self) -> LinearModel:
        """What can be asked of it."""
        return self._model

    @property
    def qpos(self) -> FloatArray:
        """State, ``(num_envs, n)``: a live view."""
        return self._state

    @property
    def qvel(self) -> FloatArray:
        """``(num_envs, 0)``."""
        return self._nothing

    def field(self, name: str) -> FloatArray:
        """Refuse: nothing is derived."""
        raise UserError(f"a linear system has no derived quantity '{name}'")

    def reset(self, worlds: IntArray, qpos: FloatArray, qvel: FloatArray) -> None:
        """See `Physics.reset`."""
        del qvel
        self._state[worlds] = qpos

    def step(self, ctrl: FloatArray, n_substeps: int, wrench: FloatArray | None = None) -> None:
        """See `Physics.step`."""
        system = self.system
        for _ in range(n_substeps):
            after = self._state @ system.a.T + ctrl @ system.b.T
            if wrench is not None:
                after += wrench[:, 1, : system.disturbance_size] @ system.e.T
            self._state[...] = after

    def take(self, worlds: IntArray) -> LinearSlice:
        """See `Physics.take`."""
        return LinearSlice(self._state[worlds], self._nothing[worlds])

    def set_parameters(self, worlds: IntArray, parameters: dict[str, NDArray[Any]]) -> None:
        """Refuse: the matrices are all there is.

        Raises
        ------
        UserError
            Always, if a parameter is named.
        """
        del worlds
        if parameters:
            raise UserError(f"a linear system has no parameter {', '.join(parameters)}")

    def is_finite(self) -> bool:
        """See `Physics.is_finite`."""
        return bool(np.isfinite(self._state).all())

    def state_dict(self) -> dict[str, Any]:
        """See `Physics.state_dict`."""
        return {"state": self._state.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Physics.load_state_dict`.

        Raises
        ------
        UserError
            The state belongs to another system or number of worlds.
        """
        if state["state"].shape != self._state.shape:
            raise UserError(f"the saved state has shape {state['state'].shape}, this engine's is {self._state.shape}")
        self._state[...] = state["state"]

    def close(self) -> None:
        """Nothing to end."""
