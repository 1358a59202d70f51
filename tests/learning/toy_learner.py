"""A learner of no use but with everything a checkpoint must carry, and what its trainings leave behind.

As a program, it trains in a process of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlstab.learning.training import resume, train
from rlstab.runs.checkpoint import read_checkpoint
from rlstab.runs.metrics import read_lines
from rlstab.runs.run import Run, list_runs
from rlstab.runs.state import StateTree
from rlstab.runs.tensors import digest_file


class ToyLearner:
    """Each unit of work is ten steps of a random walk; a generator, a counter and a memory decide what follows."""

    policy: Any = None
    env: Any = None

    def __init__(self, seed: int = 0, size: int = 50, unit_s: float = 0.0) -> None:
        self.num_timesteps = 0
        self._rng = np.random.Generator(np.random.Philox(seed))
        self._weights = np.zeros(size)
        self._episodes: list[float] = []
        self._unit_s = unit_s

    def iterate(self) -> dict[str, float]:
        time.sleep(self._unit_s)
        self._weights = 0.99 * self._weights + self._rng.standard_normal(self._weights.size)
        self.num_timesteps += 10
        metrics = {"train/loss_value": float(self._weights.std()), "time/steps_per_second": time.time()}
        if self._rng.random() < 0.5:
            self._episodes = [*self._episodes, float(self._weights.mean())][-5:]
            metrics["rollout/return_mean"] = float(np.mean(self._episodes))
        return metrics

    def state_dict(self) -> StateTree:
        return {
            "policy": {"kind": "toy", "weights": self._weights},
            "rng": self._rng.bit_generator.state,
            "episodes": list(self._episodes),
            "num_timesteps": self.num_timesteps,
        }

    def load_state_dict(self, tree: StateTree) -> None:
        self._weights = tree["policy"]["weights"]
        self._rng.bit_generator.state = tree["rng"]
        self._episodes = list(tree["episodes"])
        self.num_timesteps = tree["num_timesteps"]

    def close(self) -> None:
        pass


def new_run(root: Path, name: str = "run") -> Run:
    return Run.create(
        root, method="toy", env_id="Toy-v0", config={}, seed=0, device="cpu", command=["rlstab", "train"], name=name
    )


def outcome(run: Run) -> dict[str, Any]:
    """Everything that must not depend on what happened on the way; times of day do."""
    folder = run.checkpoints.folder
    timed = {"time", "time/elapsed_s", "time/steps_per_second"}
    best = run.checkpoints.best()
    return {
        "tensors": {path.name: digest_file(path / "tensors.safetensors").sha256 for path in sorted(folder.iterdir())},
        "state": {step: str(read_checkpoint(run.checkpoints.at(step)).state) for step in run.checkpoints.steps()},
        "best": best and best.name,
        "metrics": [
            {name: value for name, value in line.items() if name not in timed}
            for line in read_lines(run.path / "metrics.jsonl")
        ],
        "status": Run.open(run.path).info.status,
    }


def uninterrupted(root: Path, **settings: Any) -> dict[str, Any]:
    run = new_run(root, f"reference-{len(list_runs(root))}")
    train(ToyLearner(), run, **settings)
    return outcome(run)


def at_step(learner: Any, step: int, act: Callable[[], None]) -> Any:
    """Let something happen in the middle of the unit of work that reaches a step."""
    iterate = learner.iterate

    def acting() -> dict[str, float]:
        metrics = iterate()
        if learner.num_timesteps == step:
            act()
        return metrics

    learner.iterate = acting
    return learner


def main() -> None:
    """``toy_learner.py RUN TOTAL_STEPS CHECKPOINT_EVERY``: go on with a run, printing the step after each unit."""
    run = Run.open(Path(sys.argv[1]))
    learner = ToyLearner(size=20_000, unit_s=0.001)
    with run.lock():
        resume(learner, run)
        summary = train(
            learner,
            run,
            total_steps=int(sys.argv[2]),
            checkpoint_every=int(sys.argv[3]),
            on_progress=lambda progress: print(progress.step, flush=True),
        )
    print(summary.message)


if __name__ == "__main__":
    main()
