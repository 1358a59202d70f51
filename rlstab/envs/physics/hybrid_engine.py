"""An engine whose worlds are one hybrid system, each in a mode and a configuration of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlstab.envs.hybrid.system import HybridState, HybridSystem
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.physics.state_engine import Part, StatePhysics


@dataclass(frozen=True)
class HybridModel:
    """What tasks and disturbances may ask of a compiled model: there are no joints, and no body that can be pushed."""

    system: HybridSystem
    actuator_ctrlrange: FloatArray
    """``(nu, 2)``: controls are clamped to it."""
    nv: int = 0
    nbody: int = 1

    @property
    def nq(self) -> int:
        """Length of a packed state."""
        return self.system.state_size + 1 + self.system.configuration_size

    @property
    def nu(self) -> int:
        """Number of controls."""
        return self.system.control_size

    def body(self, index: int) -> Part:
        """The world, which is all there is."""
        return Part(("world",)[index])


def pack(state: HybridState) -> FloatArray:
    """Continuous state, mode and configuration as one row a world, ``(n, nq)``."""
    return np.concatenate([state.x, state.mode[:, None].astype(np.float64), state.configuration], 1)


def unpack(system: HybridSystem, qpos: FloatArray) -> HybridState:
    """What `pack` put together, as copies."""
    n = system.state_size
    return HybridState(qpos[:, :n].copy(), qpos[:, n].astype(np.int64), qpos[:, n + 1 :].copy())


class HybridPhysics(StatePhysics):
    """Batched worlds of a `HybridSystem`. All of a world's state is ``qpos`` (see `pack`); ``qvel`` is empty.

    Parameters
    ----------
    system
        What moves.
    num_envs
        Number of worlds.
    timestep
        Control period, seconds.
    ctrlrange
        ``(nu, 2)``: controls are clamped to it.
    """

    def __init__(self, system: HybridSystem, num_envs: int, timestep: float, ctrlrange: FloatArray) -> None:
        self.system = system
        self.num_envs = num_envs
        self.timestep = timestep
        self._model = HybridModel(system, np.asarray(ctrlrange, np.float64))
        super().__init__(np.zeros((num_envs, self._model.nq)), "hybrid system")

    @property
    def model(self) -> HybridModel:
        """What can be asked of it."""
        return self._model

    @property
    def state(self) -> HybridState:
        """A copy of where the worlds are."""
        return unpack(self.system, self._qpos)

    def step(self, ctrl: FloatArray, n_substeps: int, wrench: FloatArray | None = None) -> None:
        """See `Physics.step`.

        Raises
        ------
        EventLimitReached
            A world had too many events in one step.
        """
        del wrench  # No body takes one.
        low, high = self._model.actuator_ctrlrange.T
        control = np.clip(ctrl, low, high)
        for _ in range(n_substeps):
            self._qpos[...] = pack(self.after(control))

    def after(self, control: FloatArray) -> HybridState:
        """Where the worlds are a control period later."""
        return self.system.within_limit(self.system.advance(self.state, control, self.timestep)).state
