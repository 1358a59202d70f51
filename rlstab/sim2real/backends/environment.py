"""An environment as a robot: the start state, observation and reward are the very code that training used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from rlstab.errors import UserError
from rlstab.sim2real.clock import Clock, WallClock
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.layout import first_difference, layout_of, not_compared
from rlstab.sim2real.robot import EndReason, Reading


class EnvironmentRobot:
    """One world of a vector environment behind the robot interface.

    `write` keeps the command; the world moves on by one control period at the next `read`. So what is timed between
    sensor and command is what a controller of a real robot would take, without the simulation.

    Parameters
    ----------
    env
        A vector environment with one world and same-step autoreset.
    seed
        Of the episode.
    clock
        That of the runtime, for the sensors' time.
    tell
        Called with each thing that the contract states and that is neither checked nor enforced.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        seed: int,
        clock: Clock | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if env.num_envs != 1:
            raise UserError(f"a robot is one world, this environment has {env.num_envs}: make it with num_envs=1")
        self._env = env
        self._seed = seed
        self._clock = clock or WallClock()
        self._tell = tell
        self._first: NDArray[Any] | None = None
        self._command: NDArray[Any] | None = None

    def connect(self, contract: Contract) -> None:
        """Check the environment against the contract and start the episode.

        Raises
        ------
        UserError
            They differ; the message names the first difference.
        """
        offered = layout_of(self._env)
        difference = first_difference(contract.layout, offered)
        if difference:
            raise UserError(difference)
        if self._tell is not None:
            for remark in not_compared(contract, offered):
                self._tell(remark)
        self._first = self._env.reset(seed=self._seed)[0]

    def read(self) -> Reading:
        """Apply the last command for one control period, then read the sensors.

        Raises
        ------
        UserError
            Not connected, or no command was written since the last `read`.
        """
        if self._first is not None:
            observation, self._first = self._first, None
            return self._reading(observation[0], None, None)
        if self._command is None:
            raise UserError("the robot has no command for this period: call connect, then read and write in turn")
        command, self._command = self._command, None
        observations, rewards, terminated, truncated, infos = self._env.step(command[None])
        ended: EndReason | None = "terminated" if terminated[0] else "truncated" if truncated[0] else None
        if ended is None:
            return self._reading(observations[0], float(rewards[0]), None)
        # The environment has already begun its next episode: the joints it shows belong to that one.
        return Reading(self._clock.now(), infos["final_obs"][0].copy(), reward=float(rewards[0]), ended=ended)

    def write(self, action: NDArray[np.generic]) -> None:
        """Set the command for the coming control period."""
        self._command = np.asarray(action)

    def close(self) -> None:
        """Let go of the environment."""
        self._env.close()

    def _reading(self, observation: NDArray[Any], reward: float | None, ended: EndReason | None) -> Reading:
        time = self._clock.now()
        # The environment may reuse its buffers; a reading is kept by the log.
        physics: Any = getattr(self._env, "physics", None)
        if physics is None:
            return Reading(time, observation.copy(), reward=reward, ended=ended)
        return Reading(time, observation.copy(), physics.qpos[0].copy(), physics.qvel[0].copy(), reward, ended)
