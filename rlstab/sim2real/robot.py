"""What the runtime needs from a robot, simulated or real."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rlstab.sim2real.contract import Contract

EndReason = Literal["terminated", "truncated"]


@dataclass(frozen=True)
class Reading:
    """What the sensors say at one moment."""

    time: float
    """When they were read, seconds on the runtime's clock."""
    observation: NDArray[np.generic]
    """One observation, as the contract lays it out."""
    qpos: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Joint positions as far as known, for the log."""
    qvel: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Joint velocities as far as known, for the log."""
    reward: float | None = None
    """Reward since the previous reading; none where nothing measures one."""
    ended: EndReason | None = None
    """Why the episode is over, if it is; no command is sent after that."""


class RobotIO(Protocol):
    """One connection to a robot: `connect` once, `read` and `write` in turn, `close` always.

    `close` must leave the robot safe whatever happened before, a Ctrl-C between `read` and `write` included: a motor
    that keeps its last command is not stopped by a program that ends.
    """

    def connect(self, contract: Contract) -> None:
        """Get ready for the first `read`.

        Raises
        ------
        UserError
            The robot is not the one the contract was written for; nothing has moved.
        """
        ...

    def read(self) -> Reading:
        """Return the newest sensor values."""
        ...

    def write(self, action: NDArray[np.generic]) -> None:
        """Send the action for the coming control period; return without waiting for it to end."""
        ...

    def close(self) -> None:
        """Put the robot into a passive state and let go of it. May be called more than once."""
        ...
