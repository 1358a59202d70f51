"""Play whole episodes so that episode ``i`` is a function of the seed and ``i`` alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlstab.errors import NonFiniteState, UserError
from rlstab.runs.seeding import derive_seed

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv

    from rlstab.policies.base import Policy

BLOCK = 16
"""Rows of every batch that a policy is asked about. Matrix products round differently for different batch sizes, and a
legged robot amplifies the last bit until the returns differ; asking in blocks of one size, episode ``i`` always at row
``i % BLOCK``, makes an action independent of how many other worlds there are."""

STEP_LIMIT = 100_000
"""Steps after which an episode of an environment without a time limit is given up."""

PATIENCE = 10_000
"""Steps after which all are given up if no time limit is known and none of them has ended yet."""

SUCCESS_KEYS = ("is_success", "success")


class UncountedFailure(NonFiniteState):
    """NaN or infinity, but only in worlds whose episode had ended before: in none that counts."""


@dataclass
class Episodes:
    """What happened in a number of episodes; every array is ``(episodes,)``."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    success: NDArray[np.float64]
    """1 or 0 at the last step; NaN where the environment does not tell."""


class BlockPolicy:
    """Asks a policy in blocks of fixed size and keeps the recurrent state of each block.

    Parameters
    ----------
    policy
        Anything with Stable-Baselines3's ``predict``.
    first
        Index of the episode in row 0 of the observations.
    count
        Number of episodes, that is rows of the observations.
    seed
        Of the action noise, which then depends on seed, episode and step, but not on ``first`` and ``count``.
    deterministic
        The mode of the action distribution instead of a sample.
    """

    def __init__(self, policy: Policy, first: int, count: int, *, seed: int, deterministic: bool) -> None:
        self._policy = policy
        self._seed = seed
        self._deterministic = deterministic
        self._blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
        self._states: list[Any] = [None] * len(self._blocks)
        self._step = 0
        # Rows of the observations in each place of the blocks; free places repeat a neighbour, so that the policy sees
        # nothing it could stumble over.
        places = np.arange(len(self._blocks) * BLOCK) - first % BLOCK
        self._rows = np.clip(places, 0, count - 1)
        self._used = (places >= 0) & (places < count)

    def act(self, observations: Any, episode_start: NDArray[np.bool_]) -> NDArray[Any]:
        """Actions ``(count, ...)`` for observations ``(count, ...)``, which may be a dictionary of arrays."""
        actions: list[NDArray[Any]] = []
        for number, block in enumerate(self._blocks):
            rows = self._rows[number * BLOCK : (number + 1) * BLOCK]
            if not self._deterministic:
                _seed_global_generators(derive_seed(self._seed, "action", block, self._step))
            chosen, self._states[number] = self._policy.predict(
                _take(observations, rows),
                state=self._states[number],
                episode_start=episode_start[rows],
                deterministic=self._deterministic,
            )
            actions.append(np.asarray(chosen))
        self._step += 1
        return np.concatenate(actions)[self._used]


def play(
    policy: Policy,
    env: VectorEnv,
    *,
    first: int,
    seed: int,
    deterministic: bool,
    step_limit: int,
    patience: int | None = None,
    on_step: Callable[[NDArray[np.bool_]], None] | None = None,
) -> Episodes:
    """Play one episode in every world of ``env``.

    A world that has ended goes on with further episodes, which do not count, until the last one has ended.

    Parameters
    ----------
    policy
        What acts.
    env
        Same-step autoreset; its world 0 is episode ``first``.
    first
        Index of the first episode.
    seed
        The environment is reset with it; the action noise derives from it.
    deterministic
        See `BlockPolicy`.
    step_limit
        Steps after which an episode without end is given up.
    patience
        Steps after which all episodes are given up if none of them has ended; default: never.
    on_step
        Called after the reset and after every step with which worlds ``(num_envs,)`` still run.

    Raises
    ------
    UserError
        The policy's spaces do not fit, its action or a reward is not finite, or an episode does not end.
    UncountedFailure
        The environment produced NaN or infinity in further episodes only. It has stopped all worlds; played alone, the
        ones still running would have been spared (a world that is alone has no further episodes).
    NonFiniteState
        It did so in an episode that counts.
    """
    check_spaces(policy, env)
    count = env.num_envs
    done = Episodes(np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.bool_), np.full(count, np.nan))
    actor = BlockPolicy(policy, first, count, seed=seed, deterministic=deterministic)
    running, episode_start = np.ones(count, np.bool_), np.ones(count, np.bool_)
    with own_random_state():
        observations, _ = env.reset(seed=seed)
        if on_step:
            on_step(running)
        for step in range(1, step_limit + 1):
            actions = actor.act(observations, episode_start)
            _require_finite(actions, running, first, step, "the policy chose an action that is")
            try:
                observations, rewards, terminations, truncations, infos = env.step(actions)
            except NonFiniteState as error:
                counted = [world for world in error.worlds if running[world]]
                if counted:
                    error.worlds = counted
                    raise
                raise UncountedFailure(str(error), error.step, error.worlds, error.arrays) from error
            rewards = np.asarray(rewards, np.float64)
            _require_finite(rewards, running, first, step, "the environment gave a reward that is")
            done.returns[running] += rewards[running]
            done.lengths[running] += 1
            episode_start = np.logical_or(terminations, truncations)
            ended = episode_start & running
            if ended.any():
                done.terminated[ended] = terminations[ended]
                done.success[ended] = _success(infos, count)[ended]
                running = running & ~ended
            if on_step:
                on_step(running)
            if not running.any():
                return done
            if step == patience and running.all():
                raise UserError(
                    f"no episode ended within {patience} steps, and neither the environment nor you set a time limit: "
                    "set one with --max-episode-steps (max_episode_steps=)"
                )
    episode = first + int(np.flatnonzero(running)[0])
    raise UserError(
        f"episode {episode} did not end within {step_limit} steps: set a limit with --max-episode-steps "
        "(max_episode_steps=)"
    )


