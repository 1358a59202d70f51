"""Trains one PPO implementation in a process of its own and reports when its return passes a threshold.

Prints one JSON object: environment steps, wall seconds of training alone, and the steps and seconds at which the mean
return of the last hundred training episodes first reached the threshold (null if it did not).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque

from rlstab.bench import rlstab_ppo, sb3_ppo
from rlstab.bench.sb3_ppo import OnEpisode


def train_rlstab(env_id: str, seed: int, steps: int, threads: int, on_episode: OnEpisode) -> int:
    """Train ours; returns the steps taken."""
    learner = rlstab_ppo.make_learner(rlstab_ppo.parity_config(env_id, seed, steps, threads))
    rlstab_ppo.learn(learner, steps, on_episode)
    return learner.num_timesteps


def train_sb3(env_id: str, seed: int, steps: int, threads: int, on_episode: OnEpisode) -> int:
    """Train Stable-Baselines3's, which steps its worlds one after the other."""
    del threads
    model = sb3_ppo.make_model(env_id, seed)
    sb3_ppo.learn(model, steps, on_episode)
    return model.num_timesteps


LEARNERS = {"rlstab": train_rlstab, "SB3": train_sb3}


def main() -> None:
    """Train once and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("learner", choices=list(LEARNERS))
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--until", type=float, default=float("inf"))
    args = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    recent: deque[float] = deque(maxlen=100)
    reached: dict[str, float] = {}
    start = 0.0

    def on_episode(step: int, episode_return: float) -> bool:
        recent.append(episode_return)
        if not reached and len(recent) == recent.maxlen and sum(recent) / len(recent) >= args.until:
            reached.update(steps=step, seconds=time.perf_counter() - start)
        return bool(reached)

    train = LEARNERS[args.learner]
    train(args.env, args.seed, 1, args.threads, lambda *_: False)  # Imports and compilation are not training.
    start = time.perf_counter()
    steps = train(args.env, args.seed, args.steps, args.threads, on_episode)
    print(json.dumps({"steps": steps, "seconds": time.perf_counter() - start, "reached": reached or None}))


if __name__ == "__main__":
    main()
