"""Runs of `rlstab train` as parts of a study: made once, gone on with if unfinished, put through the battery."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlstab.analysis.robustness.battery_report import BatteryReport
from rlstab.errors import UserError

_ONE_CORE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def train(path: Path, method: str, flags: Mapping[str, Any], what: str, threads: int = 1) -> Path:
    """Make the run ``path``, or go on with it, or leave it if it is finished.

    Parameters
    ----------
    path
        Folder of the run; its name has to tell the settings, which are not compared.
    method
        As in `rlstab train METHOD`.
    flags
        Settings beside the preset, by their field's name; without the number of threads.
    what
        Name of the training in errors.
    threads
        That step the worlds. Networks as small as these compute on one: two that wait for each other are slower on a
        machine that others use, too.

    Raises
    ------
    UserError
        The training fails.
    """
    from rlstab.runs.run import Run

    command = [sys.executable, "-m", "rlstab", "train"]
    if path.exists():
        if Run.open(path).info.status == "finished":
            return path
        command += ["--resume", str(path)]
    else:
        command += [method, "--run-dir", str(path.parent), "--name", path.name]
        given = {**flags, "num_threads": threads}
        command += [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    call(command, f"training {what}")
    return path


def battery(run: Path, flags: Sequence[str]) -> BatteryReport:
    """Put the last policy of a run through the battery; what it has been through already is read.

    Parameters
    ----------
    run
        Its folder.
    flags
        Of `rlstab robustness`.

    Raises
    ------
    UserError
        The test fails.
    """
    command = [sys.executable, "-m", "rlstab", "robustness", str(run), *flags, "--json"]
    document: Mapping[str, Any] = json.loads(call(command, f"testing {run.name}"))
    return BatteryReport.load(Path(document["reports"][0]["report"]))


def call(command: Sequence[str], what: str) -> str:
    """Run a command, whose networks compute on one core, and give what it printed.

    Raises
    ------
    UserError
        It fails; the message has the last line of its complaint.
    """
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | _ONE_CORE, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"{what} failed: {reason}")
    return done.stdout
