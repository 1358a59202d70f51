"""How well a policy of the quadruped follows its commands, in the task's own reward whatever it was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlstab.analysis.bootstrap import bootstrap
from rlstab.analysis.episodes import play
from rlstab.analysis.result import Result, Scalar
from rlstab.envs.physics.interface import BoolArray, FloatArray, IntArray
from rlstab.policies.base import Policy

if TYPE_CHECKING:
    import gymnasium
    from matplotlib.axes import Axes

TASK = "rlstab/Go1Velocity-v0"
TERMS = ("tracking_linear", "tracking_angular")
_OF_REWARD = ("_weight", "least_reward")


@dataclass(frozen=True, eq=False, repr=False)
class TrackingReport(Result):
    """Shares of the most that the tracking terms can give in whole episodes: after a fall they give nothing more."""

    kind: ClassVar[str] = "quadruped_tracking"

    trained_steps: int
    """Environment steps of the policy's training."""
    seed: int
    """Of the episodes."""
    limit: int
    """Control steps of a whole episode."""
    dt: float
    """Control period, s."""
    weights: tuple[float, float]
    """Of the linear and the angular term in the task's own reward."""
    linear: FloatArray = field(metadata={"unit": "1"})
    """Mean of ``exp(-|error|^2 / sigma)`` of the horizontal velocity over an episode's limit, ``(episodes,)``."""
    angular: FloatArray = field(metadata={"unit": "1"})
    """The same of the turning rate."""
    lengths: IntArray = field(metadata={"unit": "control steps"})
    fell: BoolArray = field(metadata={"unit": "bool"})

    @property
    def shares(self) -> FloatArray:
        """Share of what both terms can give together, ``(episodes,)``."""
        first, second = self.weights
        return (first * self.linear + second * self.angular) / (first + second)

    @property
    def share(self) -> float:
        """Mean of `shares`."""
        return float(self.shares.mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Bounds of `share` over episodes: started elsewhere and told otherwise, this policy would do so well."""
        _, low, high = bootstrap((self.shares[:, None],), lambda x: np.asarray(x.mean(axis=0)), level=level)
        return float(low[0]), float(high[0])

    def summary(self) -> dict[str, Scalar]:
        """Shares and falls."""
        return {
            "environment steps of the training": self.trained_steps,
            "share of the tracking reward": self.share,
            "share of its linear part": float(self.linear.mean()),
            "share of its angular part": float(self.angular.mean()),
            "episodes": len(self.fell),
            "episodes with a fall": int(self.fell.sum()),
            "seed": self.seed,
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every episode's share."""
        from rlstab.analysis import plots

        return plots.return_distribution({"": self.shares}, ax, quantity="Share of the tracking reward")


class _Standing:
    """Asks every joint for its reference angle."""

    def __init__(self, env: Any) -> None:
        self.observation_space: gymnasium.Space = env.single_observation_space
        self.action_space: gymnasium.Space = env.single_action_space

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Zeros ``(n, 12)``."""
        return np.zeros((len(observation), 12), np.float32), state


def measure_tracking(
    policy: Policy | None,
    trained_steps: int,
    *,
    episodes: int,
    seed: int,
    num_threads: int | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> TrackingReport:
    """Play episodes without exploration noise.

    Parameters
    ----------
    policy
        What acts; None: nobody. A robot that ignores its commands and stands in its reference pose.
    trained_steps
        Environment steps of its training.
    episodes
        How many. Episode ``i`` depends on ``(seed, i)`` alone.
    seed
        Of starts and commands.
    num_threads
        That step the worlds; default: one a processor.
    max_episode_steps
        Length of a whole episode, control steps; default: the task's, 20 s.
    env_kwargs
        Settings of the task that the policy was trained with, of which those of its reward are left out.
    """
    from rlstab.envs.registry import make_vec

    # A preset's weights change what is learned, not what is asked for.
    own = {name: value for name, value in (env_kwargs or {}).items() if not name.endswith(_OF_REWARD)}
    env: Any = make_vec(
        TASK, episodes, seed, num_threads=num_threads, max_episode_steps=max_episode_steps, env_kwargs=own
    )
    weights = (env.task.tracking_linear_weight, env.task.tracking_angular_weight)
    gained = {name: np.zeros(episodes) for name in TERMS}
    playing: BoolArray | None = None

    def add(still: BoolArray) -> None:
        nonlocal playing
        if playing is not None:
            for name, total in gained.items():
                total[playing] += env.reward_terms[name][playing]
        playing = still

    try:
        limit = env.max_episode_steps
        actor = policy or _Standing(env)
        played = play(actor, env, first=0, seed=seed, deterministic=True, step_limit=limit, on_step=add)
        most = [weight * env.dt * limit for weight in weights]
    finally:
        env.close()
    linear, angular = (gained[name] / best for name, best in zip(TERMS, most, strict=True))
    return TrackingReport(
        trained_steps, seed, limit, float(env.dt), weights, linear, angular, played.lengths, played.terminated
    )
