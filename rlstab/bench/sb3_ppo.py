"""Stable-Baselines3's own PPO as a reference run: same hyper-parameters, same report as ours.

Imports nothing of rlstab at module level, so that it can be timed and profiled as a plain SB3 script:
``python -m rlstab.bench.sb3_ppo --env Hopper-v5 --seed 0 --steps 1000000 --out DIR``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium
    from stable_baselines3 import PPO

OnEpisode = Callable[[int, float], bool]
"""Called with environment steps so far and undiscounted return of each training episode; true: stop."""

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


def make_model(env_id: str, seed: int) -> PPO:
    """Build SB3's PPO with `PARITY_HYPERPARAMETERS` on its serial vector environment, its fastest at this size."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    hyper = dict(PARITY_HYPERPARAMETERS)
    num_envs = hyper.pop("num_envs")
    envs = VecNormalize(DummyVecEnv([lambda: _monitored(env_id)] * num_envs), gamma=hyper["gamma"])
    return PPO("MlpPolicy", envs, seed=seed, device="cpu", **hyper)


def learn(model: PPO, total_steps: int, on_episode: OnEpisode) -> None:
    """Train, until ``on_episode`` says stop."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            stop = False
            for info in self.locals["infos"]:
                if "episode" in info:
                    stop = on_episode(self.num_timesteps, float(info["episode"]["r"])) or stop
            return not stop

    model.learn(total_steps, callback=Watch())


def train_and_evaluate(env_id: str, seed: int, total_steps: int, eval_episodes: int = 20) -> dict[str, Any]:
    """Train SB3's PPO with `PARITY_HYPERPARAMETERS` and evaluate it deterministically.

    Returns
    -------
    dict
        ``episodes`` is a list of ``[environment steps so far, undiscounted return]`` of every training
        episode, ``eval_returns`` the deterministic returns, ``train_seconds`` the wall time of ``learn``.
    """
    import torch
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    torch.set_num_threads(1)
    model = make_model(env_id, seed)
    episodes: list[list[float]] = []

    def record(steps: int, episode_return: float) -> bool:
        episodes.append([steps, episode_return])
        return False

    start = time.perf_counter()
    learn(model, total_steps, record)
    train_seconds = time.perf_counter() - start

    trained_on = model.get_vec_normalize_env()
    assert trained_on is not None
    from rlstab.runs.seeding import EVALUATION_SEED

    eval_envs = VecNormalize(DummyVecEnv([lambda: _monitored(env_id)]), training=False, norm_reward=False)
    eval_envs.obs_rms = trained_on.obs_rms
    eval_envs.seed(EVALUATION_SEED + seed)
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
        "episodes": episodes,
        "eval_returns": [float(value) for value in returns],
    }


def main() -> None:
    """Run one reference training and write its JSON."""
    from rlstab.bench import reports

    reports.run(reports.arguments(__doc__).parse_args(), train_and_evaluate)


def _monitored(env_id: str) -> gymnasium.Env:
    import gymnasium
    from stable_baselines3.common.monitor import Monitor

    return Monitor(gymnasium.make(env_id))


if __name__ == "__main__":
    main()
