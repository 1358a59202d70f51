"""What one iteration of on-policy learning collects, on the learner's device, and its advantages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Storage:
    """How observations and actions of one environment are kept: vectors as float32, images as uint8."""

    observation_shape: tuple[int, ...]
    observation_dtype: torch.dtype
    action_shape: tuple[int, ...]
    action_dtype: torch.dtype

    def observations(self, *lead: int, device: torch.device) -> Tensor:
        """Zeros with leading axes."""
        return torch.zeros((*lead, *self.observation_shape), dtype=self.observation_dtype, device=device)

    def actions(self, *lead: int, device: torch.device) -> Tensor:
        """Zeros with leading axes."""
        return torch.zeros((*lead, *self.action_shape), dtype=self.action_dtype, device=device)


class Rollout:
    """Storage ``(n_steps, num_envs, ...)`` of one iteration.

    Parameters
    ----------
    n_steps, num_envs
        Leading axes.
    storage
        Shapes and types.
    device
        Where the arrays live.
    """

    def __init__(self, n_steps: int, num_envs: int, storage: Storage, device: torch.device) -> None:
        # One row more than steps: the observation after the last step, whose value closes the advantages.
        self.observations = storage.observations(n_steps + 1, num_envs, device=device)
        self.actions = storage.actions(n_steps, num_envs, device=device)
        self.rewards = torch.zeros(n_steps, num_envs, device=device)
        self.dones = torch.zeros(n_steps, num_envs, device=device)
        self._terminated = np.zeros((n_steps, num_envs), bool)
        # Sparse by design: (step, world, last observation) of episodes that a time limit cut.
        self._truncated: list[tuple[int, int, NDArray[Any]]] = []

    def clear(self) -> None:
        """Forget the truncations of the previous iteration; the arrays are overwritten."""
        self._truncated.clear()

    def observe(self, step: int, observation: NDArray[Any]) -> Tensor:
        """Store the observation before ``step`` and return it on the device."""
        row = self.observations[step]
        row.copy_(torch.from_numpy(observation))
        return row

    def record(
        self,
        step: int,
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        infos: dict[str, Any],
    ) -> None:
        """Store what the environments returned for ``step``."""
        self.rewards[step].copy_(torch.from_numpy(reward))
        self._terminated[step] = terminated
        done = terminated | truncated
        self.dones[step].copy_(torch.from_numpy(done))
        if infos:
            for world in np.flatnonzero(truncated & ~terminated).tolist():
                self._truncated.append((step, world, np.array(infos["final_obs"][world])))

    def terminations(self, step: int) -> NDArray[np.bool_]:
        """Whether a step ended an episode other than by a time limit, ``(num_envs,)``."""
        return self._terminated[step]

    def truncations(self, since: int = 0) -> tuple[Tensor, Tensor, Tensor] | None:
        """Steps ``(k,)``, worlds ``(k,)`` and last observations ``(k, ...)`` of episodes cut by a time limit.

        In order of steps; those before ``since`` are left out.
        """
        found = [cut for cut in self._truncated if cut[0] >= since]
        if not found:
            return None
        steps, worlds, observations = zip(*found, strict=True)
        device = self.rewards.device
        final = torch.from_numpy(np.stack(observations)).to(device, self.observations.dtype)
        return torch.tensor(steps, device=device), torch.tensor(worlds, device=device), final


def generalised_advantages(
    rewards: Tensor, values: Tensor, dones: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    Parameters
    ----------
    rewards
        ``(n_steps, num_envs)``; where a time limit cut an episode, the discounted value of its last state is already
        in the reward.
    values
        ``(n_steps + 1, num_envs)``.
    dones
        ``(n_steps, num_envs)``, one where the step ended an episode.

    Returns
    -------
    advantages, returns
        ``(n_steps, num_envs)`` each; returns are the targets of the critic.
    """
    going_on = 1.0 - dones
    deltas = rewards + gamma * values[1:] * going_on - values[:-1]
    decay = gamma * gae_lambda * going_on
    advantages = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[0])
    for step in range(rewards.shape[0] - 1, -1, -1):
        running = torch.addcmul(deltas[step], decay[step], running, out=advantages[step])
    return advantages, advantages + values[:-1]


class ReturnNormalizer:
    """Divides rewards by the running standard deviation of the discounted return.

    As in Stable-Baselines3's ``VecNormalize``, but the statistics take in a whole rollout before it is scaled, so that
    all of an update's samples are on one scale.

    Parameters
    ----------
    num_envs
        Number of worlds.
    gamma
        Discount of the return whose spread is measured.
    limit
        Symmetric clip of the scaled reward.
    """

    def __init__(self, num_envs: int, gamma: float, device: torch.device, limit: float = 10.0) -> None:
        self.gamma = gamma
        self.limit = limit
        self.running = torch.zeros(num_envs, device=device)
        self.mean, self.var, self.count = 0.0, 1.0, 1e-4

    def __call__(self, rewards: Tensor, dones: Tensor) -> Tensor:
        """Take in a rollout ``(n_steps, num_envs)`` and return its scaled rewards."""
        returns = torch.empty_like(rewards)
        keep = self.gamma * (1.0 - dones)
        running = self.running
        for step in range(rewards.shape[0]):
            torch.add(rewards[step], running, out=returns[step])
            running = returns[step] * keep[step]
        self.running = running
        batch = returns.double()
        mean, var, number = float(batch.mean()), float(batch.var(correction=0)), batch.numel()
        total = self.count + number
        delta = mean - self.mean
        self.var = (self.var * self.count + var * number + delta**2 * self.count * number / total) / total
        self.mean += delta * number / total
        self.count = total
        return (rewards / (self.var + 1e-8) ** 0.5).clamp(-self.limit, self.limit)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        return {"running": self.running.cpu().numpy().copy(), "mean": self.mean, "var": self.var, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.running = torch.from_numpy(np.array(state["running"])).to(self.running.device)
        self.mean, self.var, self.count = float(state["mean"]), float(state["var"]), float(state["count"])
