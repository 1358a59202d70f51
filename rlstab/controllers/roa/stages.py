"""A stage of training: what is drawn, what is minimised, and over which weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from rlstab.errors import UserError


class Stage(ABC):
    """One stage. All chance comes from the generators that are handed in, so that a resumed stage goes on exactly."""

    name: str
    """For the metrics and the progress line."""
    share: float
    """Of all gradient steps, relative to the other stages' shares."""
    redraw_every: int | None = None
    """Gradient steps after which the data are drawn anew. None: once, when the stage begins."""

    @abstractmethod
    def parameters(self) -> Iterable[nn.Parameter]:
        """Weights that this stage trains; all others stay as they are."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> None:
        """Draw the data.

        They may depend on ``rng`` and on weights that this stage does not train, on nothing else: a resumed stage draws
        them again.
        """

    @abstractmethod
    def loss(self, rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Loss of one minibatch, and what else is worth a line in the metrics.

        Parameters
        ----------
        progress
            Share of the stage that is done, from 0 to 1.
        """

    def conclude(self, rng: np.random.Generator) -> None:
        """What is done once, when the stage has ended, as calibration; nothing unless a stage says otherwise."""
        del rng


@dataclass(frozen=True)
class Place:
    """Where in training a gradient step is."""

    stage: int
    """Index of the stage."""
    step: int
    """Gradient steps done in it."""
    length: int
    """Gradient steps it has."""


class Schedule:
    """Gradient steps of each stage.

    Raises
    ------
    UserError
        There are fewer steps than stages.
    """

    def __init__(self, shares: Sequence[float], total_steps: int) -> None:
        if total_steps < len(shares):
            raise UserError(f"total_steps must be at least {len(shares)}, one for each stage, got {total_steps}")
        # One for each, and the others by their shares.
        spread = np.cumsum(shares) / np.sum(shares) * (total_steps - len(shares))
        ends = np.arange(1, len(shares) + 1) + np.round(spread).astype(int)
        self.ends = tuple(int(end) for end in ends)

    def place(self, step: int) -> Place:
        """Where the gradient step after ``step`` others is; beyond the end, the end of the last stage."""
        stage = min(int(np.searchsorted(self.ends, step, side="right")), len(self.ends) - 1)
        begin = self.ends[stage - 1] if stage else 0
        return Place(stage, step - begin, self.ends[stage] - begin)
