"""Third stage: the level of the region of attraction, from exact roll-outs; then its margin."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlstab.analysis.certificates.lyapunov.statistical import conformal_margin
from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.levels import check_calibration, decreasing, measured_level
from rlstab.controllers.roa.pogobot import domain, system
from rlstab.controllers.roa.stages import Stage
from rlstab.errors import UserError
from rlstab.policies.roa.pogobot import PogobotModel
from rlstab.policies.tensors import to_array, to_tensor

REFERENCES, STARTS, ROLLED_HOPS = 1500, 300, 3
CALIBRATION = 400
"""References on which the margin is calibrated."""
_LEAST = 1e-4


class LevelStage(Stage):
    """Regression of the logarithm of measured levels on references; see `measure_levels`."""

    name = "level"
    share = 2.0

    def __init__(self, model: PogobotModel, config: RoaConfig) -> None:
        check_calibration(config.calibration, CALIBRATION)
        self._model, self._batch, self._delta = model, config.batch_size, config.calibration
        self._device = next(model.parameters()).device

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of the level network."""
        return self._model.depth.parameters()

    def draw(self, rng: np.random.Generator) -> None:
        """Measure levels."""
        references, levels, _ = measure_levels(self._model, rng, REFERENCES, STARTS)
        self._references = to_tensor(references, self._device)
        self._targets = to_tensor(np.log(np.maximum(levels, _LEAST)), self._device)

    def loss(self, rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Huber's, of the logarithm: a few references whose level is very low do not drag the others along."""
        del progress
        chosen = torch.as_tensor(rng.integers(len(self._targets), size=self._batch), device=self._device)
        errors = self._model.log_level(self._references[chosen]) - self._targets[chosen]
        loss = nn.functional.smooth_l1_loss(errors, torch.zeros_like(errors), beta=0.2)
        return loss, {"error": float(errors.detach().abs().mean())}

    def conclude(self, rng: np.random.Generator) -> None:
        """Calibrate the margin on references that were not trained on."""
        references, levels, _ = measure_levels(self._model, rng, CALIBRATION, STARTS)
        with torch.no_grad():
            estimates = to_array(self._model.log_level(to_tensor(references, self._device)))
        margin = conformal_margin(estimates, np.log(np.maximum(levels, _LEAST)), self._delta)
        self._model.margin.fill_(margin)


@torch.no_grad()
def measure_levels(
    model: PogobotModel, rng: np.random.Generator, references: int, starts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Levels of references drawn at random: below them starts within the domain were stable.

    Returns
    -------
    references
        ``(n, 2)``.
    level
        ``(n,)``: as `measured_level` has it, and never above the least ``V`` on the rim of the domain, so that the set
        below it is one that was looked at.
    found
        ``(n,)``: whether there were enough unstable starts to tell; where not, the level is a lower bound.

    Raises
    ------
    UserError
        There are too few starts.
    """
    if starts <= domain.IGNORED:
        raise UserError(f"a level needs more than {domain.IGNORED} starts, got {starts}")
    x, c = system.sample(rng, references, starts)
    device = next(model.parameters()).device
    flat_c = c[:, None].expand(-1, starts, -1).reshape(-1, 2).to(device)
    rolled = system.roll_out(model, x.reshape(-1, 2).to(device), flat_c, ROLLED_HOPS)
    stable = decreasing(rolled.values, domain.ALPHA, domain.SLACK)
    shape = (references, starts)
    levels, found = measured_level(rolled.values[0].reshape(shape), stable.reshape(shape), ignored=domain.IGNORED)
    around = domain.rim(to_array(c).astype(np.float64))
    there = c[:, None].expand(-1, around.shape[1], -1).reshape(-1, 2)
    on_rim = to_array(model.value(to_tensor(around.reshape(-1, 2), device), there.to(device)))
    return to_array(c).astype(np.float64), np.minimum(levels, on_rim.reshape(references, -1).min(1)), found
