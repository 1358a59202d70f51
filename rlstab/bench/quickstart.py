"""`rlstab bench quickstart`: what a new user's first command gives, over several seeds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlstab.analysis.result import Result, Scalar
from rlstab.bench.conditions import Conditions, command_line, markdown_table
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABOUT = """
`rlstab quickstart`, once a seed, one after the other: it trains PPO on Hopper-v5, evaluates 20 episodes, exports to
ONNX, deploys the exported file on the same starts without torch in the loop, films an episode and writes the report.
*Difference* is between the mean returns of the deployed file and of the evaluated policy: a hopper's contacts amplify
any difference of their actions, be it of the last digit, within a few hundred steps. Installation is not counted.
"""
_COLUMNS = {
    "seed": ("seed", "{:d}"),
    "mean_return": ("mean return", "{:.0f}"),
    "deployed_mean_return": ("deployed", "{:.0f}"),
    "difference_percent": ("difference, %", "{:.2f}"),
    "train_seconds": ("training, s", "{:.0f}"),
    "seconds": ("everything, s", "{:.0f}"),
    "peak_memory_mib": ("peak memory, MiB", "{:.0f}"),
}


@dataclass(frozen=True)
class Options:
    """What to run."""

    seeds: int = 5
    """Seeds 0, 1, ..."""
    work: Path = Path("runs/quickstart")
    """Folder for the runs and reports. It must be empty or new: whole trainings are timed, not what is left of them."""


@dataclass(frozen=True, eq=False, repr=False)
class QuickstartResult(Result):
    """One row a seed."""

    kind: ClassVar[str] = "quickstart"
    labels: ClassVar[tuple[str, ...]] = ("seed",)

    name: str
    title: str
    command: str
    rows: list[dict[str, float]]
    """Numbers of each seed, named as in the columns above."""
    conditions: Conditions
    settings: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Scalar]:
        """What the worst and the middle seed gave."""
        returns = [row["mean_return"] for row in self.rows]
        return {
            "seeds": len(self.rows),
            "median return": statistics.median(returns),
            "seeds above 1500": sum(value > 1500 for value in returns),
            "largest difference, %": max(row["difference_percent"] for row in self.rows),
            "longest, s": max(row["seconds"] for row in self.rows),
            "most memory, MiB": max(row["peak_memory_mib"] for row in self.rows),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw evaluated and deployed returns of each seed."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.figure(figsize=(4, 3)).gca()
        seeds = [row["seed"] for row in self.rows]
        ax.plot(seeds, [row["mean_return"] for row in self.rows], "o", label="evaluated")
        ax.plot(seeds, [row["deployed_mean_return"] for row in self.rows], "x", label="deployed")
        ax.set_xlabel("Training seed")
        ax.set_ylabel("Mean return of 20 episodes")
        ax.legend()
        return ax

    def figure(self, path: Path) -> None:
        """Draw nothing: a table of five rows is read at a glance."""

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Lay the numbers out as ``(title, columns, rows of text)``."""
        heads = [head for head, _ in _COLUMNS.values()]
        shown = [
            [form.format(int(row[key]) if key == "seed" else row[key]) for key, (_, form) in _COLUMNS.items()]
            for row in self.rows
        ]
        return [("Each seed", heads, shown)]

    def missing(self) -> list[str]:
        """Nothing: a seed that fails ends the benchmark."""
        return []

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        _, heads, rows = self.tables()[0]
        facts = [
            [name, f"{value:.4g}" if isinstance(value, float) else str(value)] for name, value in self.summary().items()
        ]
        return "\n".join(
            [
                *(f"# {self.title}", "", ABOUT.strip(), "", f"Made by `{self.command}`.", ""),
                *markdown_table(heads, rows),
                *("", "## Summary", "", *markdown_table(["what", "value"], facts)),
                *("", *self.conditions.section(self.settings)),
            ]
        )


def measure(options: Options, on_progress: Callable[[str], None] = print) -> QuickstartResult:
    """Run the command for each seed.

    Raises
    ------
    UserError
        The number of seeds is not positive, the work folder holds something, or a run fails.
    """
    if options.seeds < 1:
        raise UserError(f"seeds must be at least 1, got {options.seeds}")
    if options.work.exists() and (not options.work.is_dir() or any(options.work.iterdir())):
        raise UserError(
            f"{options.work} is not an empty folder, and a training found there would not be timed: "
            "delete it, or give another --work"
        )
    conditions = Conditions.now(usable_cores())
    documents: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        document = _quickstart(seed, options.work)
        documents.append(document)
        on_progress(f"seed {seed}: return {document['mean_return']:.0f} in {document['seconds']:.0f} s")
    return QuickstartResult(
        name="quickstart",
        title="The first command, over seeds",
        command=command_line("quickstart", options),
        rows=[_row(seed, document) for seed, document in enumerate(documents)],
        conditions=conditions,
        settings={"seeds": options.seeds, "environment steps": documents[0]["steps"]},
    )


def _quickstart(seed: int, work: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "rlstab", "quickstart", "--seed", str(seed), "--out", str(work / str(seed))]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, env=dict(os.environ), check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"quickstart with seed {seed} failed: {reason}")
    return json.loads(done.stdout)


def _row(seed: int, document: dict[str, Any]) -> dict[str, float]:
    return {
        "seed": seed,
        "mean_return": document["mean_return"],
        "deployed_mean_return": document["deployed_mean_return"],
        "difference_percent": 100.0 * abs(document["relative_difference"]),
        "train_seconds": document["train_seconds"],
        "seconds": document["seconds"],
        "peak_memory_mib": document["peak_memory_bytes"] / 2**20,
    }
