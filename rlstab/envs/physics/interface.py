"""What every physics engine offers a task: many worlds of one model, stepped together."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class PhysicsState(Protocol):
    """What a task may read: arrays whose first axis is the world.

    Derived quantities (``field``) are those the engine computed during its last step, as MuJoCo leaves them in
    ``mjData`` after ``mj_step``: they belong to the last evaluated position, one substep behind ``qpos``.
    """

    @property
    def qpos(self) -> FloatArray:
        """Generalised positions, ``(num_envs, nq)``, metres and radians."""
        ...

    @property
    def qvel(self) -> FloatArray:
        """Generalised velocities, ``(num_envs, nv)``, metres and radians per second."""
        ...

    def field(self, name: str) -> FloatArray:
        """A derived quantity requested at construction, ``(num_envs, ...)``, named as in ``mjData``."""
        ...


class Physics(PhysicsState, Protocol):
    """A batched engine.

    Worlds are independent: the result for one does not depend on how many others there are nor on the number of
    threads.
    """

    num_envs: int
    timestep: float

    @property
    def model(self) -> Any:
        """The compiled model that all worlds share unless `set_parameters` changed some."""
        ...

    def reset(self, worlds: IntArray, qpos: FloatArray, qvel: FloatArray) -> None:
        """Put ``worlds`` ``(k,)`` at ``qpos (k, nq)``, ``qvel (k, nv)`` with zero controls, forces and time."""
        ...

    def step(self, ctrl: FloatArray, n_substeps: int, wrench: FloatArray | None = None) -> None:
        """Hold ``ctrl (num_envs, nu)`` and ``wrench (num_envs, nbody, 6)`` for ``n_substeps`` steps.

        A wrench is force then torque in the world frame at each body's centre of mass (newtons, newton metres).
        ``None`` means no wrench; none persists to the next call.
        """
        ...

    def take(self, worlds: IntArray) -> PhysicsState:
        """A copy of the named worlds' state, for tasks to read."""
        ...

    def set_parameters(self, worlds: IntArray, parameters: dict[str, NDArray[Any]]) -> None:
        """Overwrite model fields (named as in ``mjModel``), one row a world, and refresh what depends on them."""
        ...

    def is_finite(self) -> bool:
        """Whether no world's state holds NaN or infinity."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...

    def close(self) -> None:
        """End what runs beside the caller."""
        ...
