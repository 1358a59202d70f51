"""Training under random forces from its configuration: the game of `rlstab.controllers.hinf` without a disturber."""

from __future__ import annotations

from rlstab.controllers.hinf.learner import make_learner

__all__ = ["make_learner"]
