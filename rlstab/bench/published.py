"""Returns of PPO that others have published, to be compared with.

References
----------
RL Baselines3 Zoo, benchmark.md; CleanRL, documentation of ppo_continuous_action.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Mean and standard deviation of a return."""

    mean: float
    spread: float

    def __str__(self) -> str:
        return f"{self.mean:.0f} ± {self.spread:.0f}"

    def reached_by(self, value: float, tolerance: float = 0.15) -> bool:
        """Whether ``value`` is at most the fraction ``tolerance`` below the mean."""
        return value >= (1.0 - tolerance) * self.mean


ZOO, CLEANRL = "zoo, 1 M", "CleanRL, 8 M"
ABOUT = """
*Zoo, 1 M*: RL Baselines3 Zoo's tuned PPO after one million steps on the v3 tasks, deterministic returns of one
training. *CleanRL, 8 M*: `ppo_continuous_action.py` after eight million steps on the v4 tasks, training returns. The
tasks' v5 differs from both in details of observation and reward.
"""

PUBLISHED: dict[str, dict[str, Published]] = {
    "Hopper-v5": {ZOO: Published(2410, 10), CLEANRL: Published(2741, 269)},
    "Walker2d-v5": {ZOO: Published(3479, 822), CLEANRL: Published(2873, 691)},
    "HalfCheetah-v5": {ZOO: Published(5819, 664), CLEANRL: Published(2637, 1068)},
    "Ant-v5": {ZOO: Published(1327, 452), CLEANRL: Published(1824, 906)},
}
"""Task to source to what it reports."""
