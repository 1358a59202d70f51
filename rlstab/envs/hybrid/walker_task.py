"""Walking in a given gait."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.hybrid.system import HybridState
from rlstab.envs.hybrid.task import HybridTask
from rlstab.envs.hybrid.walker import STATES, TORQUE_LIMIT, Walker, is_valid
from rlstab.envs.hybrid.walker_drawing import draw_walker
from rlstab.envs.hybrid.walker_gaits import GAITS, gait_samples
from rlstab.envs.physics.hybrid_engine import pack
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm
from rlstab.errors import UserError

_SPREAD = np.array([0.03, 0.06, 0.25, 0.5])
_UNITS = ("rad", "rad", "rad/s", "rad/s")


@functools.cache
def _samples() -> FloatArray:
    return gait_samples()


@dataclass(frozen=True, kw_only=True)
class WalkerGait(HybridTask):
    """Keep the compass walker in the gait whose angle is given, from a state near some gait's.

    Observed: the state (4) and the gait angle. Action: torque between the legs (N m). The reward of a control period of
    10 ms is minus the root mean square difference to that sample of the gait's first step whose ``q1`` is nearest, with
    100 less where the walker is not upright any more, and ``100 (1 - |q1 - th| / th)`` more where a foot has struck,
    ``q1`` being that after the impact. The gait's samples are those of the nearest angle in the table. An episode ends
    where the walker is not upright (``|q1| > 0.5`` or ``|q2| > 1``), or after 200 steps.

    It begins near a random row of the table of gaits, each component off by up to ``spread`` times (0.03, 0.06, 0.25,
    0.5), and the angle by up to ``gait_spread``, kept within the table's.

    Parameters
    ----------
    spread
        Scale of the error of the start.
    gait_spread
        Largest difference of the angle asked for to that of the start, rad.

    Raises
    ------
    UserError
        One is negative.

    References
    ----------
    Meng, Fan (2023). Hybrid systems neural control with region-of-attraction planner. L4DC.
    """

    id: ClassVar[str] = "rlstab/Walker-v0"
    max_episode_steps: ClassVar[int] = 200

    spread: float = 1.0
    gait_spread: float = 0.05

    def __post_init__(self) -> None:
        for name in ("spread", "gait_spread"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise UserError(f"{self.id}: {name} must be 0 or more, got {getattr(self, name)}")

    def make_system(self) -> Walker:
        """What moves."""
        return Walker()

    @property
    def control_range(self) -> FloatArray:
        """``(1, 2)`` N m."""
        return np.array([[-TORQUE_LIMIT, TORQUE_LIMIT]])

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """State and gait angle."""
        state = (ObservationTerm(name, 1, unit) for name, unit in zip(STATES, _UNITS, strict=True))
        return (*state, ObservationTerm("gait_angle", 1, "rad"))

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw a row of the table, the error, and the angle."""
        row = GAITS[rng.integers(len(GAITS))]
        x = row[1:] + self.spread * _SPREAD * rng.uniform(-1.0, 1.0, 4)
        gait = np.clip(row[0] + rng.uniform(-self.gait_spread, self.gait_spread), GAITS[-1, 0], GAITS[0, 0])
        start = HybridState(x[None], np.zeros(1, np.int64), np.array([[gait, 0.0]]))
        return pack(start)[0], np.zeros(0)

    def observe(self, state: PhysicsState) -> FloatArray:
        """``(n, 5)``."""
        here = self.situation(state)
        return np.concatenate([here.x, here.configuration[:, :1]], 1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Place of the stance foot ``(n,)``, which moves at an impact."""
        return self.situation(state).configuration[:, 1].copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Charge the distance to the gait and falling, reward steps of the right length."""
        del action, dt
        here = self.situation(state)
        gait = here.configuration[:, 0]
        upright, struck = np.asarray(is_valid(here.x)), here.configuration[:, 1] != before
        terms = {
            "cost_gait": -distance_to_gait(here.x, gait),
            "cost_fall": np.where(upright, 0.0, -100.0),
            "step": np.where(struck, 100.0 * (1.0 - np.abs(here.x[:, 0] - gait) / gait), 0.0),
        }
        return terms, ~upright

    def trail(self, state: HybridState) -> FloatArray:
        """Where the hip is."""
        x, foot = state.x[0], state.configuration[0, 1]
        return np.array([[foot - np.sin(x[0]), np.cos(x[0])]])

    def episode_of(self, state: HybridState) -> FloatArray:
        """The gait angle."""
        return state.configuration[0, :1]

    def draw(self, axes: Any, state: HybridState, trail: FloatArray) -> None:
        """Legs, hip and its trail, from the side."""
        draw_walker(axes, state.x[0], state.configuration[0, 1], trail)
        axes.set_title(f"gait {state.configuration[0, 0]:.3f} rad, stance leg {state.x[0, 0]:+.3f} rad", fontsize=9)


def distance_to_gait(x: FloatArray, gait: FloatArray) -> FloatArray:
    """Root mean square difference ``(n,)`` of ``x (n, 4)`` to the sample of each gait whose ``q1`` is nearest."""
    row = np.abs(GAITS[:, 0] - gait[:, None]).argmin(1)
    samples = _samples()[row]
    nearest = np.abs(samples[:, :, 0] - x[:, :1]).argmin(1)
    return np.sqrt(((samples[np.arange(len(x)), nearest] - x) ** 2).mean(1))
