"""The value of single actions of a frozen policy, learned from its own episodes for attacks that follow its slope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from rlstab.analysis.episodes import check_spaces, own_random_state
from rlstab.errors import UserError
from rlstab.learning.ascent import climb
from rlstab.learning.rollout import ReturnNormalizer, generalised_advantages
from rlstab.policies.base import Policy
from rlstab.policies.networks import MLP
from rlstab.policies.tensors import to_tensor
from rlstab.runs.seeding import derive_seed, generator

_BATCH = 256


class ActionValue(nn.Module):
    """A perceptron ``Q(s, a)``, in units of the return.

    Parameters
    ----------
    observation_size
        Components of an observation.
    action_space
        ``Box`` or ``Discrete``.
    hidden_sizes
        Widths of the hidden layers.
    generator
        Source of the initial weights.

    Attributes
    ----------
    explained
        Share of the variance of the returns it was fitted to that it explains; far below 1, do not trust it.

    Raises
    ------
    UserError
        Other actions.
    """

    mean: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        observation_size: int,
        action_space: spaces.Space[Any],
        hidden_sizes: tuple[int, ...],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.space = action_space
        match action_space:
            case spaces.Box():
                self.size, outputs, inputs = int(np.prod(action_space.shape)), 1, int(np.prod(action_space.shape))
                self.register_buffer("low", to_tensor(action_space.low).flatten())
                self.register_buffer("high", to_tensor(action_space.high).flatten())
            case spaces.Discrete():
                self.size, outputs, inputs = int(action_space.n), int(action_space.n), 0
            case _:
                raise UserError(f"action values are learned of Box and Discrete actions, not of {action_space}")
        self.observation_size = observation_size
        self.register_buffer("mean", torch.zeros(observation_size + inputs))
        self.register_buffer("spread", torch.ones(observation_size + inputs))
        self.network = MLP((observation_size + inputs, *hidden_sizes, outputs), "silu", 1.0, generator)
        self.unit = 1.0
        self.explained = 0.0

    def encode(self, actions: NDArray[Any]) -> Tensor:
        """Environment actions ``(N, ...)`` as `forward` reads them, ``(N, size)``."""
        if isinstance(self.space, spaces.Discrete):
            chosen = to_tensor(actions, dtype=torch.int64).flatten() - int(self.space.start)
            return nn.functional.one_hot(chosen, self.size).float()
        return to_tensor(actions).flatten(1)

    def adapt(self, observations: Tensor, actions: Tensor) -> None:
        """Standardise inputs by those given, ``(N, obs_dim)`` and ``(N, size)``."""
        rows = self._inputs(observations, actions)
        self.mean.copy_(rows.mean(0))
        # Components that hardly change would blow up what an attack adds to them.
        self.spread.copy_(rows.std(0).clamp(min=1e-3))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Values ``(N,)`` of raw observations ``(N, obs_dim)`` and actions ``(N, act_dim)``.

        ``Box`` actions count as the environment clips them, with the slope they would have without; for ``Discrete``
        ones, probabilities ``(N, n)`` give the expected value.
        """
        inputs = (self._inputs(observation, action) - self.mean) / self.spread
        found = self.network(inputs)
        if isinstance(self.space, spaces.Discrete):
            return (found * action).sum(-1) * self.unit
        return found.squeeze(-1) * self.unit

    def _inputs(self, observation: Tensor, action: Tensor) -> Tensor:
        if isinstance(self.space, spaces.Discrete):
            return observation
        clipped = action + (action.clamp(self.low, self.high) - action).detach()
        return torch.cat([observation, clipped], dim=-1)


