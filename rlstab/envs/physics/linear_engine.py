"""An engine whose worlds are one linear system: what is known exactly there tests everything that uses an engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlstab.envs.linear.systems import LinearSystem
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.physics.state_engine import Part, StatePhysics
from rlstab.errors import UserError

BODY = "load"
"""Name of the body whose force is the disturbance: x, y, z are its first channels."""


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


class LinearPhysics(StatePhysics):
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
        super().__init__(np.zeros((num_envs, system.state_size)), "linear system")

    @property
    def model(self) -> LinearModel:
        """What can be asked of it."""
        return self._model

    def step(self, ctrl: FloatArray, n_substeps: int, wrench: FloatArray | None = None) -> None:
        """See `Physics.step`."""
        system = self.system
        for _ in range(n_substeps):
            after = self._qpos @ system.a.T + ctrl @ system.b.T
            if wrench is not None:
                after += wrench[:, 1, : system.disturbance_size] @ system.e.T
            self._qpos[...] = after
