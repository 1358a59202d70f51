"""Trains one PPO implementation in a process of its own and reports when its return passes a threshold.

Prints one JSON object: environment steps, wall seconds of training alone, and the steps and seconds at which the mean
return of the last hundred training episodes first reached the threshold (null if it did not).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS

OnEpisode = Callable[[int, float], bool]


def train_rlstab(env_id: str, seed: int, steps: int, threads: int, on_episode: OnEpisode) -> int:
    """Train ours; returns the steps taken."""
    from rlstab.envs.registry import make_vec
    from rlstab.learning.on_policy import OnPolicyLearner
    from rlstab.learning.on_policy_config import OnPolicyConfig

    hyper = dict(PARITY_HYPERPARAMETERS)
    env = make_vec(env_id, hyper.pop("num_envs"), seed, num_threads=threads)
    learner = OnPolicyLearner(env, OnPolicyConfig(**hyper), total_steps=steps, seed=seed)
    done = False

    def note(step: int, episode_return: float, _: int) -> None:
        nonlocal done
        done = on_episode(step, episode_return) or done

    learner.on_episode = note
    while learner.num_timesteps < steps and not done:
        learner.iterate()
    return learner.num_timesteps


def train_sb3(env_id: str, seed: int, steps: int, threads: int, on_episode: OnEpisode) -> int:
    """Train Stable-Baselines3's on its serial vector environment, which is its fastest at these sizes."""
    del threads
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    hyper: dict[str, Any] = dict(PARITY_HYPERPARAMETERS)
    num_envs = hyper.pop("num_envs")

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            reached = False
            for info in self.locals["infos"]:
                if "episode" in info:
                    reached = on_episode(self.num_timesteps, info["episode"]["r"]) or reached
            return not reached

    envs = VecNormalize(DummyVecEnv([lambda: Monitor(gymnasium.make(env_id))] * num_envs), gamma=hyper["gamma"])
    model = PPO("MlpPolicy", envs, seed=seed, device="cpu", **hyper)
    model.learn(steps, callback=Watch())
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
