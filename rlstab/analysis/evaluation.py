"""How good a policy is: returns of whole episodes, from stated seeds, the same however many worlds play them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis import episodes as playing
from rlstab.analysis import stats
from rlstab.analysis.bootstrap import format_interval
from rlstab.analysis.episodes import Episodes, UncountedFailure, give_up_after, play, time_limit
from rlstab.analysis.result import Result, Scalar
from rlstab.errors import NonFiniteState, UserError
from rlstab.runs.failure import FAILURE_FOLDER, add_clause, failure_name, save_failure
from rlstab.runs.provenance import package_versions
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.envs.disturbance import Disturbance
    from rlstab.policies.base import Policy

DEFAULT_SEED = EVALUATION_SEED
_NATIVE_WORLDS = 64
_OTHER_WORLDS = 16


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """Returns of one policy in one environment; entry ``i`` of every array is episode ``i``."""

    kind: ClassVar[str] = "evaluation"

    env_id: str
    policy: str
    """Class of the policy."""
    deterministic: bool
    """Whether the mode of the action distribution was taken instead of a sample."""
    seed: int
    """Episode ``i`` is that of ``make_vec(env_id, num_envs=1, seed=seed, world_offset=i)`` with what follows."""
    disturbances: tuple[str, ...]
    """What acted on the robot, in words; empty: nothing."""
    max_episode_steps: int | None
    """Time limit that was set, control steps; ``None``: the environment's own."""
    env_kwargs: dict[str, Any]
    """Constructor arguments of the environment."""
    wall_seconds: float
    versions: dict[str, str]
    """Packages that the numbers may depend on."""
    returns: NDArray[np.float64] = field(metadata={"unit": "return"})
    """``(episodes,)``: undiscounted sum of rewards."""
    lengths: NDArray[np.int64] = field(metadata={"unit": "control steps"})
    """``(episodes,)``."""
    terminated: NDArray[np.bool_] = field(metadata={"unit": "bool"})
    """``(episodes,)``: the task ended the episode (a fall); false: the time limit did."""
    success: NDArray[np.bool_] | None = field(metadata={"unit": "bool"})
    """``(episodes,)``: success at the last step, ``None`` where the environment does not tell."""
    checkpoint_step: int | None = None
    """Environment steps the policy was trained for, which a run may have gone beyond; ``None``: not known."""
    checkpoint_rule: str = ""
    """Why this checkpoint of its run and no other, in words; empty: not known."""

    @property
    def checkpoint(self) -> str:
        """The checkpoint in words: its step and why it was chosen; empty where not known."""
        if self.checkpoint_step is None:
            return ""
        return ", ".join(part for part in (f"step {self.checkpoint_step:,}", self.checkpoint_rule) if part)

    @property
    def seeds(self) -> list[tuple[int, int]]:
        """Seed and world of each episode."""
        return [(self.seed, world) for world in range(len(self.returns))]

    def aggregate(self, level: float = 0.95) -> stats.Aggregate:
        """IQM, mean and median return over episodes.

        The interval is about this one policy started elsewhere. How well the *method* does is a matter of several
        training runs: `aggregate_runs`.
        """
        return stats.aggregate(self.returns, over="episodes", level=level)

    def success_rate(self, level: float = 0.95) -> tuple[float, float, float] | None:
        """Fraction of successes with Wilson's interval (which is not empty at 0 and 1), or ``None`` if not told."""
        if self.success is None:
            return None
        from scipy.stats import binomtest

        test = binomtest(int(self.success.sum()), len(self.success))
        low, high = test.proportion_ci(level, method="wilson")
        return float(self.success.mean()), float(low), float(high)

    def summary(self) -> dict[str, Scalar]:
        """Returns with 95 % intervals over episodes, lengths, success."""
        aggregate = self.aggregate()
        rows: dict[str, Scalar] = {"environment": self.env_id}
        if self.checkpoint:
            rows["checkpoint"] = self.checkpoint
        rows["episodes"] = len(self.returns)
        for statistic in ("mean", "iqm"):
            value, low, high = aggregate.get(statistic)
            rows[f"{stats.STATISTIC_NAMES[statistic]} return"] = f"{value:.5g} {format_interval(low, high)}".strip()
        if len(self.returns) > 1:
            rows["standard deviation"] = float(self.returns.std(ddof=1))
        rows["lowest, highest"] = f"{self.returns.min():.5g}, {self.returns.max():.5g}"
        rows["mean length"] = float(self.lengths.mean())
        rate = self.success_rate()
        if rate is not None:
            rows["success rate"] = f"{rate[0]:.3g} {format_interval(*rate[1:])}"
        rows["actions"] = "deterministic" if self.deterministic else "sampled"
        if self.disturbances:
            rows["disturbances"] = "; ".join(self.disturbances)
        return {**rows, "seed": self.seed}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every episode's return."""
        from rlstab.analysis import plots

        return plots.return_distribution({"": self.returns}, ax)


