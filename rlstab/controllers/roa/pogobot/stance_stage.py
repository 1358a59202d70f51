"""First stage: what a hop does, learned from exact hops over level ground."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.pogobot import domain
from rlstab.controllers.roa.stages import Stage
from rlstab.policies.roa.pogobot import PogobotModel
from rlstab.policies.tensors import to_tensor

HOPS = 400_000
"""Drawn; a third of them fail, and half of the others lead where no one goes."""
SHARE_OF_USELESS = 0.05
"""How many of those that lead elsewhere are kept, so that the network says which way it goes there."""


class StanceStage(Stage):
    """Regression of the next apex and of the leg angle at lift-off."""

    name = "stance"
    share = 8.5

    def __init__(self, model: PogobotModel, config: RoaConfig) -> None:
        self._model, self._batch = model, config.batch_size
        self._device = next(model.parameters()).device

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of the stance network."""
        return self._model.stance.parameters()

    def draw(self, rng: np.random.Generator) -> None:
        """Take exact hops."""
        model = self._model
        apices = rng.uniform(domain.HOPS[0], domain.HOPS[1], (HOPS, 2))
        controls = rng.uniform(-1.0, 1.0, (HOPS, 2)) * [model.largest_angle, model.largest_force]
        after, _, lifted, failed = domain.take_hops(apices, controls)
        useful = ((after >= domain.USEFUL[0]) & (after <= domain.USEFUL[1])).all(1)
        kept = ~failed & (useful | (rng.random(HOPS) < SHARE_OF_USELESS))
        self._inputs = to_tensor(np.concatenate([apices, controls], 1)[kept], self._device)
        self._outputs = to_tensor(np.concatenate([after, lifted[:, None]], 1)[kept], self._device)

    def loss(self, rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Mean squared errors in units of what the network gives: 2 m/s, 1 m, 0.3."""
        del progress
        chosen = torch.as_tensor(rng.integers(len(self._inputs), size=self._batch), device=self._device)
        inputs, outputs = self._inputs[chosen], self._outputs[chosen]
        hops = self._model.predict(inputs[:, :2], inputs[:, 2:])
        errors = torch.stack([hops.xdot, hops.y, hops.lifted.sin()], -1) - outputs
        loss = (errors / errors.new_tensor([2.0, 1.0, 0.3])).square().mean(0).sum()
        return loss, {"speed_error": float(errors[:, 0].detach().square().mean().sqrt())}
