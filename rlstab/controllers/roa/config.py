"""Settings of the region-of-attraction method. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.config import BaseConfig

_SOURCE = "Meng, Fan (2023), arXiv:2303.10327"


@dataclass(frozen=True, kw_only=True)
class RoaConfig(BaseConfig):
    """Learning in stages: controller, Lyapunov function, and the level of its region of attraction."""

    env: str = "rlstab/CarTracking-v0"
    """Environment: rlstab/CarTracking-v0, rlstab/Pogobot-v0 or rlstab/Walker-v0."""

    total_steps: int = field(default=10_000, metadata={"min": 1, "unit": "gradient steps"})
    """Length of training, in gradient steps over all stages; each stage has a fixed share of them."""

    checkpoint_every: int = field(default=2_000, metadata={"min": 1, "unit": "gradient steps"})
    """Gradient steps between two checkpoints."""

    batch_size: int = field(default=4096, metadata={"min": 1, "unit": "states"})
    """States in one gradient step."""

    learning_rate: float = field(default=1e-3, metadata={"above": 0.0, "max": 1.0})
    """Step size of Adam, in every stage; it falls to a tenth along a cosine within each."""

    hidden_sizes: tuple[int, ...] = field(default=(), metadata={"min": 1, "max": 65_536, "unit": "units"})
    """Width of each hidden layer of every network, in units. None given: the system's own."""

    decrease: float | None = field(default=None, metadata={"above": 0.0, "below": 1.0, "source": _SOURCE})
    """Share of V that a step (of a hop, for the hopper) shall take away in training. Default: the system's own."""

    calibration: float = field(default=0.1, metadata={"above": 0.0, "below": 1.0, "source": "arXiv:2107.07511"})
    """Probability with which the level of a new configuration may be above what roll-outs show, after calibration on
    configurations that were not trained on."""

    steps_per_iteration: int = field(default=50, metadata={"min": 1, "unit": "gradient steps"})
    """Gradient steps between two lines of metrics; Ctrl-C waits for the end of one."""
