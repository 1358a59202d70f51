"""Settings of the on-policy learner. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig:
    """Hyper-parameters of proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

    Defaults are Stable-Baselines3's, with the observation and return normalisation that MuJoCo recipes use.
    """

    n_steps: int = field(default=256, metadata={"min": 1, "unit": "steps of every world"})
    """Steps of every world between two updates."""

    batch_size: int = field(default=64, metadata={"min": 2, "unit": "samples"})
    """Samples in one gradient step."""

    n_epochs: int = field(default=10, metadata={"min": 1})
    """Passes over the collected samples at each update."""

    learning_rate: float = field(default=3e-4, metadata={"above": 0.0})
    """Step size of Adam."""

    learning_rate_schedule: Literal["constant", "linear"] = "constant"
    """How the step size goes over the training: constant, or linearly to zero."""

    gamma: float = field(default=0.99, metadata={"min": 0.0, "max": 1.0})
    """Discount per step."""

    gae_lambda: float = field(default=0.95, metadata={"min": 0.0, "max": 1.0})
    """Bias-variance trade-off of generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""

    clip_range: float = field(default=0.2, metadata={"above": 0.0})
    """The probability ratio is clipped to one plus or minus this."""

    clip_range_vf: float | None = field(default=None, metadata={"above": 0.0})
    """Clip of the change of the value estimate, in units of the normalised return. None: no clip."""

    normalize_advantage: bool = True
    """Whether advantages are standardised within each gradient step's samples."""

    ent_coef: float = field(default=0.0, metadata={"min": 0.0, "unit": "per nat"})
    """Weight of the entropy bonus."""

    vf_coef: float = field(default=0.5, metadata={"min": 0.0})
    """Weight of the value loss."""

    max_grad_norm: float = field(default=0.5, metadata={"above": 0.0})
    """Gradients are scaled down to this Euclidean norm."""

    target_kl: float | None = field(default=None, metadata={"above": 0.0, "unit": "nat"})
    """Stop an update when the policy has moved further than 1.5 times this. None: never."""

    normalize_reward: bool = True
    """Whether rewards are divided by the running standard deviation of the discounted return."""

    normalize_observation: bool = True
    """Whether observations are standardised by running statistics (vectors only)."""

    hidden_sizes: tuple[int, ...] = field(default=(64, 64), metadata={"min": 1})
    """Widths of the hidden layers, the same for actor and critic."""

    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    """Activation of the hidden layers."""

    log_std_init: float = 0.0
    """Initial logarithm of the action's standard deviation (continuous actions)."""
