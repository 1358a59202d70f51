"""What a policy sees is changed within a ball: the attack, the policy under attack, and attacks by chance."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlstab.errors import UserError
from rlstab.policies.base import Policy, as_batch
from rlstab.policies.observation_input import ObservationInput, is_picture
from rlstab.runs.seeding import EpisodeGenerator

FloatArray = NDArray[np.float64]

Perturbation: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
"""Changes ``(N, obs_dim)`` in units of the ball's axes, from observations ``(N, obs_dim)``, raw, and random numbers
``(N, obs_dim)``, uniform in [-1, 1]. A row of the result depends on the same row of both alone."""


@dataclass(frozen=True, kw_only=True)
class ObservationAttack(ABC):
    """A rule by which the observation is changed before the policy sees it.

    Raises
    ------
    UserError
        The radius is negative or not finite.
    """

    name: ClassVar[str]

    epsilon: float
    """Radius of the ball ``max |change| <= epsilon``, in units of ``scales``."""

    scales: tuple[float, ...] | None = None
    """Size of one unit in each component of the observation, in its own units. None: the standard deviations by which
    the policy normalises its observations, or ones if it does not."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.epsilon) and self.epsilon >= 0.0):
            raise UserError(f"the radius of an attack must be finite and not negative, got {self.epsilon}")

    @abstractmethod
    def against(self, policy: Policy, scales: FloatArray) -> Perturbation:
        """Prepare the attack on a policy.

        Parameters
        ----------
        policy
            Whose observations are changed.
        scales
            ``(obs_dim,)``.

        Raises
        ------
        UserError
            The attack needs something that the policy does not have.
        """


@dataclass(frozen=True, kw_only=True)
class RandomUniform(ObservationAttack):
    """Any change in the ball, each as likely as the others."""

    name: ClassVar[str] = "random uniform"

    def against(self, policy: Policy, scales: FloatArray) -> Perturbation:
        """See `ObservationAttack.against`."""
        del policy, scales
        return lambda observations, numbers: self.epsilon * numbers


@dataclass(frozen=True, kw_only=True)
class RandomVertex(ObservationAttack):
    """A corner of the ball, each as likely as the others: the largest changes that chance can make."""

    name: ClassVar[str] = "random vertex"

    def against(self, policy: Policy, scales: FloatArray) -> Perturbation:
        """See `ObservationAttack.against`."""
        del policy, scales
        return lambda observations, numbers: self.epsilon * np.sign(numbers)


@dataclass(frozen=True)
class AttackState:
    """What an `AttackedPolicy` remembers: the policy's own state, and where in its episode each row is."""

    policy: Any
    episodes: NDArray[np.uint64]
    """``(N,)``: drawn from each episode's first observation."""
    steps: NDArray[np.int64]
    """``(N,)``: steps since."""