def evaluate(
    policy: Policy,
    env_id: str | Callable[[], Any],
    *,
    episodes: int = 20,
    seed: int = DEFAULT_SEED,
    deterministic: bool = True,
    num_envs: int | None = None,
    num_threads: int | None = None,
    disturbances: Sequence[Disturbance] = (),
    max_episode_steps: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int, int], None] | None = None,
    failure_folder: str | Path | None = FAILURE_FOLDER,
) -> Evaluation:
    """Play episodes and record their returns.

    Parameters
    ----------
    policy
        Anything with Stable-Baselines3's ``predict``: ours, an SB3 model, an ONNX policy, a controller. Recurrent
        state is kept and reset.
    env_id
        As for `rlstab.envs.registry.make_vec`.
    episodes
        How many.
    seed
        Episode ``i`` depends on ``(seed, i)`` only: not on ``episodes``, not on ``num_envs``; its sampled actions too,
        if the policy samples with numpy's or torch's global generators, as Stable-Baselines3's do.
    deterministic
        The mode of the action distribution instead of a sample.
    num_envs
        Worlds that play at the same time; default: as many as is sensible.
    num_threads
        Threads that step a native environment; default: one a processor.
    disturbances
        What acts on the robot.
    max_episode_steps
        Time limit in control steps; default: the environment's.
    env_kwargs
        Passed to the environment.
    on_progress
        Called with episodes done and in all, after every batch of worlds.
    on_step
        Called with episodes done, episodes in all, and the step of those that run, after every control step.
    failure_folder
        Where the state is saved if the environment produces NaN; ``None``: nowhere, the error carries it.

    Returns
    -------
    Evaluation
        Returns, lengths, how episodes ended, and success where ``info`` has ``is_success`` or ``success``.

    Raises
    ------
    UserError
        No episodes asked for, the policy does not fit the environment, an action or a reward is not finite, or an
        episode does not end: within `rlstab.analysis.episodes.STEP_LIMIT` steps, or, where no time limit is known and
        no other episode has ended either, within `rlstab.analysis.episodes.PATIENCE`.
    NonFiniteState
        The environment produced NaN or infinity; the message names the episode and where the state is saved.
    """
    if episodes < 1 or (num_envs is not None and num_envs < 1):
        raise UserError(f"evaluation needs at least one episode and one world; got {episodes} and {num_envs}")
    from rlstab.envs.gym_make import name_of, resolve_id
    from rlstab.envs.registry import make_vec, runs_natively

    if isinstance(env_id, str):
        env_id = resolve_id(env_id)
    began = time.perf_counter()
    usual = _NATIVE_WORLDS if runs_natively(env_id, env_kwargs) else _OTHER_WORLDS
    worlds = min(episodes, num_envs or usual)
    played: list[Episodes] = []

    def play_some(first: int, count: int, patient: bool = False) -> None:
        before, step = sum(len(part.returns) for part in played), -1

        def tell(running: NDArray[np.bool_]) -> None:
            nonlocal step
            step += 1
            if on_step is not None:
                on_step(before + count - int(running.sum()), episodes, step)

        env = make_vec(
            env_id,
            count,
            seed,
            disturbances=disturbances,
            num_threads=num_threads,
            max_episode_steps=max_episode_steps,
            world_offset=first,
            env_kwargs=env_kwargs,
        )
        try:
            limit = time_limit(env, env_id, max_episode_steps)
            # One that has ended shows that the others may, however long they take.
            patience = None if patient or played or limit is not None else playing.PATIENCE
            settings: dict[str, Any] = {"step_limit": give_up_after(limit), "patience": patience}
            settings["on_step"] = None if on_step is None else tell
            played.append(play(policy, env, first=first, seed=seed, deterministic=deterministic, **settings))
        except UncountedFailure:
            raise
        except NonFiniteState as error:
            episode = first + error.worlds[0]
            clause = f"this was episode {episode}"
            if failure_folder is not None:
                path = Path(failure_folder) / failure_name("evaluate", name_of(env_id), f"seed{seed}-episode{episode}")
                clause += f", {save_failure(path, error)}"
            add_clause(error, clause)
            raise
        finally:
            env.close()

    for first in range(0, episodes, worlds):
        count = min(worlds, episodes - first)
        try:
            play_some(first, count)
        except UncountedFailure:
            # Episodes do not depend on who plays beside them, so these are the same ones.
            for episode in range(first, first + count):
                play_some(episode, 1, patient=True)
        if on_progress:
            on_progress(first + count, episodes)
    success = np.concatenate([part.success for part in played])
    return Evaluation(
        env_id=name_of(env_id),
        policy=type(policy).__name__,
        deterministic=deterministic,
        seed=seed,
        disturbances=tuple(map(str, disturbances)),
        max_episode_steps=max_episode_steps,
        env_kwargs=dict(env_kwargs or {}),
        wall_seconds=time.perf_counter() - began,
        versions=package_versions(),
        returns=np.concatenate([part.returns for part in played]),
        lengths=np.concatenate([part.lengths for part in played]),
        terminated=np.concatenate([part.terminated for part in played]),
        success=None if np.isnan(success).any() else success > 0.5,
    )


def aggregate_runs(
    evaluations: Sequence[Evaluation],
    *,
    scale: Mapping[str, tuple[float, float]] | None = None,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> stats.Aggregate:
    """Aggregate evaluations of several training runs: each run's score is its mean return.

    Parameters
    ----------
    evaluations
        One a run; with several environments, equally many of each.
    scale
        Environment to the returns that count as 0 and as 1. Needed with several environments, whose returns are not
        comparable otherwise.
    level, resamples, seed
        As in `rlstab.analysis.stats.aggregate`.

    Raises
    ------
    UserError
        Several environments without a scale, or different numbers of runs.
    """
    scores: dict[str, list[float]] = {}
    for evaluation in evaluations:
        scores.setdefault(evaluation.env_id, []).append(float(evaluation.returns.mean()))
    if not scores:
        raise UserError("there are no evaluations to aggregate")
    missing = sorted(set(scores) - set(scale or {}))
    if missing and (scale is not None or len(scores) > 1):
        raise UserError(
            f"returns of different environments have no common scale: give the returns for 0 and 1 of {missing}"
        )
    if scale is not None:
        scores = {
            name: [(x - scale[name][0]) / (scale[name][1] - scale[name][0]) for x in xs] for name, xs in scores.items()
        }
    return stats.aggregate(scores, over="runs", level=level, resamples=resamples, seed=seed)
