"""Holding the switched linear pair at the origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.hybrid.rendering import ACCENT, ALARM, INK, MUTED
from rlstab.envs.hybrid.switched_linear import SwitchedLinear
from rlstab.envs.hybrid.system import HybridState
from rlstab.envs.hybrid.task import HybridTask
from rlstab.envs.physics.hybrid_engine import pack
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm
from rlstab.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SwitchedLinearRegulation(HybridTask):
    """Keep the state of `SwitchedLinear` at zero with a push on each of its components.

    Observed: ``x1, x2``. Actions: pushes up to ``max_push`` a second on each. The reward is ``-(|x|^2 + 0.01 |u|^2)``,
    of state before the step and action, as for the linear systems. An episode ends where ``|x| > max_norm``, or after
    500 steps of 10 ms; it begins anywhere within a square of half side ``start_range``.

    Parameters
    ----------
    stable
        Exchange the modes: then doing nothing is enough.
    start_range
        Half side of the square of starts.
    max_push
        Limit of each action.
    max_norm
        Norm at which the state is lost.

    Raises
    ------
    UserError
        A length or limit is not positive.
    """

    id: ClassVar[str] = "rlstab/SwitchedLinear-v0"
    max_episode_steps: ClassVar[int] = 500

    stable: bool = False
    start_range: float = 1.0
    max_push: float = 10.0
    max_norm: float = 100.0

    def __post_init__(self) -> None:
        for name in ("start_range", "max_push", "max_norm"):
            if not getattr(self, name) > 0.0:
                raise UserError(f"{self.id}: {name} must be positive, got {getattr(self, name)}")

    def make_system(self) -> SwitchedLinear:
        """What moves."""
        return SwitchedLinear(stable=self.stable)

    @property
    def control_range(self) -> FloatArray:
        """``(2, 2)``."""
        return np.tile([-self.max_push, self.max_push], (2, 1))

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """The state."""
        return (ObservationTerm("state/0", 1), ObservationTerm("state/1", 1))

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Anywhere in the square."""
        start = self.system.start(rng.uniform(-self.start_range, self.start_range, (1, 2)))
        return pack(start)[0], np.zeros(0)

    def observe(self, state: PhysicsState) -> FloatArray:
        """``(n, 2)``."""
        return state.qpos[:, :2].copy()

    def measure(self, state: PhysicsState) -> FloatArray:
        """The state before the step."""
        return state.qpos[:, :2].copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Charge state and control."""
        del dt
        terms = {"cost_state": -(before**2).sum(1), "cost_control": -0.01 * (action**2).sum(1)}
        return terms, np.linalg.norm(state.qpos[:, :2], axis=1) > self.max_norm

    def draw(self, axes: Any, state: HybridState, trail: FloatArray) -> None:
        """Phase plane; the quadrants of the second mode are shaded."""
        reach = max(1.5 * self.start_range, 1.1 * float(np.abs(trail).max()))
        for corner in (0.0, -reach):
            axes.fill_between([corner, corner + reach], corner, corner + reach, color="#e7edf3", lw=0)
        axes.axhline(0.0, color=MUTED, lw=0.6)
        axes.axvline(0.0, color=MUTED, lw=0.6)
        axes.plot(*trail.T, color=ACCENT, lw=1.2)
        axes.plot(*state.x[0], "o", color=ALARM if np.linalg.norm(state.x[0]) > self.max_norm else INK, ms=6)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="x1", ylabel="x2")
        axes.set_title(f"mode: {self.system.modes[int(state.mode[0])]}", fontsize=9, color=INK)
