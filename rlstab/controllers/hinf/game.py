"""PPO against a learned disturber, under an H-infinity constraint."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from rlstab.controllers.hinf.disturber import Disturber, DisturberNetwork
from rlstab.controllers.hinf.game_config import GameConfig
from rlstab.controllers.hinf.schedule import Dual, force_limit
from rlstab.envs.costs import Cost, cost_of
from rlstab.envs.disturbance.decided import DecidedForceEffect
from rlstab.errors import UserError
from rlstab.learning.on_policy import OnPolicyLearner
from rlstab.learning.rollout import ReturnNormalizer, generalised_advantages
from rlstab.learning.surrogate import Minibatch
from rlstab.policies.actor_critic import NetworkConfig


class GameLearner(OnPolicyLearner):
    """Proximal policy optimisation of an actor and of a disturber that pushes it.

    The disturber earns ``C - eta |d|^2``, the actor its reward less a multiple of that: where the multiplier is large
    the two play the game whose saddle point is the H-infinity controller at level ``sqrt(eta)``. The multiplier grows
    while ``sum C > eta sum |d|^2``, and eta shrinks while there is slack.

    Parameters
    ----------
    env
        A native batch with one `rlstab.envs.disturbance.DecidedForce`.
    config
        Of the learning and of the game.
    force_unit
        Newtons of one unit of force.
    cost
        Default: what `cost_of` finds.
    total_steps, seed, device
        See `OnPolicyLearner`.

    Raises
    ------
    UserError
        The environment has no such force, or no known cost; shares of worlds that do not add up; falls without a
        discount.

    References
    ----------
    Long et al. 2024, "Learning H-Infinity Locomotion Control", arXiv:2404.14405. Basar and Bernhard 1995, chapter 3,
    for the game. What they leave open is decided as in `GameConfig`.
    """

    config: GameConfig

    def __init__(
        self,
        env: VectorEnv,
        config: GameConfig | None = None,
        *,
        force_unit: float = 1.0,
        cost: Cost | None = None,
        total_steps: int = 1_000_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._game = config or GameConfig()
        self._port = _port_of(env)
        self._force_unit = force_unit
        self._cost = cost or cost_of(env)
        if self._cost.worst is not None and self._game.gamma >= 1.0:
            raise UserError("gamma must be below 1: a fall costs the worst for ever, which only a discount lets sum")
        super().__init__(env, self._game, total_steps=total_steps, seed=seed, device=device)
        self._roles = _roles(self._game, self.num_envs)
        initial = torch.Generator().manual_seed(seed + 1)
        network = DisturberNetwork(self.network.size, self._port.channels, self._game, initial).to(self.device)
        self.disturber = Disturber(network, self._game)
        self.dual = Dual(self._game.multiplier, self._game.eta)
        lead = (self._game.n_steps, self.num_envs)
        self._forces = torch.zeros(*lead, self._port.channels, device=self.device)
        self._intensity = torch.zeros(lead, device=self.device)
        self._saturated = torch.zeros(lead, device=self.device)
        self._costs = torch.zeros(lead, device=self.device)
        self._cost_normalizer = ReturnNormalizer(self.num_envs, self._game.gamma, self.device)
        self._limit = 0.0
        self._noise = np.random.default_rng((seed, 7))
        self._held = self._drawn_forces(int((self._roles == "random").sum()))
        self._disturber_samples: Minibatch | None = None

    @property
    def learned(self) -> np.ndarray:
        """``(num_envs,)`` bool: worlds in which the disturber pushes."""
        return self._roles == "learned"

    def collect(self, watcher: Any = None) -> bool:
        """See `OnPolicyLearner.collect`."""
        self._limit = force_limit(self._game, self.num_timesteps / self.total_steps)
        return super().collect(watcher)

    def update(self) -> dict[str, float]:
        """See `OnPolicyLearner.update`."""
        metrics = super().update()
        samples = self._disturber_samples
        if samples is not None:
            found = self.disturber.learn(samples, self._generator)
            metrics |= {f"disturber/{name}": value for name, value in found.items()}
        return metrics | self._move_dual()

    def state_dict(self) -> dict[str, Any]:
        """See `OnPolicyLearner.state_dict`."""
        return super().state_dict() | {
            "disturber": self.disturber.state_dict(),
            "dual": self.dual.state_dict(),
            "cost_normalizer": self._cost_normalizer.state_dict(),
            "noise": self._noise.bit_generator.state,
            "held": self._held.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `OnPolicyLearner.load_state_dict`."""
        super().load_state_dict(state)
        self.disturber.load_state_dict(state["disturber"])
        self.dual.load_state_dict(state["dual"])
        self._cost_normalizer.load_state_dict(state["cost_normalizer"])
        self._noise.bit_generator.state = state["noise"]
        self._held = np.array(state["held"])

    def _network_config(self) -> NetworkConfig:
        linear = () if self._game.linear_actor else None
        return dataclasses.replace(super()._network_config(), actor_hidden_sizes=linear)

    def _act(self, step: int, observation: Tensor) -> Tensor:
        features = self.network.features(observation)
        self._push(step, features)
        return self.network.actor(features)

    def _push(self, step: int, features: Tensor) -> None:
        """Decide the forces of a step, in units of the longest force, and let them act."""
        decided = self.disturber.decide(features, self._generator)
        self._forces[step] = decided
        wanted = np.zeros((self.num_envs, self._port.channels))
        longest = self._limit * self._game.max_force
        if longest > 0.0:
            learned, random = self._roles == "learned", self._roles == "random"
            wanted[learned] = longest * decided.cpu().numpy()[learned]
            wanted[random] = longest * self._random_forces(int(random.sum()))
        applied = self._port.push(wanted * self._force_unit, longest * self._force_unit) / self._force_unit
        size = np.linalg.norm(applied, axis=1)
        self._intensity[step] = torch.from_numpy(size**2)
        self._saturated[step] = torch.from_numpy(size >= longest * (1 - 1e-9))

    def _random_forces(self, count: int) -> np.ndarray:
        """Forces of the random worlds, of which each is drawn anew now and then."""
        drawn = self._drawn_forces(count)
        anew = self._noise.random((count, 1)) < 1.0 / self._game.random_hold
        self._held = np.where(anew, drawn, self._held)
        return self._held

    def _drawn_forces(self, count: int) -> np.ndarray:
        directions = self._noise.standard_normal((count, self._port.channels))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return directions * self._noise.uniform(0.5, 1.0, (count, 1))

    def _note(self, step: int) -> None:
        reward = self._rollout.rewards[step].cpu().numpy().astype(np.float64)
        self._costs[step] = torch.from_numpy(self._cost(reward, self._rollout.terminations(step)))

    @torch.no_grad()
    def _samples(self) -> Minibatch:
        samples = super()._samples()
        self._disturber_samples = None
        if self._limit == 0.0 or not self.learned.any():
            return samples
        # The price of a force is scaled as costs are: eta weighs one against the other.
        costs = self._cost_normalizer(self._costs, self._rollout.dones)
        unit = float(costs.abs().sum() / self._costs.abs().sum().clamp(min=1e-12))
        eta = self.dual.eta
        price = unit * eta * self._intensity if self._game.disturber == "hinf" and eta is not None else 0.0
        worst = None if self._cost.worst is None else unit * self._cost.worst
        earned = self._with_endings(costs - price, worst)
        features = samples.inputs.view(self._game.n_steps, self.num_envs, -1)
        newest = self.network.features(self._rollout.observations[-1])
        values = self.disturber.values(torch.cat([features, newest[None]]))
        advantages, returns = generalised_advantages(
            earned, values, self._rollout.dones, self._game.gamma, self._game.gae_lambda
        )
        learned = torch.from_numpy(self.learned).to(self.device)
        picked = features[:, learned].flatten(0, 1)
        forces = self._forces[:, learned].flatten(0, 1)
        self._disturber_samples = Minibatch(
            inputs=picked,
            actions=forces,
            log_probs=self.disturber.log_probs(picked, forces),
            advantages=advantages[:, learned].flatten(),
            returns=returns[:, learned].flatten(),
            values=values[:-1, learned].flatten(),
        )
        return self._constrained(samples, advantages)

    def _with_endings(self, earned: Tensor, worst: float | None) -> Tensor:
        """Add what comes after an episode's end: the worst for ever after a fall, the expected after a time limit."""
        gamma, rollout = self._game.gamma, self._rollout
        earned = earned.clone()
        cut = rollout.truncations()
        ended = rollout.dones.clone()
        if cut is not None:
            steps, worlds, final = cut
            earned[steps, worlds] += gamma * self.disturber.values(self.network.features(final))
            ended[steps, worlds] = 0.0
        if worst is not None:
            earned += ended * worst * gamma / (1.0 - gamma)
        return earned

    def _constrained(self, samples: Minibatch, advantages: Tensor) -> Minibatch:
        """Let the actor earn its reward less the disturber's earnings, by the multiplier."""
        if not self._game.constraint or self.dual.eta is None:
            return samples
        weight = self.dual.multiplier
        own = samples.advantages / (samples.advantages.std() + 1e-8)
        theirs = advantages.flatten() / (advantages.std() + 1e-8)
        mixed = (own - weight * theirs) / (1.0 + weight)
        return dataclasses.replace(samples, advantages=mixed)

    def _move_dual(self) -> dict[str, float]:
        learned = torch.from_numpy(self.learned).to(self.device)
        calm = torch.from_numpy(self._roles == "calm").to(self.device)
        cost = float(self._costs[:, learned].mean()) if learned.any() else float(self._costs.mean())
        metrics = {"game/limit": self._limit * self._game.max_force, "game/cost": cost}
        if self._limit == 0.0 or not learned.any():
            return metrics
        undisturbed = float(self._costs[:, calm].mean()) if calm.any() else 0.0
        intensity = float(self._intensity[:, learned].mean())
        scale = self._cost.worst or max(undisturbed, cost, 1e-12)
        slack = self.dual.step(self._game, cost - undisturbed, intensity, scale)
        if self._limit >= 1.0:
            # One whose whole force costs a hundredth of what a step can.
            self.dual.begin(0.01 * scale / max(self._game.max_force**2, 1e-12))
        known = {"game/ratio": self.dual.ratio, "game/eta": self.dual.eta}
        metrics |= {name: value for name, value in known.items() if value is not None}
        return metrics | {
            "game/undisturbed_cost": undisturbed,
            "game/force": float(self._intensity[:, learned].sqrt().mean()),
            "game/saturated": float(self._saturated[:, learned].mean()),
            "game/slack": slack,
            "game/multiplier": self.dual.multiplier,
        }


def _port_of(env: Any) -> DecidedForceEffect:
    found = [effect for effect in getattr(env, "disturbances", ()) if isinstance(effect, DecidedForceEffect)]
    if len(found) != 1:
        raise UserError("a disturber pushes through one DecidedForce: make the environment with disturbances=[it]")
    return found[0]


def _roles(config: GameConfig, num_envs: int) -> np.ndarray:
    """Who disturbs each world: the first ones nobody, the next ones chance, the rest the disturber."""
    calm, random = round(config.calm_share * num_envs), round(config.random_share * num_envs)
    if calm + random > num_envs:
        raise UserError(f"calm_share and random_share add up to {config.calm_share + config.random_share}: at most 1")
    rest = {"hinf": "learned", "cost": "learned", "random": "random", "none": "calm"}[config.disturber]
    return np.array(["calm"] * calm + ["random"] * random + [rest] * (num_envs - calm - random))