def time_limit(env: VectorEnv, env_id: str | Callable[[], Any], asked: int | None = None) -> int | None:
    """Steps after which an episode is cut, as far as known: the limit asked for (-1 for none), or the environment's.

    Parameters
    ----------
    env
        What `rlstab.envs.registry.make_vec` made.
    env_id
        From which it was made.
    asked
        The ``max_episode_steps`` it was made with.
    """
    if asked is not None:
        return None if asked == -1 else asked
    if env.spec is not None:
        return env.spec.max_episode_steps
    native: int | None = getattr(env, "max_episode_steps", None)
    if native is not None or not isinstance(env_id, str):
        return native
    import gymnasium

    from rlstab.envs.gym_make import resolve_id

    try:
        return gymnasium.spec(resolve_id(env_id)).max_episode_steps
    except gymnasium.error.Error:
        return None


def give_up_after(limit: int | None) -> int:
    """Steps after which an episode counts as endless: its time limit if it has one, but `STEP_LIMIT` at least."""
    return max(STEP_LIMIT, limit or 0)


def check_spaces(policy: Policy, env: VectorEnv) -> None:
    """Refuse a policy whose spaces are not those of the environment.

    Raises
    ------
    UserError
        Says what the policy expects and what the environment has.
    """
    pairs = (
        ("observations", getattr(policy, "observation_space", None), env.single_observation_space),
        ("actions", getattr(policy, "action_space", None), env.single_action_space),
    )
    for name, expected, found in pairs:
        if expected is not None and _outline(expected) != _outline(found):
            message = (
                f"the policy is made for {name} {expected}, the environment has {found}: use the one it was trained on"
            )
            raise UserError(message)


@contextlib.contextmanager
def own_random_state() -> Iterator[None]:
    """Put the process-wide random generators back afterwards: training goes on as if nothing had been played."""
    if "torch" in sys.modules:
        import torch

        from rlstab.learning.global_random import GlobalRandom

        with GlobalRandom("cuda" if torch.cuda.is_initialized() else "cpu").in_place():
            yield
        return
    before = np.random.get_state()  # noqa: NPY002  # policies that draw from it are seeded through it
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _seed_global_generators(seed: int) -> None:
    np.random.seed(seed)  # noqa: NPY002  # Stable-Baselines3 samples from the global generators
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)


def _outline(space: gymnasium.Space) -> Any:
    """What must agree: names and sizes. The order of axes may differ, since image policies transpose by themselves."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Dict):
        return {name: _outline(part) for name, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box):
        return sorted(space.shape)
    return str(space)


def _take(observations: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(observations, dict):
        return {name: _take(part, rows) for name, part in observations.items()}
    return np.asarray(observations)[rows]


def _require_finite(values: NDArray[Any], running: NDArray[np.bool_], first: int, step: int, what: str) -> None:
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values[running]).all():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1) & running
        row = int(np.flatnonzero(bad)[0])
        raise UserError(
            f"{what} not finite ({values[row]}) in episode {first + row} at step {step}: nothing was counted"
        )


def _success(infos: dict[str, Any], count: int) -> NDArray[np.float64]:
    """Success at this step, NaN where it is not told. Final values are in ``final_info`` in gymnasium's convention."""
    values = np.full(count, np.nan)
    final = infos.get("final_info", {})
    if isinstance(final, Sequence | np.ndarray):  # Older vector environments: an array of dictionaries.
        for row, info in enumerate(final):
            told = [info[key] for key in SUCCESS_KEYS if key in info] if isinstance(info, dict) else []
            values[row] = float(told[0]) if told else np.nan
        return values
    for source in (infos, final):
        for key in reversed(SUCCESS_KEYS):
            if key in source:
                told = np.asarray(source.get(f"_{key}", np.ones(count)), np.bool_)
                values[told] = np.asarray(source[key], np.float64)[told]
    return values
