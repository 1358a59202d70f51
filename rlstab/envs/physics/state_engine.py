"""What engines share whose worlds are a vector of state each, with no bodies, joints or derived quantities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError


@dataclass(frozen=True)
class Part:
    """A named part of the model."""

    name: str


class VectorState:
    """Worlds' states (`PhysicsState`): all of a world is ``qpos``; ``qvel`` is empty.

    Parameters
    ----------
    qpos
        ``(num_envs, nq)``, not copied.
    what
        What it is, for errors: ``"linear system"``.
    """

    def __init__(self, qpos: FloatArray, what: str) -> None:
        self._qpos, self._what = qpos, what
        self._nothing = np.zeros((len(qpos), 0))

    @property
    def qpos(self) -> FloatArray:
        """State, ``(num_envs, nq)``: a live view."""
        return self._qpos

    @property
    def qvel(self) -> FloatArray:
        """``(num_envs, 0)``."""
        return self._nothing

    def field(self, name: str) -> FloatArray:
        """Refuse: nothing is derived."""
        raise UserError(f"a {self._what} has no derived quantity '{name}'")


class StatePhysics(VectorState):
    """An engine (`Physics`) but for its step and its model."""

    def reset(self, worlds: IntArray, qpos: FloatArray, qvel: FloatArray) -> None:
        """See `Physics.reset`."""
        del qvel
        self._qpos[worlds] = qpos

    def take(self, worlds: IntArray) -> VectorState:
        """See `Physics.take`."""
        return VectorState(self._qpos[worlds], self._what)

    def set_parameters(self, worlds: IntArray, parameters: dict[str, NDArray[Any]]) -> None:
        """Refuse: there are none.

        Raises
        ------
        UserError
            Always, if a parameter is named.
        """
        del worlds
        if parameters:
            raise UserError(f"a {self._what} has no parameter {', '.join(parameters)}")

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
