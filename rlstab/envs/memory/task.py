"""A memory task: what an episode hides, what is seen and what is rewarded, as pure functions of many worlds at once."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError

Observation = NDArray[np.float32]


@dataclass
class Episodes:
    """Where each world is in its episode; rows are worlds."""

    hidden: NDArray[np.int8]
    """What the episode began with and will not show twice, ``(n, hidden_size)``."""
    place: IntArray
    """What the actions have changed, ``(n, place_size)``."""
    elapsed: IntArray
    """Steps taken, ``(n,)``."""

    def take(self, worlds: IntArray) -> Episodes:
        """Copy some worlds."""
        return Episodes(self.hidden[worlds], self.place[worlds], self.elapsed[worlds])


@dataclass(frozen=True, kw_only=True)
class MemoryTask(ABC):
    """A problem whose episodes all last `horizon` steps and are random only in what they begin with.

    Subclasses are frozen dataclasses of whole numbers, its settings.

    Raises
    ------
    UserError
        A setting is not a whole number of 1 or more.
    """

    place_size: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise UserError(f"{self.name}: {field.name} must be a whole number of 1 or more, got {value!r}")

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return type(self).__name__

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Steps of an episode; the last one terminates it."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Numbers that `draw` gives."""

    @property
    @abstractmethod
    def observation_space(self) -> gymnasium.spaces.Box:
        """Of one world, float32."""

    @property
    @abstractmethod
    def action_space(self) -> gymnasium.spaces.Discrete:
        """Of one world."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> NDArray[Any]:
        """What one episode hides, ``(hidden_size,)``, -128 to 127."""

    @abstractmethod
    def observe(self, episodes: Episodes) -> Observation:
        """Observation ``(n, obs_dim)``, never a view of the episodes."""

    @abstractmethod
    def act(self, episodes: Episodes, action: IntArray) -> tuple[IntArray, FloatArray]:
        """Take one step, before which the worlds are as in ``episodes``.

        Parameters
        ----------
        episodes
            Left as they are; no world of them is at its end.
        action
            ``(n,)``.

        Returns
        -------
        place, reward
            ``(n, place_size)`` after the step, and ``(n,)``.
        """
