"""Say again which card was shown: POPGym's RepeatPrevious and RepeatFirst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlstab.envs.memory.task import Episodes, MemoryTask, Observation
from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError

_SUITS = 4
_DECK = 52
_ONE_HOT = np.eye(_SUITS, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class _Cards(MemoryTask):
    """Decks of 52 cards, shuffled together, dealt one at a time; only the suit of the newest card is seen."""

    num_decks: int = 1
    """Decks of 52 cards, 13 of each suit."""

    @property
    def horizon(self) -> int:
        """Steps of an episode: cards less one, since the first card is dealt before the first step."""
        return self.hidden_size - 1

    @property
    def hidden_size(self) -> int:
        """The suits of all cards, in the order in which they are dealt."""
        return _DECK * self.num_decks

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """The newest card's suit, one-hot."""
        return gymnasium.spaces.Box(0.0, 1.0, (_SUITS,), np.float32)

    @property
    def action_space(self) -> gymnasium.spaces.Discrete:
        """A suit."""
        return gymnasium.spaces.Discrete(_SUITS)

    def draw(self, rng: np.random.Generator) -> NDArray[Any]:
        """A random order of the cards."""
        return rng.permutation(self.hidden_size) % _SUITS

    def observe(self, episodes: Episodes) -> Observation:
        """Observation ``(n, 4)``."""
        return _ONE_HOT[_card(episodes, episodes.elapsed)]


@dataclass(frozen=True, kw_only=True)
class RepeatPrevious(_Cards):
    """Name the suit that was seen ``k - 1`` cards before the newest one.

    With ``n = 52 num_decks`` cards, an action from the moment that ``k`` cards have been dealt is rewarded with
    ``1 / (n - k)`` if it is right and ``-1 / (n - k)`` if it is wrong; before that nothing is. Returns go from -1 to 1,
    which is what a perfect memory gets. Without memory the best guess is any other suit than the newest card's, and the
    expected return ``2 (n / 4) / (n - 1) - 1``, for ``k > 1``.

    Parameters
    ----------
    num_decks, k
        POPGym's difficulties: easy 1 and 4, medium 2 and 32, hard 3 and 64.

    References
    ----------
    Morad, Kortvelesy, Bettini, Liwicki, Prorok (2023). POPGym: benchmarking partially observable reinforcement
    learning. ICLR (arXiv 2303.01859). Rules as in version 1.0.7 of its code (proroklab/popgym).
    """

    k: int = 4
    """Which card to name, counted back from the newest one, which is 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k >= self.hidden_size:
            raise UserError(f"{self.name}: k must be less than the number of cards, {self.hidden_size}, got {self.k}")

    def act(self, episodes: Episodes, action: IntArray) -> tuple[IntArray, FloatArray]:
        """Compare the action with the card to name, once there is one."""
        asked = episodes.elapsed - (self.k - 1)
        right = action == _card(episodes, np.maximum(asked, 0))
        scale = 1.0 / (self.hidden_size - self.k)
        return episodes.place, np.where(asked < 0, 0.0, np.where(right, scale, -scale))


@dataclass(frozen=True, kw_only=True)
class RepeatFirst(_Cards):
    """Name the suit of the first card, at every step.

    With ``n = 52 num_decks`` cards each of the ``n - 1`` actions is rewarded with ``1 / (n - 1)`` if it is right, else
    with ``-1 / (n - 1)``; a perfect memory gets 1. Nothing but its place in the episode marks the first card.

    Parameters
    ----------
    num_decks
        POPGym's difficulties: easy 1, medium 8, hard 16.

    References
    ----------
    As for `RepeatPrevious`.
    """

    def act(self, episodes: Episodes, action: IntArray) -> tuple[IntArray, FloatArray]:
        """Compare the action with the first card."""
        scale = 1.0 / self.horizon
        return episodes.place, np.where(action == episodes.hidden[:, 0], scale, -scale)


def _card(episodes: Episodes, index: IntArray) -> NDArray[np.int8]:
    """The suit of one card of every world, ``(n,)``."""
    return episodes.hidden[np.arange(len(index)), index]
