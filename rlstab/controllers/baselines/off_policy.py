"""What the configurations of SAC, TD3 and DQN share: the replay buffer and how often it is learned from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlstab.controllers.config import BaseConfig


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(BaseConfig):
    """Replay-based learning; the defaults of the derived classes are those of Stable-Baselines3."""

    network: Literal["auto", "mlp", "cnn"] = "auto"
    """Network. auto: the convolutions of Mnih et al. (2015) for images of at least 36x36 pixels, else an MLP."""

    hidden_sizes: tuple[int, ...] = field(default=(256, 256), metadata={"min": 1, "max": 65_536, "unit": "units"})
    """Width of each hidden layer of the actor and of the critics, in units."""

    learning_rate: float = field(default=3e-4, metadata={"above": 0.0, "max": 1.0})
    """Step size of Adam, for all networks."""

    gamma: float = field(default=0.99, metadata={"min": 0.0, "max": 1.0})
    """Discount factor per environment step."""

    tau: float = field(default=0.005, metadata={"min": 0.0, "max": 1.0})
    """Fraction by which the target networks move to the learned ones at each update (1: copy)."""

    buffer_size: int = field(default=1_000_000, metadata={"min": 1, "unit": "transitions"})
    """Capacity of the replay buffer, in transitions over all worlds."""

    learning_starts: int = field(default=100, metadata={"min": 0, "unit": "environment steps"})
    """Environment steps taken with random actions before learning starts."""

    batch_size: int = field(default=256, metadata={"min": 1, "unit": "transitions"})
    """Transitions drawn from the buffer for each gradient step."""

    train_freq: int = field(default=1, metadata={"min": 1, "unit": "vector steps"})
    """Steps of every world between two rounds of gradient steps."""

    gradient_steps: int = field(default=1, metadata={"min": -1})
    """Gradient steps a round. -1: as many as environment steps were taken since the last round."""

    n_step_return: int = field(default=1, metadata={"min": 1, "max": 1000, "unit": "environment steps"})
    """Rewards summed before bootstrapping (1: one-step temporal difference)."""

    steps_per_iteration: int = field(default=500, metadata={"min": 1, "unit": "environment steps"})
    """Environment steps between two lines of metrics; Ctrl-C waits for the end of one."""

    checkpoint_replay: bool = True
    """Keep the replay buffer in checkpoints, so that a resumed run equals an uninterrupted one. Without it checkpoints
    are small, and a resumed run refills the buffer with its current policy before it learns again."""
