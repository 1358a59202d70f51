"""`rlstab bench ppo`: end-to-end training speed of PPO, and the time it takes to reach a return."""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlstab.bench.common import BenchmarkResult, Conditions, Measurement, usable_cores
from rlstab.bench.ppo_worker import LEARNERS
from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS
from rlstab.errors import UserError

ABOUT = """
PPO end to end on one task: wall time of collecting and learning together, without imports and compilation. rlstab and
SB3 have identical hyper-parameters (below) and one torch thread; rlstab steps its worlds on all usable cores, SB3 uses
its serial vector environment, the faster of its two at this size. CleanRL's `ppo_continuous_action.py` runs unchanged
with its own defaults (one world, 2,048 steps, 32 minibatches of 64, 10 epochs) on the v4 task of gymnasium 0.29, which
it needs. Repetitions are interleaved; repetition `i` of every implementation has seed `i`. *Steps a second* is over the
first stretch of training; *seconds to return* is when the mean of the last hundred training episodes first reaches it.
"""
SPEED, TIME = "steps/s", "seconds to return"


@dataclass(frozen=True)
class Options:
    """What to measure."""

    env: str = "Hopper-v5"
    """Task."""
    repetitions: int = 5
    """Seeds of each implementation."""
    speed_steps: int = 100_000
    """Environment steps over which the speed is taken."""
    until: float = 2000.0
    """Return to reach. 0: measure speed only."""
    limit_steps: int = 1_500_000
    """Give up reaching the return after this many environment steps."""
    threads: int = field(default_factory=usable_cores)
    """Threads that step our worlds. The default is the number of usable cores."""
    cleanrl: Path | None = None
    """CleanRL's ppo_continuous_action.py, if it is to be compared."""
    cleanrl_python: Path | None = None
    """Interpreter with what that script needs (gymnasium 0.29)."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> BenchmarkResult:
    """Train every implementation ``repetitions`` times for each quantity.

    Raises
    ------
    UserError
        An option is out of range, CleanRL's script or interpreter is missing, or a training fails.
    """
    if options.repetitions < 1 or options.speed_steps < 1 or options.limit_steps < 1:
        raise UserError("repetitions, speed-steps and limit-steps must be at least 1")
    if options.cleanrl is not None and (not options.cleanrl.is_file() or options.cleanrl_python is None):
        raise UserError("--cleanrl needs the path of ppo_continuous_action.py, and --cleanrl-python its interpreter")
    conditions = Conditions.now(options.threads)
    names = [*LEARNERS, *(["CleanRL"] if options.cleanrl else [])]
    samples: dict[tuple[str, str], list[float]] = {}
    notes: dict[tuple[str, str], str] = {}
    for quantity in (SPEED, TIME) if options.until > 0 else (SPEED,):
        for seed in range(options.repetitions):
            for name in names:
                report = _train(name, options, seed, quantity)
                reached = report["reached"]
                if quantity == SPEED:
                    # As a duration, so that one direction is better in the whole table.
                    samples.setdefault((quantity, name), []).append(report["seconds"] / report["steps"] * 1e6)
                elif reached is None:
                    notes[quantity, name] = (
                        f"seed {seed} did not reach {options.until:g} in {options.limit_steps} steps"
                    )
                else:
                    samples.setdefault((quantity, name), []).append(reached["seconds"])
                on_progress(f"{quantity}, seed {seed}, {name}: {json.dumps(report)}")
    labels = {SPEED: "microseconds a step", TIME: f"seconds to return {options.until:g}"}
    measurements = [
        Measurement((labels[quantity],), name, tuple(values), notes.get((quantity, name), ""))
        if (quantity, name) not in notes
        else Measurement((labels[quantity],), name, (), notes[quantity, name])
        for (quantity, name), values in samples.items()
    ]
    return BenchmarkResult(
        name="ppo",
        title="PPO end to end",
        about=ABOUT,
        command="rlstab bench ppo --docs",
        unit="time",
        higher_is_better=False,
        reference="rlstab",
        labels=("quantity",),
        measurements=tuple(measurements),
        conditions=conditions,
        settings={"env": options.env, "seeds": options.repetitions, **PARITY_HYPERPARAMETERS},
    )


def _train(name: str, options: Options, seed: int, quantity: str) -> dict[str, Any]:
    steps = options.speed_steps if quantity == SPEED else options.limit_steps
    until = float("inf") if quantity == SPEED else options.until
    if name == "CleanRL":
        return _train_cleanrl(options, seed, steps, until)
    command = [
        *(sys.executable, "-m", "rlstab.bench.ppo_worker", name, "--env", options.env, "--seed", str(seed)),
        *("--steps", str(steps), "--threads", str(options.threads), "--until", str(until)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        raise UserError(f"{name} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _train_cleanrl(options: Options, seed: int, steps: int, until: float) -> dict[str, Any]:
    """Run the script and read its progress; its clock starts at its first line, after its imports."""
    assert options.cleanrl is not None
    command = [
        *(
            str(options.cleanrl_python),
            "-u",
            str(options.cleanrl.resolve()),
            "--env-id",
            options.env.replace("-v5", "-v4"),
        ),
        *("--seed", str(seed), "--total-timesteps", str(steps), "--no-cuda"),
    ]
    recent: collections.deque[float] = collections.deque(maxlen=100)
    start, step, reached, last = None, 0, None, []
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=_environment()
        )
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line)
            found = re.search(r"global_step=(\d+), episodic_return=\[?([-+.\deE]+)", line)
            if found is None:
                continue
            start = start or time.perf_counter()
            step = int(found[1])
            recent.append(float(found[2]))
            if len(recent) == recent.maxlen and sum(recent) / len(recent) >= until:
                reached = {"steps": step, "seconds": time.perf_counter() - start}
                process.kill()
                break
        end = time.perf_counter()
        if process.wait() and reached is None:
            raise UserError(f"CleanRL's script failed: {last[-1].strip() if last else 'no message'}")
    assert start is not None
    return {"steps": step, "seconds": end - start, "reached": reached}


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
