"""A learner of no use but with everything a checkpoint must carry; as a program, it trains in a process of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rlstab.runs.state import StateTree


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


def main() -> None:
    """``toy_learner.py RUN TOTAL_STEPS CHECKPOINT_EVERY``: go on with a run, printing the step after each unit."""
    from rlstab.learning.training import resume, train
    from rlstab.runs.run import Run

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
