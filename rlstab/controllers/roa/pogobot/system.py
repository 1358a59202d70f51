"""The hopper as a system of the region-of-attraction method: see `rlstab.controllers.roa.learner.System`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.learner import Claim, RollOut
from rlstab.controllers.roa.levels import decreasing
from rlstab.controllers.roa.pogobot import domain
from rlstab.controllers.roa.stages import Stage
from rlstab.policies.roa.model import RoaModel
from rlstab.policies.roa.pogobot import PogobotModel
from rlstab.policies.tensors import to_array, to_tensor

claim = Claim(
    steps=3,
    drawn="references even over the corridors' speeds and heights, apices even around them (3 m/s, 2 m)",
    holds=f"three hops over level ground succeed, and each takes {domain.ALPHA:g} of V away, but for a slack near 0",
)


def make_model(config: RoaConfig) -> PogobotModel:
    """Networks whose controls are those that the environment of ``config`` allows."""
    # The environment has refused what is no limit.
    settings: dict[str, Any] = {
        name: config.env_kwargs[name] for name in ("largest_angle", "largest_force") if name in config.env_kwargs
    }
    if config.hidden_sizes:
        settings["hidden_sizes"] = config.hidden_sizes
    return PogobotModel(**settings)


def make_stages(model: RoaModel, config: RoaConfig) -> Sequence[Stage]:
    """What a hop does; controller and Lyapunov function; the level."""
    from rlstab.controllers.roa.pogobot.control_stage import ControlStage
    from rlstab.controllers.roa.pogobot.level_stage import LevelStage
    from rlstab.controllers.roa.pogobot.stance_stage import StanceStage

    assert isinstance(model, PogobotModel)
    return [StanceStage(model, config), ControlStage(model, config), LevelStage(model, config)]


def sample(rng: np.random.Generator, configurations: int, starts: int) -> tuple[Tensor, Tensor]:
    """See `System.sample`: references, and apices within `domain.REACH` of them that a leg fits under."""
    references = domain.draw_references(rng, configurations)
    return to_tensor(domain.draw_around(rng, references, starts)), to_tensor(references)


@torch.no_grad()
def roll_out(model: RoaModel, x: Tensor, configuration: Tensor, steps: int) -> RollOut:
    """See `System.roll_out`: exact hops over level ground. A state is valid until a hop fails or ends too low."""
    states = [to_array(x).astype(np.float64)]
    values = [to_array(model.value(x, configuration)).astype(np.float64)]
    alive = np.isfinite(states[0]).all(1) & (states[0][:, 1] >= domain.LOWEST - 1e-6)
    for _ in range(steps):
        control = to_array(model.control(to_tensor(states[-1], x.device), configuration)).astype(np.float64)
        after, _, _, failed = domain.take_hops(states[-1], control)
        alive = alive & ~failed & (after[:, 1] >= domain.LOWEST)
        states.append(np.where(alive[:, None], after, states[-1]))
        value = to_array(model.value(to_tensor(states[-1], x.device), configuration)).astype(np.float64)
        values.append(np.where(alive, value, np.inf))
    return RollOut(np.stack(values), np.stack(states))


def stable(loops: RollOut, configuration: Tensor) -> NDArray[np.bool_]:
    """See `System.stable`."""
    del configuration
    return decreasing(loops.values, domain.ALPHA, domain.SLACK)
