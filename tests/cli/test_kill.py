"""Training killed at random moments ends exactly as training that was left alone."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlstab.runs.run import Run

STEPS = 200_000
TRAIN = ["train", "ppo", "--env", "Hopper-v5", "--preset", "none", "--total-steps", str(STEPS)]
TRAIN += ["--checkpoint-every", "10000", "--seed", "5"]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rlstab", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(arguments: list[str]) -> None:
    process = start(arguments)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def weights(run: Path) -> str:
    checkpoint = Run.open(run).checkpoints.latest()
    assert checkpoint is not None
    return hashlib.sha256((checkpoint / "tensors.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path):
    began = time.monotonic()
    finish([*TRAIN, "--run-dir", str(tmp_path), "--name", "straight"])
    lasted = time.monotonic() - began

    rng = np.random.default_rng(0)
    killed = tmp_path / "killed"
    kills, last_step = 0, 0
    arguments = [*TRAIN, "--run-dir", str(tmp_path), "--name", "killed"]
    while kills < 10:
        process = start(arguments)
        # Somewhere between interpreter start and a fifth of the whole training.
        time.sleep(rng.uniform(0.1, 0.2) * lasted if kills % 3 else rng.uniform(0.0, 0.1) * lasted)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        if killed.exists():
            arguments = ["train", "--resume", str(killed)]
            steps = Run.open(killed).checkpoints.steps()
            assert not steps or steps[-1] >= last_step, "a checkpoint was lost"
            last_step = steps[-1] if steps else 0
    assert kills >= 5
    if Run.open(killed).info.status != "finished":
        finish(["train", "--resume", str(killed)])
    assert weights(killed) == weights(tmp_path / "straight")
    ours, theirs = Run.open(killed).read_metrics(), Run.open(tmp_path / "straight").read_metrics()
    untimed = [name for name in theirs if not name.startswith("time/") and name != "time"]
    assert ours[untimed].equals(theirs[untimed])
