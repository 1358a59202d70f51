"""What the kernels are meant to reach on one H100 SXM in bfloat16, set before anything was measured."""

from __future__ import annotations

from collections.abc import Sequence

from rlstab.bench.attention_result import Check, Target
from rlstab.bench.attention_rows import Row

SPEED = "speed"
SHARE = "share of copy bandwidth"
TIME = "time"


def gpu_targets(rows: Sequence[Row], checks: Sequence[Check]) -> tuple[Target, ...]:
    """Hold the goals against what was measured."""
    table = _Table(rows)
    speeds = [
        ("forward", "d128 dense 16384", 520.0, 600.0),
        ("forward", "d128 dense 4096", 490.0, 570.0),
        ("forward", "d64 dense 16384", 450.0, 520.0),
        ("forward", "d64 dense 4096", 430.0, 490.0),
        ("backward", "d128 dense 16384", 380.0, 500.0),
        ("backward", "d64 dense 16384", 330.0, 420.0),
    ]
    found = [
        Target(f"{mode}, {case}, TFLOP/s", must, stretch, table.get("newton", mode, SPEED, case))
        for mode, case, must, stretch in speeds
    ]
    for dim in (128, 64):
        causal, dense = (table.get("newton", "forward", SPEED, f"d{dim} {kind} 8192") for kind in ("causal", "dense"))
        found.append(Target(f"forward, d{dim} 8192, causal speed over dense", 0.8, 0.9, _ratio(causal, dense)))
    found += [
        Target("forward, RL batches, smallest share of copy bandwidth", 0.7, 0.85, table.least("forward")),
        Target("backward, RL batches, smallest share of copy bandwidth", 0.6, 0.75, table.least("backward")),
        Target("forward and backward, RL batches, smallest ratio to SDPA flash", 1.3, 2.0, table.least_gain()),
        Target(
            "one step, 4096 environments, 128 keys, share of copy bandwidth",
            0.75,
            0.9,
            table.get("triton step", "step", SHARE, "B 4096, 4 heads, W 128, d 32"),
        ),
    ]
    tanh, newton = (table.get(mode, "forward", TIME, "d128 dense 16384") for mode in ("tanh", "newton"))
    found.append(Target("newton's time over tanh's, d128 dense 16384", 1.1, 1.03, _ratio(newton, tanh), at_most=True))
    worst = None
    if checks:
        # One that is no number is as wrong as can be.
        worst = max(1e9 if check.error is None else check.error / max(check.limit, 1e-30) for check in checks)
    found.append(Target("largest error, as a share of the limit", 1.0, 0.5, worst, at_most=True))
    return tuple(found)


class _Table:
    """Finds rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.medians = {(row.provider, row.mode, row.metric, row.case, row.group): row.median for row in rows}

    def get(self, provider: str, mode: str, metric: str, case: str) -> float | None:
        found = [value for key, value in self.medians.items() if key[:4] == (provider, mode, metric, case)]
        return found[0] if found else None

    def least(self, mode: str) -> float | None:
        found = [
            row.median
            for row in self.rows
            if (row.provider, row.mode, row.metric, row.group) == ("newton", mode, SHARE, "RL batches")
        ]
        return min(found, default=None)

    def least_gain(self) -> float | None:
        """How many times as fast as flash attention ours is, in the worst case."""
        found = [
            self.medians["SDPA flash", "full", TIME, case, group] / ours
            for (provider, mode, metric, case, group), ours in self.medians.items()
            if (provider, mode, metric, group) == ("newton", "full", TIME, "RL batches")
            and ("SDPA flash", "full", TIME, case, group) in self.medians
        ]
        return min(found, default=None)


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below
