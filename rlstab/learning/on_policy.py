"""On-policy learning: PPO with Stable-Baselines3's public face and its own inner loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from torch import Tensor

from rlstab.errors import UserError
from rlstab.learning.flat import FlatAdam, FlatParameters, Optimizer
from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.learning.rollout import ReturnNormalizer, Rollout, Storage, generalised_advantages
from rlstab.learning.sb3_face import SB3Face, per_world_infos
from rlstab.learning.surrogate import Minibatch, StepStatistics, gradient_rule
from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig
from rlstab.policies.tensors import pick_device
from rlstab.runs.config import validate

# Rows evaluated at once after a rollout; bounds the memory of convolutional activations.
_EVALUATION_CHUNK = 4096


class OnPolicyLearner(SB3Face):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

    The details are those of Stable-Baselines3 (orthogonal initialisation, advantage standardised per minibatch, value
    of the last state added where a time limit cut an episode, gradient clip), with these differences: observations of a
    rollout are normalised by the statistics from before it, so that the policy that acts is exactly the one whose
    probabilities are compared; values and probabilities are computed once a rollout, not once a step; perceptrons are
    differentiated in closed form (`rlstab.learning.surrogate`).

    Parameters
    ----------
    env
        Vector environment with same-step autoreset (`rlstab.envs.make_vec`).
    config
        Hyper-parameters.
    total_steps
        Planned length in environment steps, for the learning-rate schedule.
    seed
        Seeds weights, exploration, minibatches and environments.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Examples
    --------
    >>> from rlstab.envs import make_vec
    >>> learner = OnPolicyLearner(make_vec("InvertedPendulum-v5", num_envs=4), OnPolicyConfig(n_steps=64))
    >>> learner.learn(512).num_timesteps
    512
    """

    def __init__(
        self,
        env: VectorEnv,
        config: OnPolicyConfig | None = None,
        *,
        total_steps: int = 1_000_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.config = config or OnPolicyConfig()
        validate(self.config)
        self.env = env
        self.num_envs = env.num_envs
        self.total_steps = total_steps
        self.device = pick_device(device)
        samples = self.config.n_steps * self.num_envs
        if self.config.batch_size > samples or samples % self.config.batch_size:
            message = (
                f"batch_size {self.config.batch_size} does not divide {samples} samples "
                f"({self.config.n_steps} steps of {self.num_envs} worlds): choose a divisor"
            )
            raise UserError(message)
        self.policy = self._make_policy(seed)
        self.network = self.policy.module
        self._flat = FlatParameters(self.network.parameters())
        self._optimizer = self._make_optimizer(self._flat)
        self._gradient = self._make_gradient()
        self._rollout = self._make_rollout()
        self._return_normalizer = ReturnNormalizer(self.num_envs, self.config.gamma, self.device)
        self._generator = torch.Generator(device=self.device).manual_seed(seed)

        self.num_timesteps = 0
        self.iterations = 0
        self._observation: Any = env.reset(seed=seed)[0]
        self._episode_return = np.zeros(self.num_envs)
        self._episode_length = np.zeros(self.num_envs, np.int64)
        # As Stable-Baselines3: training returns are reported over the last hundred episodes.
        self._recent_returns: deque[float] = deque(maxlen=100)
        self._recent_lengths: deque[int] = deque(maxlen=100)
        self.on_episode: Callable[[int, float, int], None] | None = None
        """Called with steps so far, undiscounted return and length of every episode that ends, if set."""

    def iterate(self) -> dict[str, float]:
        """Collect one rollout and learn from it.

        Returns
        -------
        dict
            Scalars for the log; ``rollout/return_mean`` (undiscounted, of the last hundred episodes) is missing until
            an episode has ended.
        """
        start = time.perf_counter()
        self.collect()
        collected = time.perf_counter()
        metrics = self.update()
        end = time.perf_counter()
        steps = self.config.n_steps * self.num_envs
        return metrics | {
            "time/steps_per_second": steps / (end - start),
            "time/collect_seconds": collected - start,
            "time/update_seconds": end - collected,
        }

    @torch.no_grad()
    def collect(self, watcher: Any = None) -> bool:
        """Fill the rollout storage. Returns whether ``watcher`` lets the training go on."""
        rollout, head = self._rollout, self.network.head
        rollout.clear()
        observation = self._observation
        sample = head.sampler(self.config.n_steps, self.num_envs, self._generator)
        if watcher is not None:
            watcher.on_rollout_start()
        for step in range(self.config.n_steps):
            action = sample(step, self._act(step, rollout.observe(step, observation)))
            rollout.actions[step] = action
            chosen = head.to_environment(action).cpu().numpy()
            observation, reward, terminated, truncated, infos = self.env.step(chosen)
            rollout.record(step, reward, terminated, truncated, infos)
            self._note(step)
            self.num_timesteps += self.num_envs
            ended = self._count_episodes(reward, terminated, truncated, bool(infos))
            if watcher is not None:
                rows = per_world_infos(infos, ended, truncated & ~terminated, self.num_envs)
                watcher.update_locals({"rewards": reward, "dones": terminated | truncated, "infos": rows})
                if not watcher.on_step():
                    self._observation = observation
                    return False
        rollout.observe(self.config.n_steps, observation)
        self._observation = observation
        self.iterations += 1
        if watcher is not None:
            watcher.on_rollout_end()
        return True

    def update(self) -> dict[str, float]:
        """Learn from the rollout storage: advantages, then ``n_epochs`` passes of gradient steps.

        Returns
        -------
        dict
            Scalars for the log.
        """
        config = self.config
        samples = self._samples()
        learning_rate = self._learning_rate()
        statistics: list[StepStatistics] = []
        stopped = False
        for _ in range(config.n_epochs):
            order = torch.randperm(samples.count, generator=self._generator, device=self.device)
            # Only the last pass is reported: the policy has then moved furthest.
            statistics = []
            for batch in samples.minibatches(order, config.batch_size):
                self._flat.gradient.zero_()
                statistics.append(self._gradient(batch))
                if config.target_kl is not None and statistics[-1].approx_kl() > 1.5 * config.target_kl:
                    stopped = True
                    break
                self._step(learning_rate)
            if stopped:
                break
        self._learn_normalisation()
        return self._update_metrics(samples, statistics) | self._episode_metrics()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue; bit for bit with native environments on a CPU."""
        env_state = getattr(self.env, "state_dict", None)
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "return_normalizer": self._return_normalizer.state_dict(),
            "generator": self._generator.get_state().cpu().numpy(),
            "num_timesteps": self.num_timesteps,
            "iterations": self.iterations,
            "observation": np.array(self._observation),
            "episode_return": self._episode_return.copy(),
            "episode_length": self._episode_length.copy(),
            "recent_returns": list(self._recent_returns),
            "recent_lengths": list(self._recent_lengths),
            "env": env_state() if env_state else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Foreign environments can't save what goes on inside them: they start new episodes.

        Raises
        ------
        UserError
            The state is that of another network or environment.
        """
        self.policy.load_weights(state["policy"]["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._return_normalizer.load_state_dict(state["return_normalizer"])
        self._generator.set_state(torch.from_numpy(np.array(state["generator"], np.uint8)))
        self.num_timesteps = int(state["num_timesteps"])
        self.iterations = int(state["iterations"])
        self._recent_returns = deque(state["recent_returns"], maxlen=100)
        self._recent_lengths = deque(state["recent_lengths"], maxlen=100)
        if state["env"] is not None:
            self.env.load_state_dict(state["env"])  # pyright: ignore[reportAttributeAccessIssue]
        if getattr(self.env, "resumes_exactly", False):
            self._observation = np.array(state["observation"])
            self._episode_return[...] = state["episode_return"]
            self._episode_length[...] = state["episode_length"]
        else:
            self._observation = self.env.reset()[0]
            self._episode_return[...] = 0.0
            self._episode_length[...] = 0

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _make_policy(self, seed: int) -> Any:
        observation, action = self.env.single_observation_space, self.env.single_action_space
        return ActorCriticPolicy(observation, action, self._network_config(), seed, self.device)

    def _network_config(self) -> NetworkConfig:
        config = self.config
        return NetworkConfig(
            hidden_sizes=tuple(config.hidden_sizes),
            activation=config.activation,
            log_std_init=config.log_std_init,
            normalize_observation=config.normalize_observation,
        )

    def _make_optimizer(self, parameters: FlatParameters) -> Optimizer:
        return FlatAdam(parameters)

    def _make_gradient(self) -> Callable[[Any], StepStatistics]:
        return gradient_rule(self.network, self.config)

    def _make_rollout(self) -> Rollout:
        return Rollout(self.config.n_steps, self.num_envs, self._storage(), self.device)

    def _storage(self) -> Storage:
        observation, action = self.env.single_observation_space, self.env.single_action_space
        return Storage(
            tuple(observation.shape or ()),
            torch.uint8 if observation.dtype == np.uint8 else torch.float32,
            () if isinstance(action, spaces.Discrete) else (int(np.prod(action.shape or ())),),
            torch.float32 if isinstance(action, spaces.Box | spaces.MultiBinary) else torch.int64,
        )

    def _act(self, step: int, observation: Tensor) -> Tensor:
        """Outputs of the actor ``(num_envs, head.inputs)`` before a step."""
        del step
        return self.network.actor(self.network.features(observation))

    def _note(self, step: int) -> None:
        """Take notice of a step that the rollout has recorded."""

    def _step(self, learning_rate: float) -> None:
        """Move the parameters against the gradient."""
        self._flat.clip_gradient(self.config.max_grad_norm)
        self._optimizer.step(learning_rate)

    def _learn_normalisation(self) -> None:
        if self.network.normalizer is not None:
            self.network.normalizer.update(self._rollout.observations[:-1])

    def _learning_rate(self) -> float:
        if self.config.learning_rate_schedule == "constant":
            return self.config.learning_rate
        # Remaining share of the training at the start of this rollout, as in Stable-Baselines3.
        done = (self.num_timesteps - self.config.n_steps * self.num_envs) / self.total_steps
        return self.config.learning_rate * max(0.0, 1.0 - done)

    @torch.no_grad()
    def _samples(self) -> Any:
        """Flatten the rollout into samples with log-probabilities, advantages and returns."""
        config, rollout, network = self.config, self._rollout, self.network
        observations = rollout.observations.flatten(0, 1)
        values, log_probs, inputs = [], [], []
        actions = rollout.actions.flatten(0, 1)
        for start in range(0, observations.shape[0], _EVALUATION_CHUNK):
            chunk = observations[start : start + _EVALUATION_CHUNK]
            features = network.features(chunk)
            values.append(network.critic(features).squeeze(-1))
            taken = actions[start : start + _EVALUATION_CHUNK]
            # The observations after the last step, which have no actions, may fill a chunk of their own.
            if taken.shape[0]:
                log_probs.append(network.head(network.actor(features[: taken.shape[0]])).log_prob(taken))
            inputs.append(features if network.trunk is None else chunk)
        cut = rollout.truncations()
        value_table = torch.cat(values).view(config.n_steps + 1, self.num_envs)
        advantages, returns = self._advantages(value_table, None if cut is None else network.value(cut[2]))
        count = actions.shape[0]
        return Minibatch(
            inputs=torch.cat(inputs)[:count],
            actions=actions,
            log_probs=torch.cat(log_probs),
            advantages=advantages.flatten(),
            returns=returns.flatten(),
            values=value_table[:-1].flatten(),
        )

    def _advantages(self, values: Tensor, cut_values: Tensor | None) -> tuple[Tensor, Tensor]:
        """Advantages and returns ``(n_steps, num_envs)``.

        Parameters
        ----------
        values
            ``(n_steps + 1, num_envs)``.
        cut_values
            Those of `Rollout.truncations`, ``(k,)``.
        """
        config, rollout = self.config, self._rollout
        rewards, dones = rollout.rewards, rollout.dones
        if config.normalize_reward:
            rewards = self._return_normalizer(rewards, dones)
        cut = rollout.truncations()
        if cut is not None and cut_values is not None:
            steps, worlds, _ = cut
            rewards = rewards.clone()
            rewards[steps, worlds] += config.gamma * cut_values
        return generalised_advantages(rewards, values, dones, config.gamma, config.gae_lambda)

    def _count_episodes(
        self, reward: Any, terminated: Any, truncated: Any, any_ended: bool
    ) -> list[tuple[int, float, int]]:
        """World, undiscounted return and length of every episode that has just ended."""
        self._episode_return += reward
        self._episode_length += 1
        if not any_ended:
            return []
        worlds = np.flatnonzero(terminated | truncated)
        returns, lengths = self._episode_return[worlds].tolist(), self._episode_length[worlds].tolist()
        self._recent_returns.extend(returns)
        self._recent_lengths.extend(lengths)
        self._episode_return[worlds] = 0.0
        self._episode_length[worlds] = 0
        ended = list(zip(worlds.tolist(), returns, lengths, strict=True))
        if self.on_episode is not None:
            for _, episode_return, length in ended:
                self.on_episode(self.num_timesteps, episode_return, length)
        return ended

    def _episode_metrics(self) -> dict[str, float]:
        if not self._recent_returns:
            return {}
        return {
            "rollout/return_mean": float(np.mean(self._recent_returns)),
            "rollout/length_mean": float(np.mean(self._recent_lengths)),
        }

    def _update_metrics(self, samples: Any, statistics: list[StepStatistics]) -> dict[str, float]:
        summaries = [result.summary(self.config.clip_range) for result in statistics]
        metrics = {
            f"train/{name}": float(torch.stack([summary[name] for summary in summaries]).mean())
            for name in summaries[0]
        }
        explained: Tensor = 1.0 - (samples.returns - samples.values).var() / (samples.returns.var() + 1e-12)
        metrics["train/explained_variance"] = float(explained)
        metrics["train/learning_rate"] = self._learning_rate()
        if self.network.head.log_std is not None:
            metrics["train/std"] = float(self.network.head.log_std.detach().exp().mean())
        return metrics