@dataclass(frozen=True)
class _Experience:
    """Steps ``(T, N, ...)`` of a policy; one more observation and action than rewards."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    dones: Tensor
    cuts: tuple[Tensor, Tensor, Tensor, Tensor]
    """Steps, worlds, last observations and the actions there, of episodes cut by a time limit."""


def learn_action_value(
    policy: Policy,
    env_id: str | Callable[[], Any],
    *,
    steps: int = 100_000,
    num_envs: int = 16,
    noise: float = 0.0,
    gamma: float = 0.99,
    trace: float = 0.9,
    smoothness: float = 0.3,
    radius: float = 0.1,
    passes: int = 30,
    learning_rate: float = 1e-3,
    hidden_sizes: tuple[int, ...] = (64, 64),
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
) -> ActionValue:
    """Learn ``Q(s, a)`` of a frozen policy by Sarsa(lambda) on episodes in which it draws its actions.

    Parameters
    ----------
    policy
        Without memory.
    env_id
        As for `rlstab.envs.registry.make_vec`.
    steps
        Environment steps, over all worlds.
    num_envs
        Worlds stepped together.
    noise
        What a policy that does not draw its actions needs: standard deviation of noise on ``Box`` actions, as a share
        of their range, or probability of any ``Discrete`` one.
    gamma, trace
        Discount, and lambda of the returns.
    smoothness
        Weight of the squared change of Q where actions change most within a ball of ``radius``, in standard deviations
        of the actions; without it an attack finds errors of Q instead of bad actions.
    radius
        See ``smoothness``.
    passes
        Over all steps, each to returns estimated anew.
    learning_rate, hidden_sizes
        Of the network.
    seed
        Of episodes, action noise, weights and minibatches.
    env_kwargs
        Of the environment.

    Raises
    ------
    UserError
        Too few steps, spaces that do not fit or are not known.
    """
    if steps < num_envs * 2 or passes < 1:
        raise UserError(f"an action value needs 2 steps of every world and a pass, got {steps} steps, {passes} passes")
    initial = torch.Generator().manual_seed(seed)
    size = int(np.prod(policy.observation_space.shape or ()))
    with own_random_state():
        value = ActionValue(size, policy.action_space, hidden_sizes, initial)
        experience = _collect(policy, value, env_id, steps // num_envs, num_envs, noise, seed, env_kwargs)
    observations, actions = experience.observations[:-1].flatten(0, 1), experience.actions[:-1].flatten(0, 1)
    value.adapt(observations, actions)
    scale = ReturnNormalizer(num_envs, gamma, torch.device("cpu"), limit=float("inf"))
    rewards = scale(experience.rewards, experience.dones)
    optimizer = torch.optim.Adam(value.network.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, passes)
    action_scale = value.spread[size:]
    with torch.enable_grad():
        for _ in range(passes):
            targets = _returns(value, experience, rewards, gamma, trace).flatten()
            for rows in torch.randperm(len(targets), generator=initial).split(_BATCH):
                seen, done = observations[rows], actions[rows]
                found = value(seen, done)
                loss = (found - targets[rows]).square().mean()
                if smoothness > 0.0 and len(action_scale):
                    loss = loss + smoothness * _roughness(value, seen, done, found, radius * action_scale, initial)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
    with torch.no_grad():
        targets = _returns(value, experience, rewards, gamma, trace).flatten()
        error = (value(observations, actions) - targets).square().mean()
    value.explained = float(1.0 - error / targets.var(correction=0).clamp(min=1e-12))
    value.unit = float((scale.var + 1e-8) ** 0.5)
    return value.requires_grad_(False)


def _roughness(
    value: ActionValue, seen: Tensor, done: Tensor, found: Tensor, ball: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared change of Q where it is largest, after one step from a random corner to a corner."""
    center = found.detach()
    start = (torch.rand(done.shape, generator=generator) - 0.5).sign()
    change = climb(lambda change: (value(seen, done + change * ball) - center).square(), 0.1 * start, 1.0, 1, 2.0)
    return (value(seen, done + change * ball) - found).square().mean()


@torch.no_grad()
def _returns(value: ActionValue, experience: _Experience, rewards: Tensor, gamma: float, trace: float) -> Tensor:
    values = value(experience.observations.flatten(0, 1), experience.actions.flatten(0, 1))
    steps, worlds, last, actions = experience.cuts
    if len(steps):
        rewards = rewards.clone()
        rewards[steps, worlds] += gamma * value(last, actions)
    table = values.view(len(experience.observations), -1)
    return generalised_advantages(rewards, table, experience.dones, gamma, trace)[1]


def _collect(
    policy: Policy,
    value: ActionValue,
    env_id: str | Callable[[], Any],
    length: int,
    num_envs: int,
    noise: float,
    seed: int,
    env_kwargs: dict[str, Any] | None,
) -> _Experience:
    from rlstab.envs.registry import make_vec

    numbers = generator(seed, "action value noise")

    def act(observation: NDArray[Any]) -> NDArray[Any]:
        action = np.asarray(policy.predict(observation, deterministic=False)[0])
        space = policy.action_space
        if noise and isinstance(space, spaces.Box):
            wide = noise * (space.high - space.low) * numbers.standard_normal(action.shape)
            return np.clip(action + wide, space.low, space.high).astype(action.dtype)
        if noise and isinstance(space, spaces.Discrete):
            other = space.start + numbers.integers(space.n, size=action.shape)
            return np.where(numbers.random(action.shape) < noise, other, action)
        return action

    env = make_vec(env_id, num_envs, seed, env_kwargs=env_kwargs)
    shape = (length + 1, num_envs)
    seen, done = torch.zeros(*shape, value.observation_size), torch.zeros(*shape, value.size)
    rewards, ends = torch.zeros(length, num_envs), torch.zeros(length, num_envs)
    cuts: list[tuple[int, int, Tensor, Tensor]] = []
    try:
        check_spaces(policy, env)
        torch.manual_seed(derive_seed(seed, "action value policy"))
        observation = env.reset(seed=seed)[0]
        for step in range(length + 1):
            action = act(observation)
            seen[step], done[step] = to_tensor(observation).flatten(1), value.encode(action)
            if step == length:
                break
            observation, reward, terminated, truncated, infos = env.step(action)
            rewards[step], ends[step] = to_tensor(reward), to_tensor(terminated | truncated)
            cut = np.flatnonzero(truncated & ~terminated)
            if len(cut):
                last = np.asarray(infos["final_obs"])[cut]
                ended = zip(cut.tolist(), to_tensor(last).flatten(1), value.encode(act(last)), strict=True)
                cuts += [(step, world, final, next_action) for world, final, next_action in ended]
    finally:
        env.close()
    if not cuts:
        none = torch.zeros(0, dtype=torch.int64)
        return _Experience(seen, done, rewards, ends, (none, none, seen[:0, 0], done[:0, 0]))
    steps, worlds, last, actions = zip(*cuts, strict=True)
    index = torch.tensor(steps), torch.tensor(worlds)
    return _Experience(seen, done, rewards, ends, (*index, torch.stack(last), torch.stack(actions)))
