"""Trains the networks of the region-of-attraction method, stage by stage."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers import registry
from rlstab.controllers.environment import make_environment
from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.stages import Place, Schedule, Stage
from rlstab.errors import DivergedError, UserError
from rlstab.learning.torch_state import load_optimiser, optimiser_to_tree
from rlstab.policies.roa.model import RoaModel
from rlstab.policies.roa.policy import RoaPolicy
from rlstab.policies.tensors import pick_device
from rlstab.runs.state import StateTree


@dataclass(frozen=True)
class RollOut:
    """Closed loops within one mode."""

    values: NDArray[np.float64]
    """``V`` at every step (every hop, of the hopper), ``(steps + 1, n)``; infinite once a state is not valid."""
    states: NDArray[np.float64]
    """``(steps + 1, n, state_size)``."""


@dataclass(frozen=True)
class Claim:
    """What a level says of a system, in words, for certificates."""

    steps: int
    """Of a roll-out that it is judged by."""
    drawn: str
    """What `System.sample` draws: the distribution that a statement is about."""
    holds: str
    """What a stable roll-out does."""


class System(Protocol):
    """What the module of a hybrid system offers."""

    claim: Claim

    def make_model(self, config: RoaConfig) -> RoaModel:
        """Its networks with fresh weights, which depend on nothing but the configuration."""
        ...

    def make_stages(self, model: RoaModel, config: RoaConfig) -> Sequence[Stage]:
        """How they are trained."""
        ...

    def sample(self, rng: np.random.Generator, configurations: int, starts: int) -> tuple[Tensor, Tensor]:
        """States ``(configurations, starts, state_size)`` and configurations ``(configurations, configuration_size)``.

        Uniform over the domain in which the level network is claimed to hold.
        """
        ...

    def roll_out(self, model: RoaModel, x: Tensor, configuration: Tensor, steps: int) -> RollOut:
        """Let the closed loop go on within one mode, from states ``(n, state_size)``, without gradients."""
        ...

    def stable(self, loops: RollOut, configuration: Tensor) -> NDArray[np.bool_]:
        """Which roll-outs of ``claim.steps`` steps did what the level claims, ``(n,)``."""
        ...


# Environment -> module of its `System`. A new system adds its line here.
SYSTEMS = {
    "rlstab/CarTracking-v0": "rlstab.controllers.roa.car.system",
    "rlstab/Pogobot-v0": "rlstab.controllers.roa.pogobot.system",
    "rlstab/Walker-v0": "rlstab.controllers.roa.walker.system",
}

_DRAW, _STEP, _CONCLUDE = range(3)


class RoaLearner:
    """See `rlstab.learning.learner.Learner`; its steps are gradient steps.

    Parameters
    ----------
    env
        The system's environment, which is not stepped: stages draw their own states.
    policy
        What is trained.
    stages
        In their order.
    config
        Settings.
    """

    def __init__(self, env: VectorEnv, policy: RoaPolicy, stages: Sequence[Stage], config: RoaConfig) -> None:
        self.env, self.policy = env, policy
        self._stages, self._config = stages, config
        self._schedule = Schedule([stage.share for stage in stages], config.total_steps)
        self._step = 0
        self._drawn: tuple[int, int] | None = None
        self._optimiser = self._make_optimiser(0)
        self._optimised = 0

    @property
    def num_timesteps(self) -> int:
        """Gradient steps so far."""
        return self._step

    def iterate(self) -> dict[str, float]:
        """Take up to ``steps_per_iteration`` gradient steps of one stage."""
        started, begun = time.monotonic(), self._step
        place = self._schedule.place(self._step)
        stage = self._stages[place.stage]
        if self._optimised != place.stage:
            self._optimiser, self._optimised = self._make_optimiser(place.stage), place.stage
        losses: list[float] = []
        further: dict[str, float] = {}
        end = min(place.step + self._config.steps_per_iteration, place.length)
        for step in range(place.step, end):
            self._draw(stage, place.stage, step)
            loss, further = self._descend(stage, place, step)
            losses.append(loss)
            self._step += 1
        if end == place.length:
            stage.conclude(self._rng(place.stage, _CONCLUDE, 0))
        rate = (self._step - begun) / max(time.monotonic() - started, 1e-9)
        return {
            "train/stage": float(place.stage),
            f"train/{stage.name}_loss": float(np.mean(losses)),
            **{f"train/{stage.name}_{name}": value for name, value in further.items()},
            "time/steps_per_second": rate,
        }

    def state_dict(self) -> StateTree:
        """See `rlstab.learning.learner.Learner.state_dict`."""
        return {
            "policy": self.policy.state_dict(),
            "optimiser": optimiser_to_tree(self._optimiser),
            "optimised": self._optimised,
            "step": self._step,
        }

    def load_state_dict(self, tree: StateTree) -> None:
        """See `rlstab.learning.learner.Learner.load_state_dict`."""
        self.policy.load_weights(tree["policy"]["weights"])
        self._step, self._optimised = int(tree["step"]), int(tree["optimised"])
        self._optimiser = self._make_optimiser(self._optimised)
        load_optimiser(self._optimiser, tree["optimiser"])
        self._drawn = None

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def _descend(self, stage: Stage, place: Place, step: int) -> tuple[float, dict[str, float]]:
        progress = step / place.length
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.learning_rate * (0.55 + 0.45 * math.cos(math.pi * progress))
        loss, further = stage.loss(self._rng(place.stage, _STEP, step), progress)
        if not bool(torch.isfinite(loss)):
            raise DivergedError(
                f"the loss of stage '{stage.name}' became {float(loss.detach())} at gradient step {self._step}: lower "
                "--learning-rate"
            )
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return float(loss.detach()), further

    def _make_optimiser(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(list(self._stages[stage].parameters()), self._config.learning_rate)

    def _rng(self, stage: int, purpose: int, step: int) -> np.random.Generator:
        """Numbers that depend on the seed and on the place alone, so that nothing need be saved."""
        return np.random.default_rng([self._config.seed, stage, purpose, step])

    def _draw(self, stage: Stage, index: int, step: int) -> None:
        drawing = step - step % stage.redraw_every if stage.redraw_every else 0
        if self._drawn != (index, drawing):
            stage.draw(self._rng(index, _DRAW, drawing))
            self._drawn = (index, drawing)


def system_of(model: RoaModel) -> System:
    """Find the system that networks were made for."""
    found: Any = importlib.import_module(f"rlstab.controllers.roa.{model.system}.system")
    return found


def make_learner(config: RoaConfig, env: VectorEnv | None = None) -> RoaLearner:
    """Build the learner, and its environment unless one is given.

    Raises
    ------
    UserError
        The environment is not one of the hybrid systems that the method knows, the device is absent, or there are
        fewer steps than stages.
    """
    key = config.env if config.env.startswith("rlstab/") else f"rlstab/{config.env}"
    if key not in SYSTEMS:
        raise UserError(
            f"roa knows the modes and resets of {', '.join(SYSTEMS)}, not of {config.env}; for plants without modes "
            "there is `rlstab train lyapunov`"
        )
    device = pick_device(config.device)
    system: Any = importlib.import_module(SYSTEMS[key])
    env = make_environment(config) if env is None else env
    registry.check_actions("roa", config.env, env.single_action_space)
    torch.manual_seed(config.seed)
    model: RoaModel = system.make_model(config).to(device)
    policy = RoaPolicy(env.single_observation_space, env.single_action_space, model, device)
    return RoaLearner(env, policy, system.make_stages(model, config), config)
