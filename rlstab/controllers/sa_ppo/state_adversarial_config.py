"""Settings of state-adversarial regularisation. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlstab.learning.on_policy_config import OnPolicyConfig


@dataclass(frozen=True, kw_only=True)
class StateAdversarialConfig(OnPolicyConfig):
    """What state-adversarial regularisation adds to PPO (Zhang et al. 2020, arXiv:2003.08938).

    The loss grows by ``kappa`` times the mean over samples of ``max KL(pi(s) || pi(s + delta))``, the maximum over
    changes of the normalised observation by at most ``epsilon`` in each component.
    """

    kappa: float = field(default=2.0, metadata={"min": 0.0, "unit": "per nat", "source": "arXiv:2003.08938"})
    """Weight of the divergence. 0: plain PPO. The authors' code weighs twice the divergence, so that its 1.0 on Hopper
    is 2.0 here."""

    epsilon: float = field(
        default=0.075,
        metadata={"min": 0.0, "unit": "standard deviations of the observation", "source": "arXiv:2003.08938"},
    )
    """Radius of the ball of changes. The authors: 0.075 on Hopper and Humanoid, 0.05 on Walker2d, 0.15 on HalfCheetah
    and Ant."""

    ramp: float = field(default=0.75, metadata={"min": 0.0, "max": 1.0, "unit": "share of the training"})
    """How long the radius takes to grow linearly from zero to epsilon; the authors: 732 of 976 updates."""

    inner: Literal["sgld", "pgd"] = "sgld"
    """How the maximum is searched for, by steps along the sign of the gradient: with noise that dies out and a start
    near the observation (sgld, as the authors), or without and from anywhere in the ball (pgd)."""

    inner_steps: int = field(default=10, metadata={"min": 1, "max": 1000})
    """Steps of the search, each of epsilon / inner_steps (sgld) or 2.5 times as long (pgd)."""
