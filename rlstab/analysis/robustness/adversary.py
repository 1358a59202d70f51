"""An adversary that is trained from scratch against a frozen policy: forces that see what the robot does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlstab.analysis.episodes import Episodes, check_spaces, give_up_after, play
from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.robustness.forced import Plant
from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.registry import make_task
from rlstab.errors import UserError
from rlstab.learning.on_policy_config import OnPolicyConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.policies.base import Policy, TorchPolicy

_WORLDS = 16


class AdversaryEnv(VectorEnv):
    """What an adversary plays in: it pushes the robot that a policy moves, and earns what the policy loses.

    Its actions, in [-1, 1] along each axis, are shares of the longest force, to which longer ones are shortened. It
    observes what the policy observes.

    Parameters
    ----------
    policy
        The victim, by the mode of its actions.
    plant
        What is pushed.
    max_force
        Longest force, newtons.
    num_envs, seed, max_episode_steps
        As in `BatchEnv`.
    world_offset
        Index of the first world.

    Raises
    ------
    UserError
        The policy does not fit.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        policy: Policy,
        plant: Plant,
        max_force: float,
        num_envs: int = _WORLDS,
        seed: int = 0,
        *,
        max_episode_steps: int | None = None,
        world_offset: int = 0,
    ) -> None:
        self._victim, self._max_force = policy, max_force
        self.env = BatchEnv(
            make_task(plant.env_id, **plant.env_kwargs),
            num_envs,
            seed,
            disturbances=(plant.point.force(max_force),),
            num_threads=plant.num_threads,
            max_episode_steps=max_episode_steps,
            world_offset=world_offset,
        )
        check_spaces(policy, self.env)
        self._port: Any = self.env.disturbances[0]
        self.num_envs = num_envs
        self.max_episode_steps = self.env.max_episode_steps
        self.single_observation_space = self.env.single_observation_space
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (plant.point.channels,), np.float32)
        self.observation_space = self.env.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.spec = None
        self._observation: Any = None
        self._state: Any = None
        self._begins = np.ones(num_envs, bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """See `BatchEnv.reset`; the victim's memory is cleared too."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        self._state, self._begins = None, np.ones(self.num_envs, bool)
        return self._observation, info

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[FloatArray, FloatArray, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """See `BatchEnv.step`; the reward is minus the victim's."""
        chosen, self._state = self._victim.predict(
            self._observation, state=self._state, episode_start=self._begins, deterministic=True
        )
        self._port.push(np.asarray(actions, np.float64) * self._max_force)
        self._observation, reward, terminated, truncated, infos = self.env.step(chosen)
        self._begins = terminated | truncated
        return self._observation, -reward, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """See `BatchEnv.close_extras`."""
        del kwargs
        if "env" in self.__dict__:
            self.env.close()


@dataclass(frozen=True, eq=False, repr=False)
class AdversaryReport(Result):
    """Returns of a policy against the strongest of several adversaries, each trained from scratch against it."""

    kind: ClassVar[str] = "adversary"

    env_id: str
    policy: str
    body: str
    max_force_n: float
    max_force: float
    """In weights of the robot."""
    steps: int
    """Control steps that each adversary was trained for."""
    learning_rates: tuple[float, ...]
    """One an adversary."""
    seeds: tuple[int, ...]
    """One an adversary."""
    mean_returns: tuple[float, ...]
    """Of the policy against each adversary."""
    calm: NDArray[np.float64] = field(metadata={"unit": "return"})
    """``(episodes,)``: without any force."""
    returns: NDArray[np.float64] = field(metadata={"unit": "return"})
    """``(episodes,)``: against the strongest."""
    fell: NDArray[np.bool_] = field(metadata={"unit": "bool"})
    """``(episodes,)``: against the strongest."""

    def summary(self) -> dict[str, Scalar]:
        """Mean returns with and without the strongest adversary."""
        return {
            "environment": self.env_id,
            "force": f"up to {self.max_force:.3g} weights ({self.max_force_n:.4g} N) on {self.body}",
            "return undisturbed": float(self.calm.mean()),
            "return against the strongest adversary": float(self.returns.mean()),
            "falls": f"{self.fell.mean():.0%}",
            "adversaries": f"{len(self.seeds)}, {self.steps:,} steps each",
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the returns with and without."""
        from rlstab.analysis import plots

        return plots.return_distribution({"undisturbed": self.calm, "strongest adversary": self.returns}, ax)


def train_adversaries(
    policy: Policy,
    plant: Plant,
    *,
    max_force: float,
    steps: int = 100_000,
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3),
    seeds: Sequence[int] = (0, 1),
    episodes: int = 20,
    max_episode_steps: int | None = None,
    config: OnPolicyConfig | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> AdversaryReport:
    """Train adversaries by PPO, one for each rate and seed, and keep the one against which the policy earns least.

    Parameters
    ----------
    policy
        The victim.
    plant
        What is pushed.
    max_force
        Longest force, in weights of the robot, positive.
    steps
        Control steps of each training: a tenth to a fifth of the policy's own.
    learning_rates, seeds
        Of the adversaries.
    episodes
        In which all are judged, the same for each.
    max_episode_steps
        Time limit; None: the environment's own.
    config
        Settings of PPO other than the rate.
    on_progress
        Called with control steps done and in all.

    Raises
    ------
    UserError
        A number is out of range, or the policy does not fit.
    """
    if not (max_force > 0.0 and np.isfinite(max_force)):
        raise UserError(f"an adversary's longest force must be positive, got {max_force}: zero disturbs nobody")
    if steps < 1 or episodes < 1 or not learning_rates or not seeds:
        raise UserError("adversaries need a step, an episode, a learning rate and a seed")
    newtons = max_force * plant.point.weight
    calm = _judge(_Nobody(policy, plant.point.channels), policy, plant, newtons, episodes, max_episode_steps)
    tried: list[tuple[float, int, Episodes]] = []
    total = steps * len(learning_rates) * len(seeds)
    for rate in learning_rates:
        for seed in seeds:
            before = len(tried) * steps

            def tell(done: int, before: int = before) -> None:
                if on_progress:
                    on_progress(min(before + done, total), total)

            adversary = _train(policy, plant, newtons, steps, rate, seed, max_episode_steps, config, tell)
            tried.append((rate, seed, _judge(adversary, policy, plant, newtons, episodes, max_episode_steps)))
    strongest = min(tried, key=lambda entry: -float(entry[2].returns.mean()))[2]
    return AdversaryReport(
        env_id=plant.env_id,
        policy=type(policy).__name__,
        body=plant.point.body,
        max_force_n=newtons,
        max_force=max_force,
        steps=steps,
        learning_rates=tuple(rate for rate, _, _ in tried),
        seeds=tuple(seed for _, seed, _ in tried),
        mean_returns=tuple(-float(played.returns.mean()) for _, _, played in tried),
        calm=-calm.returns,
        returns=-strongest.returns,
        fell=strongest.terminated,
    )


def _train(
    policy: Policy,
    plant: Plant,
    newtons: float,
    steps: int,
    rate: float,
    seed: int,
    max_episode_steps: int | None,
    config: OnPolicyConfig | None,
    on_progress: Callable[[int], None],
) -> TorchPolicy:
    from rlstab.learning.on_policy import OnPolicyLearner

    env = AdversaryEnv(policy, plant, newtons, seed=seed, max_episode_steps=max_episode_steps)
    settings = config or OnPolicyConfig(n_steps=256, batch_size=256, learning_rate_schedule="linear")
    settings = dataclasses.replace(settings, learning_rate=rate)
    try:
        learner = OnPolicyLearner(env, settings, total_steps=steps, seed=seed)
        while learner.num_timesteps < steps:
            learner.iterate()
            on_progress(learner.num_timesteps)
        return learner.policy
    finally:
        env.close()


def _judge(
    adversary: Policy, policy: Policy, plant: Plant, newtons: float, episodes: int, max_episode_steps: int | None
) -> Episodes:
    env = AdversaryEnv(policy, plant, newtons, episodes, plant.seed, max_episode_steps=max_episode_steps)
    try:
        limit = give_up_after(env.max_episode_steps)
        return play(adversary, env, first=0, seed=plant.seed, deterministic=True, step_limit=limit)
    finally:
        env.close()


class _Nobody:
    """An adversary that does nothing."""

    def __init__(self, policy: Policy, channels: int) -> None:
        self.observation_space = policy.observation_space
        self.action_space: gymnasium.Space = gymnasium.spaces.Box(-1.0, 1.0, (channels,), np.float32)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Push with nothing."""
        del episode_start, deterministic
        assert self.action_space.shape is not None
        return np.zeros((len(observation), *self.action_space.shape), np.float32), state
