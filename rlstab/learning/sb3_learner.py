"""Stable-Baselines3's off-policy algorithms (SAC, TD3, DQN) behind our learner interface, without a pickle.

The algorithm is Stable-Baselines3's own object and code; this module only drives it in slices of equal length, reads
out its metrics, and takes its state apart for the checkpoint.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from rlstab.envs.sb3 import SB3VecEnv
from rlstab.errors import UserError
from rlstab.learning.global_random import GlobalRandom
from rlstab.learning.torch_state import load_optimiser, optimiser_to_tree
from rlstab.policies.sb3 import SB3Policy
from rlstab.policies.tensors import to_array, to_tensor

_REPLAY_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_COUNTERS = (
    "num_timesteps",
    "_episode_num",
    "_n_updates",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)


class SB3Learner:
    """One of Stable-Baselines3's off-policy algorithms as a learner.

    Parameters
    ----------
    env
        Vector environment.
    build
        Makes the algorithm on the ``VecEnv`` it is given; called with the algorithm's own random state in place.
    kind
        Which algorithm: ``sac``, ``td3`` or ``dqn``.
    total_steps
        Length of training in environment steps; the exploration schedule of DQN needs it.
    steps_per_iteration
        Environment steps of one `iterate`.
    checkpoint_replay
        Whether `state_dict` holds the replay buffer.
    device
        The device of the algorithm's networks.

    Notes
    -----
    Resumption is bit-exact with native batch environments; others begin new episodes when resumed.
    """

    def __init__(
        self,
        env: VectorEnv,
        build: Callable[[VecEnv], OffPolicyAlgorithm],
        *,
        kind: str,
        total_steps: int,
        steps_per_iteration: int,
        checkpoint_replay: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.env = env
        self._total_steps = total_steps
        self._steps_per_iteration = steps_per_iteration
        self._checkpoint_replay = checkpoint_replay
        self._buffer_refills_until = 0
        self._random = GlobalRandom(device)
        self._vec_env = SB3VecEnv(env)
        with self._random.in_place():
            self.algorithm = build(_Float32Observations(self._vec_env))
            # A logger without outputs: Stable-Baselines3 would otherwise make a folder of its own.
            self.algorithm.set_logger(Logger(folder=None, output_formats=[]))
            _, self._callback = self.algorithm._setup_learn(total_steps)
        self.policy = SB3Policy(self.algorithm.policy, kind, env.single_observation_space, env.single_action_space)

    @property
    def num_timesteps(self) -> int:
        """Environment steps so far, over all worlds."""
        return self.algorithm.num_timesteps

    def iterate(self) -> dict[str, float]:
        """Collect and learn until the next multiple of ``steps_per_iteration``; return the metrics of that stretch."""
        algorithm = self.algorithm
        first = algorithm.num_timesteps
        target = min((first // self._steps_per_iteration + 1) * self._steps_per_iteration, self._total_steps)
        started = time.perf_counter()
        train_metrics: dict[str, list[float]] = {}
        with self._random.in_place():
            while algorithm.num_timesteps < max(target, first + 1):
                self._collect_and_train()
                for name, value in algorithm.logger.name_to_value.items():
                    train_metrics.setdefault(name, []).append(float(value))
                algorithm.logger.name_to_value.clear()
        elapsed = time.perf_counter() - started
        metrics = {name: float(np.mean(values)) for name, values in train_metrics.items()}
        metrics.pop("train/n_updates", None)
        metrics.pop("train/learning_rate", None)  # Constant, and in the configuration.
        metrics["train/updates"] = float(algorithm._n_updates)
        metrics["time/steps_per_second"] = (algorithm.num_timesteps - first) / elapsed
        episodes = list(algorithm.ep_info_buffer or ())
        if episodes:
            metrics["rollout/return_mean"] = float(np.mean([episode["r"] for episode in episodes]))
            metrics["rollout/length_mean"] = float(np.mean([episode["l"] for episode in episodes]))
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Everything training needs to go on: networks, optimisers, replay buffer, random generators, environment.

        The replay buffer's arrays are views, since a copy of a full one takes gigabytes. The rows that the next
        `iterate` writes over are there as copies too, under ``"next"``; `load_state_dict` puts them in their places.
        """
        algorithm = self.algorithm
        optimisers, variables = self._saved_names()
        env_state = getattr(self.env, "state_dict", None)
        return {
            "policy": self.policy.state_dict(),
            "optimisers": {name: optimiser_to_tree(operator.attrgetter(name)(algorithm)) for name in optimisers},
            "variables": {name: to_array(getattr(algorithm, name)) for name in variables},
            "counters": {name: getattr(algorithm, name) for name in _COUNTERS if hasattr(algorithm, name)},
            "episodes": [
                {"r": float(episode["r"]), "l": int(episode["l"])} for episode in algorithm.ep_info_buffer or ()
            ],
            "replay": self._replay_state() if self._checkpoint_replay else None,
            "random": self._random.state_dict(),
            "action_space_random": algorithm.action_space.np_random.bit_generator.state,
            "last_observation": np.array(algorithm._last_obs),
            "env": None if env_state is None else env_state(),
            "adapter": self._vec_env.state_dict(),
        }

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, into a learner of the same configuration.

        Raises
        ------
        UserError
            The state is that of another algorithm, network or buffer size.
        """
        algorithm = self.algorithm
        optimisers, variables = self._saved_names()
        if set(tree["optimisers"]) != set(optimisers) or set(tree["variables"]) != set(variables):
            raise UserError(
                "the checkpoint is that of another algorithm or other settings than this run's configuration"
            )
        self.policy.load_weights(tree["policy"]["weights"])
        for name in optimisers:
            load_optimiser(operator.attrgetter(name)(algorithm), tree["optimisers"][name])
        with torch.no_grad():
            for name in variables:
                getattr(algorithm, name).copy_(to_tensor(tree["variables"][name]))
        for name, value in tree["counters"].items():
            setattr(algorithm, name, value)
        assert algorithm.ep_info_buffer is not None
        algorithm.ep_info_buffer.clear()
        algorithm.ep_info_buffer.extend(dict(episode) for episode in tree["episodes"])
        if tree["replay"] is None:
            self._buffer_refills_until = algorithm.num_timesteps + algorithm.learning_starts
        else:
            self._load_replay(tree["replay"])
        self._random.load_state_dict(tree["random"])
        algorithm.action_space.np_random.bit_generator.state = tree["action_space_random"]
        if tree["env"] is not None:
            self.env.load_state_dict(tree["env"])  # type: ignore[attr-defined]
        if getattr(self.env, "resumes_exactly", False):
            self._vec_env.load_state_dict(tree["adapter"])
            algorithm._last_obs = np.array(tree["last_observation"])
        else:
            # What goes on inside a foreign environment could not be saved: new episodes begin.
            algorithm._last_obs = algorithm.env.reset()  # type: ignore[union-attr, assignment]

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def _collect_and_train(self) -> None:
        # The body of OffPolicyAlgorithm.learn, which cannot itself be left and entered again.
        algorithm = self.algorithm
        rollout = algorithm.collect_rollouts(
            algorithm.env,  # type: ignore[arg-type]
            callback=self._callback,
            train_freq=algorithm.train_freq,  # type: ignore[arg-type]
            replay_buffer=self._buffer,
            action_noise=algorithm.action_noise,
            learning_starts=algorithm.learning_starts,
            log_interval=None,
        )
        if algorithm.num_timesteps > max(algorithm.learning_starts, self._buffer_refills_until):
            gradient_steps = algorithm.gradient_steps if algorithm.gradient_steps >= 0 else rollout.episode_timesteps
            if gradient_steps > 0:
                algorithm.train(batch_size=algorithm.batch_size, gradient_steps=gradient_steps)

    @property
    def _buffer(self) -> ReplayBuffer:
        assert self.algorithm.replay_buffer is not None
        return self.algorithm.replay_buffer

    def _saved_names(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = self.algorithm._get_torch_save_params()
        return [name for name in state_dicts if name != "policy"], variables

    def _replay_state(self) -> dict[str, Any]:
        buffer = self._buffer
        filled = buffer.size()
        arrays = {name: getattr(buffer, name)[:filled] for name in _REPLAY_ARRAYS}
        rows = self._next_rows(filled)
        following = {"rows": rows, "arrays": {name: getattr(buffer, name)[rows] for name in _REPLAY_ARRAYS}}
        return {"position": buffer.pos, "full": buffer.full, "arrays": arrays, "next": following}

    def _next_rows(self, filled: int) -> Any:
        """Rows of the replay buffer, among those in use, that one `iterate` writes over at most."""
        buffer, algorithm = self._buffer, self.algorithm
        frequency: Any = algorithm.train_freq
        steps = -(-self._steps_per_iteration // self.env.num_envs) + int(frequency.frequency)
        rows = (buffer.pos + np.arange(min(steps, buffer.buffer_size))) % buffer.buffer_size
        return rows[rows < filled]

    def _load_replay(self, state: dict[str, Any]) -> None:
        buffer = self._buffer
        filled = len(state["arrays"]["rewards"])
        if filled > buffer.buffer_size or (state["full"] and filled != buffer.buffer_size):
            raise UserError(
                f"the checkpoint's replay buffer has {filled} rows, this run's configuration {buffer.buffer_size}; "
                "resume with the buffer_size and num_envs of the original run"
            )
        for name in _REPLAY_ARRAYS:
            getattr(buffer, name)[:filled] = state["arrays"][name]
            # Checkpoints of older versions have only whole arrays.
            if "next" in state:
                getattr(buffer, name)[state["next"]["rows"]] = state["next"]["arrays"][name]
        buffer.pos, buffer.full = int(state["position"]), bool(state["full"])


class _Float32Observations(VecEnvWrapper):
    """Half the memory of the replay buffer and of its checkpoints: the networks compute in float32 anyway."""

    def __init__(self, env: VecEnv) -> None:
        space = env.observation_space
        self._casts = isinstance(space, spaces.Box) and space.dtype == np.float64
        if self._casts:
            assert isinstance(space, spaces.Box)
            space = spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
        super().__init__(env, observation_space=space)

    def reset(self) -> Any:
        observation = self.venv.reset()
        return observation.astype(np.float32) if self._casts else observation  # type: ignore[union-attr]

    def step_wait(self) -> Any:
        observation, reward, done, infos = self.venv.step_wait()
        if self._casts:
            observation = observation.astype(np.float32)  # type: ignore[union-attr]
        return observation, reward, done, infos
