"""An adversary that learns by trial how to change observations: it needs no gradient of the policy, and no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlstab.analysis.episodes import check_spaces
from rlstab.analysis.robustness.observation_attacks import (
    FloatArray,
    ObservationAttack,
    Perturbation,
    scales_of,
)
from rlstab.errors import UserError
from rlstab.learning.on_policy import OnPolicyLearner
from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.policies.base import Policy


@dataclass(frozen=True, kw_only=True)
class LearnedAdversary(ObservationAttack):
    """SA-RL: a second policy sees the true observation and decides the change (Zhang et al. 2021, arXiv:2101.08452).

    Raises
    ------
    UserError
        The adversary was made for other observations.
    """

    name: ClassVar[str] = "learned adversary"
    adversary: Policy = field(repr=False)
    """Without memory; its deterministic actions in ``[-1, 1]^obs_dim`` are the change in units of ``epsilon``."""

    def against(self, policy: Policy, scales: FloatArray) -> Perturbation:
        """See `ObservationAttack.against`."""
        space, wanted = policy.observation_space, self.adversary.observation_space
        if space.shape != wanted.shape or self.adversary.action_space.shape != scales.shape:
            raise UserError(f"the adversary was made for observations {wanted}, the policy reads {space}")

        def perturb(observations: FloatArray, numbers: FloatArray) -> FloatArray:
            del numbers
            seen = observations.reshape(len(observations), *(space.shape or ()))
            decided, _ = self.adversary.predict(seen, deterministic=True)
            return self.epsilon * np.asarray(decided, np.float64)

        return perturb


class ObservationAdversaryEnv(VectorWrapper):
    """The world as an adversary sees it: its action changes what a frozen policy observes, which then acts.

    The adversary observes the truth and earns the negative of the policy's reward. Its actions are
    ``Box(-1, 1, (obs_dim,))``.

    Parameters
    ----------
    env
        The policy's environment.
    policy
        Plays the mode of its action distribution.
    epsilon, scales
        As in `ObservationAttack`.

    Raises
    ------
    UserError
        The policy does not fit the environment, or observations are not vectors of real numbers.
    """

    resumes_exactly = False

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        policy: Policy,
        epsilon: float,
        scales: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(env)
        check_spaces(policy, env)
        self._policy = policy
        self._ball = epsilon * scales_of(policy, scales)
        self.single_action_space = spaces.Box(-1.0, 1.0, self._ball.shape, np.float32)
        self.action_space = batch_space(self.single_action_space, env.num_envs)
        self._seen: NDArray[Any] | None = None
        self._memory: Any = None
        self._begins = np.ones(env.num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes."""
        observation, infos = self.env.reset(seed=seed, options=options)
        self._seen, self._memory = np.array(observation), None
        self._begins[:] = True
        return observation, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Change what the policy observes by ``actions``, ``(num_envs, obs_dim)``, and let it act."""
        if self._seen is None:
            raise UserError("reset the environment before its first step")
        change = (np.clip(actions, -1.0, 1.0) * self._ball).reshape(self._seen.shape)
        action, self._memory = self._policy.predict(
            (self._seen + change).astype(self._seen.dtype), self._memory, self._begins, deterministic=True
        )
        observation, reward, terminated, truncated, infos = self.env.step(np.asarray(action))
        self._seen, self._begins = np.array(observation), terminated | truncated
        return observation, -np.asarray(reward, np.float64), terminated, truncated, infos


def train_observation_adversary(
    policy: Policy,
    env_id: str | Callable[[], Any],
    *,
    epsilon: float,
    scales: tuple[float, ...] | None = None,
    steps: int = 500_000,
    num_envs: int = 8,
    config: OnPolicyConfig | None = None,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    on_iteration: Callable[[int, dict[str, float]], None] | None = None,
) -> LearnedAdversary:
    """Train an adversary from scratch, by PPO, against a frozen policy.

    One adversary says little: train several with other settings and seeds, and count the strongest.

    Parameters
    ----------
    policy
        Who is attacked; anything with ``predict``.
    env_id
        As for `rlstab.envs.registry.make_vec`.
    epsilon, scales
        As in `ObservationAttack`.
    steps
        Environment steps, rounded up to whole rollouts.
    num_envs
        Worlds stepped together.
    config
        Of the adversary's learning; default: PPO's, with a rate that falls to zero.
    seed
        Of the adversary and its episodes.
    env_kwargs
        Of the environment.
    on_iteration
        Called with the steps so far and the scalars of `OnPolicyLearner.iterate`, in which returns are the adversary's.

    Raises
    ------
    UserError
        As `ObservationAdversaryEnv` and `OnPolicyLearner`.
    """
    from rlstab.envs.registry import make_vec

    settings = config or OnPolicyConfig(learning_rate_schedule="linear")
    env = make_vec(env_id, num_envs, seed, env_kwargs=env_kwargs)
    try:
        world = ObservationAdversaryEnv(env, policy, epsilon, scales)
        learner = OnPolicyLearner(world, settings, total_steps=steps, seed=seed)
        while learner.num_timesteps < steps:
            metrics = learner.iterate()
            if on_iteration is not None:
                on_iteration(learner.num_timesteps, metrics)
    finally:
        env.close()
    return LearnedAdversary(epsilon=epsilon, scales=scales, adversary=learner.policy)
