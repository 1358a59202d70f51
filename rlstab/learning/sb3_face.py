"""Stable-Baselines3's public face on our learners: ``learn``, callbacks, logger, ``predict``, ``save`` and ``load``."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError
from rlstab.runs.state import pack, unpack

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.callbacks import BaseCallback

_SUFFIX = ".safetensors"
_STATE_KEY = "rlstab.learner"


class SB3Face(ABC):
    """What Stable-Baselines3's users, callbacks and ``evaluate_policy`` expect of an algorithm."""

    env: VectorEnv
    policy: Any
    num_timesteps: int
    total_steps: int
    logger: Any = None
    _adapter: Any = None

    @abstractmethod
    def collect(self, watcher: BaseCallback | None = None) -> bool:
        """Gather one rollout; returns whether ``watcher`` lets the training go on."""

    @abstractmethod
    def update(self) -> dict[str, float]:
        """Learn from the rollout; returns scalars for the log."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def learn(
        self,
        total_timesteps: int,
        callback: BaseCallback | list[BaseCallback] | Callable[..., bool] | None = None,
        log_interval: int = 1,
        *,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for ``total_timesteps`` more steps, with Stable-Baselines3's callbacks.

        Parameters
        ----------
        total_timesteps
            Environment steps over all worlds, rounded up to whole rollouts.
        callback
            A callback, a list of them, or a function of ``(locals, globals)``. ``locals["infos"]`` is a list of one
            dictionary a world, as in Stable-Baselines3.
        log_interval
            Rollouts between two lines of the log.
        reset_num_timesteps
            Count steps from zero, which also restarts the learning-rate schedule.
        progress_bar
            Show one (needs tqdm).
        """
        if reset_num_timesteps:
            self.num_timesteps = 0
        self.total_steps = goal = self.num_timesteps + total_timesteps
        watcher = self._attach(callback, progress_bar)
        rollouts = 0
        watcher.on_training_start(locals(), globals())
        while self.num_timesteps < goal and self.collect(watcher):
            metrics = self.update()
            rollouts += 1
            if rollouts % log_interval == 0:
                for name, value in metrics.items():
                    self.logger.record(name, value)
                self.logger.dump(self.num_timesteps)
        watcher.on_training_end()
        return self

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """See `rlstab.policies.base.Policy.predict`."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    def get_env(self) -> Any:
        """The environment as Stable-Baselines3's ``VecEnv``."""
        if self._adapter is None:
            from rlstab.envs.sb3 import SB3VecEnv

            self._adapter = SB3VecEnv(self.env)
        return self._adapter

    def get_vec_normalize_env(self) -> None:
        """No wrapper normalises: the statistics are in the policy."""
        return

    def set_logger(self, logger: Any) -> None:
        """Use a ``stable_baselines3.common.logger.Logger``."""
        self.logger = logger

    def save(self, path: str | Path) -> Path:
        """Write the learner to one safetensors file, without pickle; returns its path.

        Parameters
        ----------
        path
            ``.safetensors`` is appended if it is missing, in place of ``.zip``.
        """
        from safetensors.numpy import save_file

        target = Path(path)
        if target.suffix != _SUFFIX:
            # SB3's callbacks ask for a .zip, which this is not.
            target = target.with_name(target.name.removesuffix(".zip") + _SUFFIX)
        target.parent.mkdir(parents=True, exist_ok=True)
        tensors, skeleton = pack(self.state_dict())
        contiguous = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
        save_file(contiguous, target, {_STATE_KEY: json.dumps(skeleton)})
        return target

    def load(self, path: str | Path) -> Self:
        """Restore what `save` wrote, into a learner of the same configuration and environment.

        Raises
        ------
        UserError
            The file is missing, or is not one that `save` wrote, or belongs to another network.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                skeleton = (file.metadata() or {}).get(_STATE_KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is not a saved learner: {error}") from error
        if skeleton is None:
            raise UserError(f"{path} holds tensors but no learner: give a file that save() wrote")
        self.load_state_dict(unpack(tensors, json.loads(skeleton)))
        return self

    def _attach(self, callback: Any, progress_bar: bool) -> BaseCallback:
        from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, ProgressBarCallback
        from stable_baselines3.common.logger import configure

        if self.logger is None:
            self.logger = configure(None, [])
        if callback is None or isinstance(callback, list):
            watchers = list(callback or [])
        else:
            watchers = [callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)]
        if progress_bar:
            watchers.append(ProgressBarCallback())
        together = CallbackList(watchers)
        together.init_callback(self)  # pyright: ignore[reportArgumentType]  # duck-typed: see the tests
        return together


def per_world_infos(
    infos: dict[str, Any], ended: list[tuple[int, float, int]], truncated: NDArray[np.bool_], num_envs: int
) -> list[dict[str, Any]]:
    """Stable-Baselines3's list of information dictionaries, for callbacks that read it.

    Parameters
    ----------
    infos
        The vector environment's.
    ended
        World, undiscounted return and length of each episode that has just ended.
    truncated
        ``(num_envs,)``: where a time limit cut the episode.
    num_envs
        Number of worlds.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for world, episode_return, length in ended:
        rows[world]["episode"] = {"r": episode_return, "l": length, "t": time.time()}
        rows[world]["terminal_observation"] = infos["final_obs"][world]
        rows[world]["TimeLimit.truncated"] = bool(truncated[world])
    return rows
