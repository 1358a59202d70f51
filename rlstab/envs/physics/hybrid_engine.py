"""An engine whose worlds are one hybrid system, each in a mode and a configuration of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.system import HybridState, HybridSystem
from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError


@dataclass(frozen=True)
class Part:
    """A named part of the model."""

    name: str


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


@dataclass(frozen=True)
class HybridSlice:
    """A copy of some worlds' state (`Physics.take`)."""

    qpos: FloatArray
    qvel: FloatArray

    def field(self, name: str) -> FloatArray:
        """Refuse: nothing is derived."""
        raise UserError(f"a hybrid system has no derived quantity '{name}'")


def pack(state: HybridState) -> FloatArray:
    """Continuous state, mode and configuration as one row a world, ``(n, nq)``."""
    return np.concatenate([state.x, state.mode[:, None].astype(np.float64), state.configuration], 1)


def unpack(system: HybridSystem, qpos: FloatArray) -> HybridState:
    """What `pack` put together, as copies."""
    n = system.state_size
    return HybridState(qpos[:, :n].copy(), qpos[:, n].astype(np.int64), qpos[:, n + 1 :].copy())


class HybridPhysics:
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
        self._qpos = np.zeros((num_envs, self._model.nq))
        self._nothing = np.zeros((num_envs, 0))

    @property
    def model(self) -> HybridModel:
        """What can be asked of it."""
        return self._model

    @property
    def qpos(self) -> FloatArray:
        """Packed state, ``(num_envs, nq)``: a live view."""
        return self._qpos

    @property
    def qvel(self) -> FloatArray:
        """``(num_envs, 0)``."""
        return self._nothing

    @property
    def state(self) -> HybridState:
        """A copy of where the worlds are."""
        return unpack(self.system, self._qpos)

    def field(self, name: str) -> FloatArray:
        """Refuse: nothing is derived."""
        raise UserError(f"a hybrid system has no derived quantity '{name}'")

    def reset(self, worlds: IntArray, qpos: FloatArray, qvel: FloatArray) -> None:
        """See `Physics.reset`."""
        del qvel
        self._qpos[worlds] = qpos

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

    def take(self, worlds: IntArray) -> HybridSlice:
        """See `Physics.take`."""
        return HybridSlice(self._qpos[worlds], self._nothing[worlds])

    def set_parameters(self, worlds: IntArray, parameters: dict[str, NDArray[Any]]) -> None:
        """Refuse: what differs between worlds is their configuration, which the task draws.

        Raises
        ------
        UserError
            Always, if a parameter is named.
        """
        del worlds
        if parameters:
            raise UserError(f"a hybrid system has no parameter {', '.join(parameters)}")

    def is_finite(self) -> bool:
        """See `Physics.is_finite`."""
        return bool(np.isfinite(self._qpos).all())

    def state_dict(self) -> dict[str, Any]:
        """See `Physics.state_dict`."""
        return {"state": self._qpos.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Physics.load_state_dict`.

        Raises
        ------
        UserError
            The state belongs to another system or number of worlds.
        """
        if state["state"].shape != self._qpos.shape:
            raise UserError(f"the saved state has shape {state['state'].shape}, this engine's is {self._qpos.shape}")
        self._qpos[...] = state["state"]

    def close(self) -> None:
        """Nothing to end."""
