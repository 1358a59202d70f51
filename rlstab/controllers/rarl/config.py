"""Configuration of robust adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlstab.controllers.hinf.config import HInfConfig


@dataclass(frozen=True, kw_only=True)
class RARLConfig(HInfConfig):
    """PPO against a learned disturber that earns the cost alone, as in RARL (Pinto et al. 2017, arXiv:1703.02702).

    Unlike there, both players are PPO, learn from every rollout, and some worlds stay undisturbed or get random forces:
    the settings are those of hinf, with another aim for the disturber and no constraint on the actor.
    """

    disturber: Literal["hinf", "cost", "random", "none"] = "cost"
    """Who disturbs. cost: a disturber that earns the cost alone; the others are those of hinf."""

    constraint: bool = False
    """Whether the actor is also held to ``sum C <= eta sum |d|^2`` by a multiplier, as by hinf."""
