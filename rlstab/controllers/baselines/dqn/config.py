"""Configuration of deep Q-networks."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.baselines.off_policy import OffPolicyConfig


@dataclass(frozen=True, kw_only=True)
class DQNConfig(OffPolicyConfig):
    """Deep Q-network with a target network (Mnih et al. 2015, doi:10.1038/nature14236), as Stable-Baselines3 has it.

    Discrete actions only. Defaults are Stable-Baselines3's.
    """

    env: str = "CartPole-v1"
    """Environment: an id from `rlstab list envs`, or "module:Id" to import your own module first."""

    hidden_sizes: tuple[int, ...] = field(default=(64, 64), metadata={"min": 1, "max": 65_536, "unit": "units"})
    """Width of each hidden layer of the Q-network, in units."""

    learning_rate: float = field(default=1e-4, metadata={"above": 0.0, "max": 1.0})
    """Step size of Adam."""

    batch_size: int = field(default=32, metadata={"min": 1, "unit": "transitions"})
    """Transitions drawn from the buffer for each gradient step."""

    tau: float = field(default=1.0, metadata={"min": 0.0, "max": 1.0})
    """Fraction by which the target network moves to the learned one at each update (1: copy)."""

    train_freq: int = field(default=4, metadata={"min": 1, "unit": "vector steps"})
    """Steps of every world between two rounds of gradient steps."""

    target_update_interval: int = field(default=10_000, metadata={"min": 1, "unit": "environment steps"})
    """Environment steps between two updates of the target network."""

    exploration_fraction: float = field(default=0.1, metadata={"min": 0.0, "max": 1.0})
    """Part of the training over which the rate of random actions falls linearly to its final value."""

    exploration_initial: float = field(default=1.0, metadata={"min": 0.0, "max": 1.0})
    """Rate of random actions at the start (epsilon)."""

    exploration_final: float = field(default=0.05, metadata={"min": 0.0, "max": 1.0})
    """Rate of random actions after that part of the training (epsilon)."""

    max_grad_norm: float = field(default=10.0, metadata={"above": 0.0})
    """Bound on the Euclidean norm of the gradient."""
