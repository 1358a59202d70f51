"""Second stage: controller and Lyapunov function, through the stance network, which stays as it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.pogobot import domain
from rlstab.controllers.roa.stages import Stage
from rlstab.policies.roa.pogobot import PogobotModel
from rlstab.policies.tensors import to_tensor

DECREASE = 0.75
"""Share of ``V`` that a hop shall take away; the benchmark's."""
_PLAIN = 0.02
"""Weight of how far ``V`` is from round: it pays for fewer rises only."""
_ROOM = 0.02
"""m between foot and floor at the apex that a leg angle shall leave."""


class ControlStage(Stage):
    """``V(s+) <= (1 - decrease) V(s)`` from everywhere around every reference, by one hop of the stance network.

    The loss is relative to ``V(s)``: as it is, it would be small where ``V`` is, whatever the controller does there. A
    small part asks for all of ``V`` to go, for the decrease alone is satisfied with half an error.
    """

    name = "control"
    share = 5.5

    def __init__(self, model: PogobotModel, config: RoaConfig) -> None:
        self._model, self._batch = model, config.batch_size
        self._decrease = DECREASE if config.decrease is None else config.decrease
        self._device = next(model.parameters()).device

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of controller and Lyapunov function."""
        return itertools.chain(self._model.actor.parameters(), self._model.shape.parameters())

    def draw(self, rng: np.random.Generator) -> None:
        """Nothing is kept: every minibatch is drawn anew."""

    def loss(self, rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        """See the class."""
        del progress
        model = self._model
        references = domain.draw_references(rng, self._batch)
        around = domain.draw_around(rng, references, 1)[:, 0]
        # Half of them nearer, where a hop has to be exact.
        nearer = rng.uniform(0.0, 1.0, (self._batch, 1)) ** (np.arange(self._batch) % 2)[:, None]
        around = references + nearer * (around - references)
        x, c = to_tensor(around, self._device), to_tensor(references, self._device)
        control = model.control(x, c)
        hops = model.predict(x, control)
        before, after = model.value(x, c), model.value(torch.stack([hops.xdot, hops.y], -1), c)
        fits = torch.relu(control[:, 0].cos() + _ROOM - x[:, 1])
        falls = torch.relu(after - (1.0 - self._decrease) * before) / (before + 0.01)
        plain = model.bend(c).square().mean(-1)
        loss = (falls + 0.1 * after / (before + 0.1) + 10.0 * fits + _PLAIN * plain).mean()
        return loss, {"rises": float((after > (1.0 - self._decrease) * before + 1e-4).float().mean())}
