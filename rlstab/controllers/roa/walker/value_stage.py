"""Learning the walker's Lyapunov function: 1 at the boundary of each gait's region of attraction, falling inside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlstab.analysis.certificates.lyapunov.statistical import conformal_margin
from rlstab.controllers.roa.levels import FEWEST_UNSTABLE, check_calibration, measured_level
from rlstab.controllers.roa.stages import Stage
from rlstab.controllers.roa.walker.data import Judged, judge, sample_gaits, sample_states
from rlstab.errors import UserError
from rlstab.policies.roa.walker import WalkerModel

INSIDE, OUTSIDE = 0.95, 1.05
"""Values that states inside the region of attraction shall not exceed, and those outside not fall short of."""
_SLACK = 0.01
"""Rise of V that is overlooked: sampling moves the impacts by up to a period."""
_SMALLEST_LEVEL = 1e-6


class ValueStage(Stage):
    """Trains ``V``; its `conclude` calibrates the level.

    Parameters
    ----------
    model
        What is trained.
    batch_size
        States in one gradient step.
    decrease
        Share of ``V`` that a step shall take away.
    delta
        Probability with which the level of a new gait may be above what roll-outs show.
    states
        States that are drawn, once.
    gaits, starts
        Gaits on which the level is calibrated, and the states in which each of them is begun.
    """

    name: str = "value"
    share: float = 1.0

    def __init__(
        self,
        model: WalkerModel,
        batch_size: int,
        decrease: float,
        delta: float,
        *,
        states: int,
        gaits: int,
        starts: int,
    ) -> None:
        check_calibration(delta, gaits)
        self._model, self._batch_size, self._decrease, self._delta = model, batch_size, decrease, delta
        self._states, self._gaits, self._starts = states, gaits, starts

    def parameters(self) -> Iterable[nn.Parameter]:
        """See `Stage.parameters`."""
        return self._model.phi.parameters()

    def draw(self, rng: np.random.Generator) -> None:
        """See `Stage.draw`."""
        drawn = judge(sample_states(rng, self._states), sample_gaits(rng, self._states))
        like = self._model.units
        self._x = torch.as_tensor(drawn.x, dtype=like.dtype, device=like.device)
        self._gait = torch.as_tensor(drawn.gait[:, None], dtype=like.dtype, device=like.device)
        self._stable = torch.as_tensor(drawn.stable, device=like.device)
        # Of those that stay: the state drawn, and where their next steps begin.
        self._later = torch.as_tensor(np.nan_to_num(drawn.later), dtype=like.dtype, device=like.device)

    def loss(self, rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Hinges on both sides of the boundary, and on the decrease from step to step of those that stay inside."""
        del progress
        rows = torch.as_tensor(rng.integers(len(self._x), size=self._batch_size), device=self._x.device)
        x, gait, stable = self._x[rows], self._gait[rows], self._stable[rows]
        # Only those that stay have next steps.
        chain = self._later[:, rows[stable]]
        count, kept = len(chain), int(stable.sum())
        values = self._model.value(
            torch.cat([x, chain.flatten(0, 1)]), torch.cat([gait, gait[stable].repeat(count, 1)])
        )
        first = values[: len(x)]
        along = torch.cat([first[stable], values[len(x) :]]).reshape(count + 1, kept)
        # From the state drawn to the first impact V may only not rise: that need not be a whole step.
        shares = torch.full((count, 1), 1.0 - self._decrease, dtype=along.dtype, device=along.device)
        shares[0] = 1.0
        rises = torch.relu(along[1:] - shares * along[:-1] - _SLACK)
        inside = torch.relu(first - INSIDE)[stable].mean()
        outside = torch.relu(OUTSIDE - first)[~stable].mean()
        wrong = ((first <= 1.0) != stable).float().mean()
        falls = (rises <= 0.0).float().mean()
        # A batch may lack one of the two kinds.
        loss = inside.nan_to_num() + outside.nan_to_num() + rises.mean().nan_to_num()
        return loss, {"misjudged": float(wrong), "falling": float(falls)}

    def conclude(self, rng: np.random.Generator) -> None:
        """Calibrate the level on gaits that were not trained on."""
        gaits = sample_gaits(rng, self._gaits)
        levels = levels_of(self._model, rng, gaits, self._starts)
        estimates = np.zeros(len(gaits))
        with torch.no_grad():
            margin = conformal_margin(estimates, np.log(np.maximum(levels, _SMALLEST_LEVEL)), self._delta)
            self._model.margin.fill_(margin)


def levels_of(
    model: WalkerModel, rng: np.random.Generator, gaits: NDArray[np.float64], starts: int
) -> NDArray[np.float64]:
    """Level of each gait that roll-outs from ``starts`` states show, ``(n,)``; see `measured_level`.

    Raises
    ------
    UserError
        So few of a gait's starts fall that its level would merely be the largest value sampled.
    """
    drawn = judge(sample_states(rng, len(gaits) * starts), np.repeat(gaits, starts))
    values, stable = values_of(model, drawn).reshape(-1, starts), drawn.stable.reshape(-1, starts)
    levels, found = measured_level(values, stable, fewest=min(FEWEST_UNSTABLE, starts // 8))
    if not found.all():
        gait = gaits[int(np.argmin(found))]
        raise UserError(f"too few of {starts} starts of the gait of {gait:.3f} rad fall to tell its level: give more")
    return levels


@torch.no_grad()
def values_of(model: WalkerModel, drawn: Judged) -> NDArray[np.float64]:
    """``V`` of each state in its gait, ``(n,)``."""
    x, gait = torch.as_tensor(drawn.x).to(model.units), torch.as_tensor(drawn.gait[:, None]).to(model.units)
    return model.value(x, gait).double().cpu().numpy()