class AttackedPolicy:
    """A policy whose observations are changed before it sees them; it is played and measured like any other.

    The random numbers of an attack depend on ``seed``, the first observation of the episode and the step within it. So
    an episode of `rlstab.analysis.evaluation.evaluate` is the same however many worlds play, as it is without the
    attack, and two attacks with one seed begin from the same numbers. Two episodes that begin with exactly the same
    observation meet the same numbers. A call without ``state`` begins an episode.

    Parameters
    ----------
    policy
        Who is attacked: anything with Stable-Baselines3's ``predict``.
    attack
        By what.
    seed
        Of the attack's random numbers.

    Raises
    ------
    UserError
        Observations are not vectors of real numbers, scales do not fit or are not positive, or the attack needs what
        the policy lacks.

    Examples
    --------
    >>> from gymnasium.spaces import Box
    >>> from rlstab.policies.actor_critic import ActorCriticPolicy
    >>> policy = ActorCriticPolicy(Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)))
    >>> attacked = AttackedPolicy(policy, RandomVertex(epsilon=0.1))
    >>> action, state = attacked.predict([0.1, 0.2, 0.3], deterministic=True)
    >>> action.shape, int(state.steps[0])
    ((2,), 1)
    """

    def __init__(self, policy: Policy, attack: ObservationAttack, seed: int = 0) -> None:
        self.observation_space, self.action_space = policy.observation_space, policy.action_space
        self.policy, self.attack = policy, attack
        self.scales = scales_of(policy, attack.scales)
        self._perturb = attack.against(policy, self.scales)
        self._seed = seed
        self._numbers = EpisodeGenerator()

    def predict(
        self,
        observation: Any,
        state: AttackState | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], AttackState]:
        """See `rlstab.policies.base.Policy.predict`."""
        array, batched = as_batch(observation, self.observation_space)
        moved = self._place(array, state, episode_start)
        seen = observation
        if self.attack.epsilon > 0.0:
            changed = array + self.changes(array, moved).reshape(array.shape) * self.scales.reshape(array.shape[1:])
            seen = changed.astype(array.dtype) if array.dtype.kind == "f" else changed
            seen = seen if batched else seen[0]
        action, inner = self.policy.predict(
            seen, None if state is None else state.policy, episode_start, deterministic=deterministic
        )
        return action, AttackState(inner, moved.episodes, moved.steps + 1)

    def changes(self, observations: NDArray[Any], state: AttackState) -> FloatArray:
        """What the attack adds to observations ``(N, *space.shape)``, in units of `scales`, ``(N, obs_dim)``."""
        rows = np.asarray(observations, np.float64).reshape(len(observations), -1)
        numbers = np.empty(rows.shape)
        for row in range(len(rows)):
            place = int(state.episodes[row]), int(state.steps[row])
            numbers[row] = self._numbers.at(self._seed, "observation attack", *place).uniform(-1.0, 1.0, rows.shape[1])
        radius = self.attack.epsilon
        return np.clip(np.asarray(self._perturb(rows, numbers), np.float64), -radius, radius)

    def _place(self, array: NDArray[Any], state: AttackState | None, episode_start: Any) -> AttackState:
        """Where each row is in its episode."""
        count = len(array)
        if state is None:
            begins, before = np.ones(count, bool), AttackState(None, np.zeros(count, np.uint64), np.zeros(count, int))
        else:
            begins = np.zeros(count, bool) if episode_start is None else np.atleast_1d(episode_start).astype(bool)
            before = state
        if not len(before.steps) == len(begins) == count:
            raise ValueError(
                f"state and episode_start are of {len(before.steps)} and {len(begins)} environments, the observations "
                f"of {count}"
            )
        episodes, steps = before.episodes.copy(), np.where(begins, 0, before.steps)
        for row in np.flatnonzero(begins):
            first = np.ascontiguousarray(array[row], np.float64).tobytes()
            episodes[row] = np.frombuffer(hashlib.sha256(first).digest()[:8], "<u8")[0]
        return AttackState(before.policy, episodes, steps)


def scales_of(policy: Policy, given: tuple[float, ...] | None = None) -> FloatArray:
    """Size of one unit of the ball in each component of the observation, ``(obs_dim,)``; see `ObservationAttack`.

    Raises
    ------
    UserError
        Observations are not vectors of real numbers, or the scales given do not fit or are not positive.
    """
    space = policy.observation_space
    if not isinstance(space, spaces.Box) or is_picture(space) or space.dtype.kind != "f":
        raise UserError(f"attacks change observations that are vectors of real numbers, not {space}")
    size = int(np.prod(space.shape))
    if given is not None:
        scales = np.asarray(given, np.float64)
        if scales.shape != (size,) or not (np.isfinite(scales) & (scales > 0.0)).all():
            raise UserError(f"scales must be {size} positive numbers, one a component of the observation, got {given}")
        return scales
    network = getattr(policy, "module", None)
    normalizer = network.normalizer if isinstance(network, ObservationInput) else None
    if normalizer is None:
        return np.ones(size)
    return (normalizer.var + normalizer.eps).sqrt().cpu().numpy().astype(np.float64)
