"""Trainings in processes of their own, several at a time, whose reports are kept and used again where they fit."""

from __future__ import annotations

import collections
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rlstab.bench.conditions import Conditions, describe_commit
from rlstab.bench.pages import writable_folder
from rlstab.bench.reports import Report, read_report, report_path
from rlstab.errors import UserError

Key = TypeVar("Key")
Made = TypeVar("Made")

_ONE_CORE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Training:
    """One training that a study needs."""

    learner: str
    """As the report names it, and its file."""
    module: str
    """What trains, run with the flags of `rlstab.bench.reports.arguments`."""
    env: str
    seed: int
    steps: int
    hyperparameters: Mapping[str, Any]
    """Those that the report must name."""
    arguments: tuple[str, ...] = ()
    """Further flags of the module."""

    def fits(self, report: Report) -> bool:
        """Whether a report is that of this training, with equal hyper-parameters and as many steps asked for."""
        wanted = {"learner": self.learner, "env_id": self.env, "seed": self.seed}
        if not wanted.items() <= report.items() or report["hyperparameters"] != dict(self.hyperparameters):
            return False
        return report["requested_steps"] == self.steps

    def report(self, work: Path) -> Report:
        """Take the report that is kept in ``work``, or train and keep it.

        Raises
        ------
        UserError
            The training fails or leaves no report that fits.
        """
        path = report_path(work, self.learner, self.env, self.seed)
        kept = read_report(path)
        if kept is not None and self.fits(kept):
            return kept
        command = [
            *(sys.executable, "-m", self.module, "--env", self.env, "--seed", str(self.seed)),
            *("--steps", str(self.steps), "--out", str(work), *self.arguments),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | _ONE_CORE, check=False)
        what = f"{self.learner} on {self.env}, seed {self.seed}"
        if done.returncode:
            reason = (done.stderr.strip() or "no message").splitlines()[-1]
            raise UserError(f"{what} failed: {reason}")
        made = read_report(path)
        if made is None or not self.fits(made):
            raise UserError(f"{what} left no usable report: {path} is missing, damaged or of another training")
        return made


def collect(
    trainings: Mapping[Key, Training], work: Path, jobs: int, on_progress: Callable[[str], None]
) -> dict[Key, Report]:
    """Bring the reports of all trainings together, ``jobs`` at a time, in their order.

    Raises
    ------
    UserError
        The folder cannot be written to, or a training fails. Those that run then are finished and kept, the others
        are not begun.
    """
    writable_folder(work, "reports")

    def finish(training: Training) -> Report:
        report = training.report(work)
        returns = report["eval_returns"]
        mean = sum(returns) / len(returns)
        on_progress(f"{training.learner} on {training.env}, seed {training.seed}: return {mean:.4g}")
        return report

    made = finish_all(list(trainings.values()), finish, jobs)
    return dict(zip(trainings, made, strict=True))


def finish_all(wanted: Sequence[Key], finish: Callable[[Key], Made], jobs: int) -> list[Made]:
    """Finish everything that is wanted, ``jobs`` at a time, in its order.

    Raises
    ------
    UserError
        One fails. Those that run then are finished, the others are not begun.
    """
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(finish, one) for one in wanted]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    for future in futures:
        if not future.cancelled():
            future.result()
    return [future.result() for future in futures]


def conditions_of(reports: Mapping[str, Sequence[Report]], ours: str) -> Conditions:
    """Describe when and from what trainings were made, which may be long before now.

    Parameters
    ----------
    reports
        Name in tables to its reports.
    ours
        The name whose revisions of the source matter.
    """
    everything = [report for several in reports.values() for report in several]
    dates = sorted({report["date"] for report in everything})
    now = Conditions.now(1)
    return dataclasses.replace(
        now,
        load=None,
        git={},
        commits=_commits(reports[ours]),
        versions={name: _versions(several) for name, several in reports.items()},
        date=" to ".join(dict.fromkeys((dates[0], dates[-1]))),
    )


def _commits(reports: Sequence[Report]) -> tuple[str, ...]:
    counts = collections.Counter(describe_commit(report["git"]) for report in reports)
    if len(counts) == 1:
        return tuple(counts)
    return tuple(f"{commit} ({count} of {len(reports)} trainings)" for commit, count in counts.items())


def _versions(reports: Sequence[Report]) -> dict[str, str]:
    """Versions of each package, all of them where the reports differ."""
    found: dict[str, list[str]] = {}
    for report in reports:
        for package, version in report["versions"].items():
            known = found.setdefault(package, [])
            if version not in known:
                known.append(version)
    return {package: " and ".join(known) for package, known in found.items()}
