"""Reports of single trainings: one JSON file each, which a study keeps and accepts again where it fits.

Standard library only, at module level: the trainings themselves are timed.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = dict[str, Any]

_RESULT = frozenset({"learner", "env_id", "seed", "total_steps", "hyperparameters", "episodes", "eval_returns"})
_ORIGIN = frozenset({"requested_steps", "git", "versions", "date"})


def report_path(folder: Path, learner: str, env_id: str, seed: int) -> Path:
    """File of a training."""
    return folder / f"{learner}-{env_id.replace('/', '-').replace(':', '-')}-{seed}.json"


def read_report(path: Path) -> Report | None:
    """Read a report; ``None`` where there is none or it is damaged."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (
        isinstance(report, dict)
        and report.keys() >= _RESULT | _ORIGIN
        and report["episodes"]
        and report["eval_returns"]
    ):
        return report
    return None


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Declare the flags that every training script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    return parser


def run(given: argparse.Namespace, train: Callable[[str, int, int], Report]) -> None:
    """Train as the flags say and write the report, at once and with its origin."""
    from rlstab.runs import atomic
    from rlstab.runs.provenance import git_state, package_versions

    # Before training: this is the source that has been imported, whatever is committed meanwhile.
    origin = {"requested_steps": given.steps, "git": git_state(), "versions": package_versions()}
    report = train(given.env, given.seed, given.steps)
    report |= {**origin, "date": datetime.date.today().isoformat()}
    given.out.mkdir(parents=True, exist_ok=True)
    path = report_path(given.out, report["learner"], given.env, given.seed)
    atomic.write_text(path, json.dumps(report, allow_nan=False))
    mean = sum(report["eval_returns"]) / len(report["eval_returns"])
    print(f"{path}: eval mean {mean:.1f}, {report['steps_per_second']:.0f} steps/s")
