"""Our PPO as a reference run, in the same format as `rlstab.bench.sb3_ppo` writes."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS


def train_and_evaluate(env_id: str, seed: int, total_steps: int, eval_episodes: int = 20) -> dict[str, Any]:
    """Train with `PARITY_HYPERPARAMETERS` and evaluate deterministically; see `rlstab.bench.sb3_ppo`."""
    import torch

    from rlstab.analysis.evaluation import evaluate
    from rlstab.envs.registry import make_vec
    from rlstab.learning.on_policy import OnPolicyLearner
    from rlstab.learning.on_policy_config import OnPolicyConfig

    torch.set_num_threads(1)
    hyper = dict(PARITY_HYPERPARAMETERS)
    env = make_vec(env_id, hyper.pop("num_envs"), seed)
    learner = OnPolicyLearner(env, OnPolicyConfig(**hyper), total_steps=total_steps, seed=seed)
    episodes: list[list[float]] = []
    learner.on_episode = lambda steps, episode_return, _: episodes.append([steps, episode_return])
    start = time.perf_counter()
    while learner.num_timesteps < total_steps:
        learner.iterate()
    train_seconds = time.perf_counter() - start
    evaluation = evaluate(learner.policy, env_id, episodes=eval_episodes, seed=10_000 + seed)
    return {
        "learner": "rlstab",
        "env_id": env_id,
        "seed": seed,
        "total_steps": learner.num_timesteps,
        "hyperparameters": PARITY_HYPERPARAMETERS,
        "train_seconds": train_seconds,
        "steps_per_second": learner.num_timesteps / train_seconds,
        "episodes": episodes,
        "eval_returns": [float(value) for value in evaluation.returns],
    }


def main() -> None:
    """Run one reference training and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    result = train_and_evaluate(args.env, args.seed, args.steps)
    path = args.out / f"rlstab-{args.env}-{args.seed}.json"
    path.write_text(json.dumps(result))
    mean = sum(result["eval_returns"]) / len(result["eval_returns"])
    print(f"{path}: eval mean {mean:.1f}, {result['steps_per_second']:.0f} steps/s")


if __name__ == "__main__":
    main()
