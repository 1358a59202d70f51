"""Configuration of twin delayed DDPG."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.baselines.off_policy import OffPolicyConfig


@dataclass(frozen=True, kw_only=True)
class TD3Config(OffPolicyConfig):
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477), as Stable-Baselines3 has it.

    Continuous actions only. Defaults are Stable-Baselines3's, with the exploration noise of the paper.
    """

    hidden_sizes: tuple[int, ...] = field(default=(400, 300), metadata={"min": 1, "max": 65_536, "unit": "units"})
    """Width of each hidden layer of the actor and of the critics, in units."""

    learning_rate: float = field(default=1e-3, metadata={"above": 0.0, "max": 1.0})
    """Step size of Adam, for all networks."""

    exploration_noise: float = field(default=0.1, metadata={"min": 0.0, "unit": "half action range"})
    """Standard deviation of the Gaussian noise on actions while training, as a fraction of half the action range."""

    policy_delay: int = field(default=2, metadata={"min": 1, "unit": "gradient steps"})
    """Critic updates between two updates of the actor and of the target networks."""

    target_policy_noise: float = field(default=0.2, metadata={"min": 0.0, "unit": "half action range"})
    """Standard deviation of the noise on the target actor's action, as a fraction of half the action range."""

    target_noise_clip: float = field(default=0.5, metadata={"min": 0.0, "unit": "half action range"})
    """Bound on that noise, as a fraction of half the action range."""
