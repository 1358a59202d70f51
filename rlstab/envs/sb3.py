"""A batch environment as Stable-Baselines3's ``VecEnv``. Importing this module imports Stable-Baselines3 and torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rlstab.envs.worlds import CHOICES
from rlstab.errors import UserError


class SB3VecEnv(VecEnv):
    """The same worlds behind Stable-Baselines3's interface.

    What a ``DummyVecEnv`` of monitored environments would give: when a world ends, its info has
    ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` (return ``r``, length ``l``, seconds ``t``), so
    neither ``Monitor`` nor ``VecMonitor`` is needed.

    Parameters
    ----------
    env
        A vector environment that resets in the step that ends an episode and gives a dense ``final_obs``, as those of
        `rlstab.envs.make_vec` do.

    Raises
    ------
    UserError
        The environment resets in another way.
    """

    def __init__(self, env: VectorEnv) -> None:
        if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            message = (
                "Stable-Baselines3 needs worlds that reset in the step that ends an episode; use rlstab.envs.make_vec"
            )
            raise UserError(message)
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._seed: int | None = None
        self._actions: NDArray[Any] | None = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._started = time.monotonic()

    def reset(self) -> VecEnvObs:
        """Begin new episodes in all worlds, with the seed and options set before."""
        options = self._options[0]
        if any(other != options for other in self._options):
            message = "all worlds of a batch take the same reset options"
            raise UserError(message)
        if options and options.keys() & set(CHOICES):
            message = "Stable-Baselines3 resets all worlds: leave the choice of worlds out of the options"
            raise UserError(message)
        observation, infos = self.env.reset(seed=self._seed, options=options or None)
        self._seed = None
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self.reset_infos = _by_world(infos, self.num_envs)
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions ``(num_envs, ...)`` for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all worlds: observation, reward ``(num_envs,)`` float32, done and one info a world."""
        observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        if not infos:
            return observation, reward.astype(np.float32), done, [{} for _ in range(self.num_envs)]

        final_obs, final_infos = infos.pop("final_obs", None), infos.pop("final_info", {})
        by_world = _by_world(infos, self.num_envs)
        ended = np.flatnonzero(done).tolist()
        if ended:
            last_infos = _by_world(final_infos, self.num_envs)
            for world in ended:
                # The other infos of this step belong to the next episode.
                self.reset_infos[world] = by_world[world]
                by_world[world] = {
                    **last_infos[world],
                    "terminal_observation": _row(final_obs, world),
                    "TimeLimit.truncated": bool(truncated[world] and not terminated[world]),
                    "episode": {
                        "r": float(self._returns[world]),
                        "l": int(self._lengths[world]),
                        "t": round(time.monotonic() - self._started, 6),
                    },
                }
            self._returns[done] = 0.0
            self._lengths[done] = 0
        return observation, reward.astype(np.float32), done, by_world

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed of the next `reset`; world ``i`` then uses ``(seed, i)``."""
        if seed is None:
            seed = int(np.random.default_rng().integers(2**31))
        self._seed = int(seed)
        return [self._seed] * self.num_envs

    def state_dict(self) -> dict[str, Any]:
        """Returns and lengths of the episodes under way; the state of the worlds is the environment's own."""
        return {"returns": self._returns.copy(), "lengths": self._lengths.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._returns[...] = state["returns"]
        self._lengths[...] = state["lengths"]

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each world's environment; a native batch has one for all."""
        chosen = list(self._get_indices(indices))
        if hasattr(self.env, "get_attr"):
            values = self.env.get_attr(attr_name)  # type: ignore[attr-defined]
            return [values[world] for world in chosen]
        return [getattr(self.env, attr_name)] * len(chosen)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the worlds' environments; of a native batch for all at once.

        Raises
        ------
        UserError
            Only some worlds of a native batch were asked for.
        """
        chosen = set(self._get_indices(indices))
        if hasattr(self.env, "set_attr"):
            values = [value] * self.num_envs
            if len(chosen) < self.num_envs:
                old = self.env.get_attr(attr_name)  # type: ignore[attr-defined]
                values = [value if world in chosen else old[world] for world in range(self.num_envs)]
            self.env.set_attr(attr_name, values)  # type: ignore[attr-defined]
            return
        self._all_or_none(attr_name, chosen)
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list:
        """Call a method of each world's environment; of a native batch once, for all.

        Raises
        ------
        UserError
            Only some worlds of a batch that can't be addressed singly were asked for.
        """
        chosen = list(self._get_indices(indices))
        environments = getattr(self.env.unwrapped, "envs", None)
        if environments is not None:
            return [
                environments[world].get_wrapper_attr(method_name)(*method_args, **method_kwargs) for world in chosen
            ]
        self._all_or_none(method_name, set(chosen))
        if hasattr(self.env, "call"):
            return list(self.env.call(method_name, *method_args, **method_kwargs))  # type: ignore[attr-defined]
        return [getattr(self.env, method_name)(*method_args, **method_kwargs)] * len(chosen)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether the worlds do what ``wrapper_class`` does: true for ``Monitor``, since they report episodes."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One picture ``(height, width, 3)`` a world."""
        return list(self.env.render() or [None] * self.num_envs)

    def _all_or_none(self, name: str, chosen: set[int]) -> None:
        if len(chosen) < self.num_envs:
            message = f"'{name}' belongs to the whole batch and can't be used for worlds {sorted(chosen)} alone"
            raise UserError(message)


def _row(batch: Any, world: int) -> Any:
    """One world's part of a batched observation, which may be a tree of arrays."""
    if isinstance(batch, dict):
        return {name: _row(value, world) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_row(value, world) for value in batch)
    return np.array(batch[world])


def _by_world(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Turn gymnasium's infos (arrays with masks) into one dictionary a world."""
    listed: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, mask in infos.items():
        values = infos.get(name[1:])
        if not name.startswith("_") or values is None:
            continue
        rows = _by_world(values, num_envs) if isinstance(values, dict) else values
        for world in np.flatnonzero(mask).tolist():
            listed[world][name[1:]] = rows[world]
    return listed
