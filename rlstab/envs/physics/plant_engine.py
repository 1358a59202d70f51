"""An engine whose worlds are one plant: a difference equation that certificates are about, stepped as it is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.physics.state_engine import Part, StatePhysics
from rlstab.envs.plants.elementwise import Elementwise
from rlstab.envs.plants.plant import Plant


@dataclass(frozen=True)
class PlantModel:
    """What tasks and disturbances may ask of a compiled model: there are no joints, and no body that can be pushed."""

    plant: Plant
    nv: int = 0
    nbody: int = 1

    @property
    def nq(self) -> int:
        """Number of states."""
        return self.plant.state_size

    @property
    def nu(self) -> int:
        """Number of controls."""
        return self.plant.control_size

    @property
    def actuator_ctrlrange(self) -> FloatArray:
        """``(nu, 2)``: controls are clamped to it."""
        return np.array([self.plant.control_low, self.plant.control_high]).T

    def body(self, index: int) -> Part:
        """The world, which is all there is."""
        return Part(("world",)[index])


class PlantPhysics(StatePhysics):
    """Batched worlds of a `Plant`. The state is ``qpos``; ``qvel`` is empty.

    Parameters
    ----------
    plant
        What moves.
    num_envs
        Number of worlds.
    """

    def __init__(self, plant: Plant, num_envs: int) -> None:
        self.num_envs = num_envs
        self.timestep = plant.dt
        self._model = PlantModel(plant)
        super().__init__(np.zeros((num_envs, plant.state_size)), "plant")

    @property
    def model(self) -> PlantModel:
        """What can be asked of it."""
        return self._model

    def step(self, ctrl: FloatArray, n_substeps: int, wrench: FloatArray | None = None) -> None:
        """See `Physics.step`."""
        del wrench  # No body takes one.
        plant = self._model.plant
        control = [
            Elementwise.of(np.clip(column, low, high))
            for column, low, high in zip(ctrl.T, plant.control_low, plant.control_high, strict=True)
        ]
        for _ in range(n_substeps):
            after = plant.step([Elementwise.of(column) for column in self._qpos.T], control)
            self._qpos[...] = np.stack(after, -1)
