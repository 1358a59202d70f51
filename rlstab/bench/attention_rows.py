"""The numbers of the attention benchmarks: one row a measurement, in the columns that kernel libraries share."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlstab.bench.conditions import Conditions, describe_commit

COLUMNS = (
    "kernel_name",
    "kernel_provider",
    "kernel_operation_mode",
    "metric_name",
    "metric_unit",
    "x_name",
    "x_label",
    "x_value",
    "y_value_50",
    "y_value_20",
    "y_value_80",
    "extra_benchmark_config_str",
    "gpu_name",
    "timestamp",
    "kernel_version",
    "torch_version",
    "triton_version",
    "driver_version",
    "git_hash",
)
"""Those of Liger-Kernel's file of benchmarks, and the versions a number depends on."""

RATIO = "times as long as SDPA"


@dataclass(frozen=True)
class Row:
    """The middle and the spread of one quantity for one provider in one case."""

    provider: str
    mode: str
    """``forward``, ``backward``, ``full`` (both) or ``step`` (one new token)."""
    metric: str
    unit: str
    case: str
    """What tables call it."""
    x_name: str
    x_value: float
    median: float
    low: float
    """A fifth of the measurements are lower."""
    high: float
    """A fifth of the measurements are higher."""
    group: str
    """Set of cases; a table each."""
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, samples: Sequence[float], **fields: Any) -> Row:
        """Summarise samples."""
        low, middle, high = quantiles(samples)
        return cls(median=middle, low=low, high=high, **fields)


def quantiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Take a fifth, the half and four fifths, to six digits."""
    if len(samples) == 1:
        only = _short(samples[0])
        return only, only, only
    cuts = statistics.quantiles(samples, n=5, method="inclusive")
    return _short(cuts[0]), _short(statistics.median(samples)), _short(cuts[3])


class Skipped:
    """What was left out, gathered by the reason."""

    def __init__(self) -> None:
        self._labels: dict[str, list[str]] = {}

    def add(self, reason: str, label: str) -> None:
        """Note something that was left out."""
        self._labels.setdefault(reason, []).append(label)

    def lines(self) -> list[str]:
        """Say what was left out, a line a reason, with a few examples where there are many."""
        return [
            f"{reason} ({'; '.join(labels[:4])}{f'; and {len(labels) - 4} more' if len(labels) > 4 else ''})"
            for reason, labels in self._labels.items()
        ]


def to_csv(rows: Iterable[Row], conditions: Conditions, timestamp: str) -> str:
    """Write all rows with what they have in common, a line each."""
    versions = conditions.versions["rlstab"]
    common = {
        "gpu_name": conditions.machine.get("gpu", "none"),
        "timestamp": timestamp,
        "kernel_version": versions.get("rlstab", ""),
        "torch_version": versions.get("torch", ""),
        "triton_version": versions.get("triton", ""),
        "driver_version": conditions.machine.get("driver", "none"),
        "git_hash": describe_commit(conditions.git),
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        own = {
            "kernel_name": "sigmoid_attention_step" if row.mode == "step" else "sigmoid_attention",
            "kernel_provider": row.provider,
            "kernel_operation_mode": row.mode,
            "metric_name": row.metric,
            "metric_unit": row.unit,
            "x_name": row.x_name,
            "x_label": _LABELS.get(row.x_name, row.x_name),
            "x_value": f"{row.x_value:g}",
            "y_value_50": row.median,
            "y_value_20": row.low,
            "y_value_80": row.high,
            "extra_benchmark_config_str": json.dumps({"set": row.group, "case": row.case, **row.config}),
        }
        line = own | common
        writer.writerow([line[column] for column in COLUMNS])
    return text.getvalue()


Table = tuple[str, list[str], list[list[str]]]
"""Title, columns, rows of text."""


def tables(rows: Sequence[Row]) -> list[Table]:
    """Lay rows out: a table a set, mode and quantity; a line a case; a column a provider."""
    found: list[Table] = []
    for key in dict.fromkeys((row.group, row.mode, row.metric, row.unit) for row in rows):
        group, mode, metric, unit = key
        chosen = [row for row in rows if (row.group, row.mode, row.metric, row.unit) == key]
        providers = list(dict.fromkeys(row.provider for row in chosen))
        cells = {
            (row.case, row.provider): f"{number(row.median)} ({number(row.low)} to {number(row.high)})"
            if row.low != row.high
            else number(row.median)
            for row in chosen
        }
        lines = [
            [case, *(cells.get((case, provider), "-") for provider in providers)]
            for case in dict.fromkeys(row.case for row in chosen)
        ]
        title = f"{group}, {mode}: {metric}" + (f", {unit}" if unit else "")
        found.append((title, ["case", *providers], lines))
    return found


def number(value: float) -> str:
    """Spell a number in three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _short(value: float) -> float:
    return float(f"{value:.6g}")


_LABELS = {"T": "sequence length", "W": "window (keys)", "B": "environments"}
