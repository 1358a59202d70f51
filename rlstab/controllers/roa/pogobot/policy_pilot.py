"""Any policy of the hopper's environment as a pilot, so that it hops under the same conditions as the planner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.pogobot import APEX, LEG
from rlstab.envs.hybrid.pogobot_task import PogobotCorridor
from rlstab.envs.hybrid.system import HybridState
from rlstab.envs.physics.hybrid_engine import pack
from rlstab.errors import UserError
from rlstab.policies.base import Policy

FloatArray = NDArray[np.float64]


class PolicyPilot:
    """Observes as `rlstab/Pogobot-v0` does and takes the policy's deterministic action.

    Parameters
    ----------
    policy
        Trained on the environment; one without memory.
    task
        The environment that it was trained on.
    """

    def __init__(self, policy: Policy, task: PogobotCorridor | None = None) -> None:
        self._policy, self._task = policy, task or PogobotCorridor()
        if np.shape(policy.action_space.sample()) != (2,):
            raise UserError(f"a hopper takes two actions, the policy gives {policy.action_space}")
        self._limits = np.array([self._task.largest_angle, self._task.largest_force])

    def __call__(self, apices: FloatArray, configuration: FloatArray) -> FloatArray:
        """Control ``(n, 2)`` of the next hop."""
        x, xdot, y = apices.T
        none = np.zeros_like(x)
        state = np.stack([x, xdot, y, none, x, y - LEG, *[none] * 5], -1)
        here: Any = _Snapshot(pack(HybridState(state, np.full(len(x), APEX), configuration)))
        action, _ = self._policy.predict(self._task.observe(here), deterministic=True)
        return np.clip(np.asarray(action, np.float64), -1.0, 1.0) * self._limits


class _Snapshot:
    """What a task reads of an engine."""

    def __init__(self, qpos: FloatArray) -> None:
        self.qpos, self.qvel = qpos, np.zeros((len(qpos), 0))
