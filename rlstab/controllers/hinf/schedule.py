"""The dual variables of the game: the multiplier of the constraint, and eta, the bound on the gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlstab.controllers.hinf.game_config import GameConfig


@dataclass
class Dual:
    """Multiplier and bound, moved after every update.

    Parameters
    ----------
    multiplier, eta
        Present values. Without an eta, the ratio is measured and nothing moves, until `begin`.
    mean_cost, mean_intensity
        Running means; their ratio is what eta bounds. The ratio's own mean would be that of its noise, which is huge
        where forces are small.
    updates
        Updates with a disturbance so far.
    pressed
        Updates since the multiplier was last below its largest value.
    """

    multiplier: float
    eta: float | None
    mean_cost: float = 0.0
    mean_intensity: float = 0.0
    updates: int = 0
    pressed: int = 0

    @property
    def ratio(self) -> float | None:
        """Cost for each unit of intensity, of late; None before there was a force."""
        return self.mean_cost / self.mean_intensity if self.mean_intensity > 0.0 else None

    def step(self, config: GameConfig, cost: float, intensity: float, scale: float) -> float:
        """Move both by the constraint of a rollout.

        Parameters
        ----------
        config
            Rates and limits.
        cost, intensity
            Means over the disturbed steps: the cost above that of the worlds which nobody disturbs, and the squared
            force.
        scale
            Largest cost of a step, or its usual size where there is none: the unit of the constraint.

        Returns
        -------
        float
            ``(eta |d|^2 - C) / scale``, positive where the constraint holds.
        """
        self.mean_cost = 0.9 * self.mean_cost + 0.1 * cost
        self.mean_intensity = 0.9 * self.mean_intensity + 0.1 * intensity
        if self.eta is None:
            return 0.0
        slack = (self.eta * intensity - cost) / scale
        self.multiplier = min(max(self.multiplier - config.multiplier_rate * slack, 0.0), config.multiplier_max)
        self.pressed = self.pressed + 1 if self.multiplier >= config.multiplier_max else 0
        self.updates += 1
        if self.updates % config.eta_every == 0 and config.eta_rate < 1.0:
            if slack >= 0.0 and self.multiplier < 0.1 * config.multiplier_max:
                self.eta = max(config.eta_min, config.eta_rate * self.eta)
            elif self.pressed >= config.eta_every and self.ratio is not None:
                # Never beyond what was measured: a larger bound would only make forces dearer.
                self.eta = max(self.eta, min(1.1 * self.eta, self.ratio))
        return slack

    def begin(self, least: float) -> None:
        """Take the measured ratio for eta, unless there is one; ``least`` where nothing was found to cost anything."""
        if self.eta is None:
            self.eta = max(self.ratio or 0.0, least)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.multiplier = float(state["multiplier"])
        self.eta = None if state["eta"] is None else float(state["eta"])
        self.mean_cost, self.mean_intensity = float(state["mean_cost"]), float(state["mean_intensity"])
        self.updates, self.pressed = int(state["updates"]), int(state["pressed"])


def force_limit(config: GameConfig, done: float) -> float:
    """Longest force, as a share of its final value, when a share ``done`` of the training is over."""
    if done < config.warmup:
        return 0.0
    return min(1.0, (done - config.warmup) / config.ramp) if config.ramp > 0.0 else 1.0
