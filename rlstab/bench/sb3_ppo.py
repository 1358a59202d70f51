"""Stable-Baselines3's own PPO as a reference run: same hyper-parameters, same log format as ours.

Imports nothing of rlstab at module level, so that it can be timed and profiled as a plain SB3 script:
``python -m rlstab.bench.sb3_ppo --env Hopper-v5 --seed 0 --steps 1000000 --out DIR``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

# Shared by the parity study and the speed benchmark: SB3's defaults at eight environments, plus
# observation and return normalisation, which every published MuJoCo recipe uses.
PARITY_HYPERPARAMETERS: dict[str, Any] = {
    "num_envs": 8,
    "n_steps": 256,
    "batch_size": 64,
    "n_epochs": 10,
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
}


def train_and_evaluate(env_id: str, seed: int, total_steps: int, eval_episodes: int = 20) -> dict[str, Any]:
    """Train SB3's PPO with `PARITY_HYPERPARAMETERS` and evaluate it deterministically.

    Returns
    -------
    dict
        ``episodes`` is a list of ``[environment steps so far, undiscounted return]`` of every training
        episode, ``eval_returns`` the deterministic returns, ``train_seconds`` the wall time of ``learn``.
    """
    import gymnasium
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    torch.set_num_threads(1)
    hyper = dict(PARITY_HYPERPARAMETERS)
    num_envs = hyper.pop("num_envs")

    class RecordEpisodes(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.episodes: list[list[float]] = []

        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    self.episodes.append([self.num_timesteps, float(info["episode"]["r"])])
            return True

    def make() -> gymnasium.Env:
        return Monitor(gymnasium.make(env_id))

    envs = VecNormalize(DummyVecEnv([make for _ in range(num_envs)]), gamma=hyper["gamma"])
    model = PPO("MlpPolicy", envs, seed=seed, device="cpu", **hyper)
    record = RecordEpisodes()
    start = time.perf_counter()
    model.learn(total_steps, callback=record)
    train_seconds = time.perf_counter() - start

    eval_envs = VecNormalize(DummyVecEnv([make]), training=False, norm_reward=False)
    eval_envs.obs_rms = envs.obs_rms
    eval_envs.seed(10_000 + seed)
    returns, _ = evaluate_policy(model, eval_envs, eval_episodes, deterministic=True, return_episode_rewards=True)
    assert isinstance(returns, list)
    return {
        "learner": "sb3",
        "env_id": env_id,
        "seed": seed,
        "total_steps": model.num_timesteps,
        "hyperparameters": PARITY_HYPERPARAMETERS,
        "train_seconds": train_seconds,
        "steps_per_second": model.num_timesteps / train_seconds,
        "episodes": record.episodes,
        "eval_returns": [float(value) for value in returns],
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
    path = args.out / f"sb3-{args.env}-{args.seed}.json"
    path.write_text(json.dumps(result))
    mean = sum(result["eval_returns"]) / len(result["eval_returns"])
    print(f"{path}: eval mean {mean:.1f}, {result['steps_per_second']:.0f} steps/s")


if __name__ == "__main__":
    main()
