"""Attacks that follow the gradient of the policy, of its own critic, or of a critic learned for the attack."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from rlstab.analysis.robustness.action_value import ActionValue
from rlstab.analysis.robustness.observation_attacks import FloatArray, ObservationAttack, Perturbation
from rlstab.analysis.robustness.victims import Answer, Victim, victim_of
from rlstab.errors import UserError
from rlstab.learning.ascent import climb
from rlstab.policies.base import Policy
from rlstab.policies.tensors import to_array, to_tensor


@dataclass(frozen=True, kw_only=True)
class GradientAttack(ObservationAttack):
    """Signed gradient steps from a random change of at most one step; the best change met counts.

    Raises
    ------
    UserError
        No steps, or steps of no length; and, when it meets a policy, one that is not differentiable.
    """

    steps: int = 10
    """Steps an observation."""
    step: float | None = None
    """Length of each in units of ``scales``. None: ``epsilon / steps``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or (self.step is not None and not self.step > 0.0):
            raise UserError(f"an attack by gradient needs steps of some length, got {self.steps} of {self.step}")

    @abstractmethod
    def objective(self, victim: Victim, observation: Tensor) -> Answer:
        """What is made large, as a function of what is seen in the place of ``observation``."""

    def against(self, policy: Policy, scales: FloatArray) -> Perturbation:
        """See `ObservationAttack.against`."""
        victim = victim_of(policy)
        step = self.epsilon / self.steps if self.step is None else self.step
        unit = to_tensor(scales, victim.device)

        def perturb(observations: FloatArray, numbers: FloatArray) -> FloatArray:
            # Not from the observation itself, where a divergence has no slope.
            clean, start = to_tensor(observations, victim.device), to_tensor(step * numbers, victim.device)
            with torch.enable_grad():
                goal = self.objective(victim, clean)
                change = climb(lambda change: goal(clean + change * unit), start, self.epsilon, self.steps, step)
            return to_array(change)

        return perturb


@dataclass(frozen=True, kw_only=True)
class MaximalActionDifference(GradientAttack):
    """MAD: the policy answers as differently as possible, ``KL(pi(s) || pi(s + change))`` (arXiv:2003.08938)."""

    name: ClassVar[str] = "maximal action difference"

    def objective(self, victim: Victim, observation: Tensor) -> Answer:
        """See `GradientAttack.objective`."""
        return victim.divergence_from(observation)


@dataclass(frozen=True, kw_only=True)
class CriticAttack(GradientAttack):
    """The policy believes to be where its own critic expects least, ``V(s + change)``.

    How the policy then acts is not asked: an attack on a badly trained critic is weak. References: Pattanaik et al.
    2018, arXiv:1712.03632; arXiv:2003.08938.
    """

    name: ClassVar[str] = "critic"

    def objective(self, victim: Victim, observation: Tensor) -> Answer:
        """See `GradientAttack.objective`."""
        del observation
        return lambda seen: -victim.value(seen)


@dataclass(frozen=True, kw_only=True)
class RobustSarsa(GradientAttack):
    """The policy does what is worst in truth, ``Q(s, pi(s + change))``, by an action value learned for the attack.

    References: Zhang et al. 2020, arXiv:2003.08938, section 3.5; `learn_action_value` gives ``action_value``.
    """

    name: ClassVar[str] = "robust sarsa"
    action_value: ActionValue = field(repr=False)
    """Of the policy that is attacked."""

    def objective(self, victim: Victim, observation: Tensor) -> Answer:
        """See `GradientAttack.objective`."""
        return lambda seen: -self.action_value(observation, victim.action(seen))
