"""Settings of the game between actor and disturber. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlstab.learning.on_policy_config import OnPolicyConfig


@dataclass(frozen=True, kw_only=True)
class GameConfig(OnPolicyConfig):
    """What learning against a disturber adds to PPO (arXiv:2404.14405).

    The disturber is a second policy: it sees what the actor sees and decides a force on a body. ``C`` is the cost, how
    much of the task's best reward is missed; ``|d|`` the size of the force in units of ``force_unit``.
    """

    disturber: Literal["hinf", "cost", "random", "none"] = "hinf"
    """Who disturbs. hinf: a disturber that earns the cost less eta times the squared force, which finds efficient
    forces; cost: one that earns the cost alone (as in RARL, arXiv:1703.02702); random: forces of random direction;
    none."""

    constraint: bool = True
    """Whether the actor is also held to ``sum C <= eta sum |d|^2`` by a multiplier. Without, it earns its reward."""

    linear_actor: bool = False
    """Whether the actor has no hidden layers: a matrix, as linear systems need."""

    eta: float | None = field(default=None, metadata={"above": 0.0, "unit": "cost per squared force"})
    """Bound on the cost for each unit of squared force, where it begins. None: what is measured while the forces
    grow."""

    eta_rate: float = field(default=0.95, metadata={"above": 0.0, "max": 1.0})
    """Factor on eta whenever the constraint has slack (every ``eta_every`` updates). 1: eta stays."""

    eta_min: float = field(default=0.0, metadata={"min": 0.0})
    """Smallest eta."""

    eta_every: int = field(default=25, metadata={"min": 1, "unit": "updates"})
    """Updates between two changes of eta."""

    multiplier: float = field(default=1.0, metadata={"min": 0.0})
    """Initial multiplier of the constraint."""

    multiplier_max: float = field(default=10.0, metadata={"min": 0.0})
    """Largest multiplier."""

    multiplier_rate: float = field(default=0.05, metadata={"min": 0.0})
    """Step of the multiplier, for each update and unit of the constraint."""

    body: str = ""
    """Body that is pushed. Empty: the one that suits the robot."""

    max_force: float = field(default=0.15, metadata={"above": 0.0, "unit": "force units"})
    """Longest force."""

    force_unit: float | None = field(default=None, metadata={"above": 0.0, "unit": "newtons"})
    """Unit of forces. None: the robot's weight; 1 for linear systems."""

    calm_share: float = field(default=0.25, metadata={"min": 0.0, "max": 1.0})
    """Share of the worlds that nobody disturbs."""

    random_share: float = field(default=0.25, metadata={"min": 0.0, "max": 1.0})
    """Share of the worlds with forces of random direction, half to all of the longest force; the rest has learned
    ones."""

    random_hold: float = field(default=25.0, metadata={"min": 1.0, "unit": "control steps"})
    """Mean length of a random force. Drawn anew at each step, forces would cancel out before they did anything."""

    warmup: float = field(default=0.15, metadata={"min": 0.0, "max": 1.0, "unit": "share of the training"})
    """Share of the training before any force."""

    ramp: float = field(default=0.3, metadata={"min": 0.0, "max": 1.0, "unit": "share of the training"})
    """Share of the training after that over which the longest force grows linearly to its value."""

    disturber_hidden_sizes: tuple[int, ...] = field(default=(64, 64), metadata={"min": 1})
    """Widths of the hidden layers of the disturber and of its critic."""

    linear_disturber: bool = False
    """Whether the disturber has no hidden layers."""

    disturber_learning_rate: float = field(default=3e-4, metadata={"above": 0.0})
    """Step size of the disturber."""

    disturber_std: float = field(default=0.3, metadata={"above": 0.0, "unit": "longest force"})
    """Initial standard deviation of the disturber's force."""

    disturber_ent_coef: float = field(default=0.0, metadata={"min": 0.0})
    """Weight of the entropy in the disturber's loss."""
