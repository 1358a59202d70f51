"""Configuration of training under random forces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlstab.controllers.hinf.config import HInfConfig


@dataclass(frozen=True, kw_only=True)
class RandomForceConfig(HInfConfig):
    """PPO under forces of random direction that last: the baseline of every learned disturber.

    The longest force, its unit, the curriculum and the share of undisturbed worlds are those of hinf.
    """

    disturber: Literal["hinf", "cost", "random", "none"] = "random"
    """Who disturbs. random: chance; the others are those of hinf."""

    constraint: bool = False
    """Whether the actor is also held to ``sum C <= eta sum |d|^2`` by a multiplier, as by hinf."""

    random_share: float = field(default=0.75, metadata={"min": 0.0, "max": 1.0})
    """Share of the worlds with random forces, half to all of the longest force; the rest is undisturbed."""
