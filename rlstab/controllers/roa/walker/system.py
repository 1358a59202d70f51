"""The compass walker for `rlstab.controllers.roa.learner`: its networks, stages and closed loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.learner import Claim, RollOut
from rlstab.controllers.roa.stages import Stage
from rlstab.controllers.roa.walker.data import JUDGED_STEPS, NEAR, gait_states, orbits, sample_gaits, sample_states
from rlstab.controllers.roa.walker.value_stage import ValueStage
from rlstab.envs.hybrid import walker_stride
from rlstab.policies.roa.model import RoaModel
from rlstab.policies.roa.walker import WalkerModel

DECREASE = 0.05
"""Share of V that a step shall take away: return maps of slow gaits shrink distances by as little as 7 %."""

STATES = 100_000
"""States that are drawn to train on."""
HELD_OUT, STARTS = 100, 400
"""Gaits on which the level is calibrated, and states in which each is begun."""

claim = Claim(
    steps=JUDGED_STEPS,
    drawn="states as planners meet them at impacts and on bridges, gaits even over 0.04 to 0.18 rad",
    holds=f"{JUDGED_STEPS} steps are done, the last within {NEAR:g} of the gait's state after impact",
)


def make_model(config: RoaConfig) -> WalkerModel:
    """See `rlstab.controllers.roa.learner.System.make_model`."""
    model = WalkerModel(config.hidden_sizes) if config.hidden_sizes else WalkerModel()
    starts, table = orbits(*model.orbits.shape[:2])
    model.set_orbits(torch.as_tensor(starts), torch.as_tensor(table))
    return model


def make_stages(model: RoaModel, config: RoaConfig) -> Sequence[Stage]:
    """See `rlstab.controllers.roa.learner.System.make_stages`."""
    decrease = DECREASE if config.decrease is None else config.decrease
    network = cast(WalkerModel, model)
    sizes = {"states": STATES, "gaits": HELD_OUT, "starts": STARTS}
    return (ValueStage(network, config.batch_size, decrease, config.calibration, **sizes),)


def sample(rng: np.random.Generator, configurations: int, starts: int) -> tuple[Tensor, Tensor]:
    """See `rlstab.controllers.roa.learner.System.sample`; states are those of `sample_states`."""
    states = sample_states(rng, configurations * starts).reshape(configurations, starts, 4)
    return torch.as_tensor(states), torch.as_tensor(sample_gaits(rng, configurations)[:, None])


@torch.no_grad()
def roll_out(model: RoaModel, x: Tensor, configuration: Tensor, steps: int) -> RollOut:
    """See `rlstab.controllers.roa.learner.System.roll_out`; its steps are the walker's."""
    gait = configuration[:, 0].double().cpu().numpy()
    states, _ = walker_stride.steps(x.double().cpu().numpy(), gait, steps)
    values = np.full(states.shape[:2], np.inf)
    for index, state in enumerate(states):
        walking = np.isfinite(state[:, 0])
        if walking.any():
            here, angle = torch.as_tensor(state[walking]).to(x), configuration[torch.as_tensor(walking)]
            values[index, walking] = model.value(here, angle).double().cpu().numpy()
    return RollOut(values, states)


def stable(loops: RollOut, configuration: Tensor) -> NDArray[np.bool_]:
    """See `rlstab.controllers.roa.learner.System.stable`."""
    last = loops.states[-1]
    away = np.linalg.norm(last - gait_states(configuration[:, 0].double().cpu().numpy()), axis=1)
    return np.isfinite(last).all(1) & (away < NEAR)
