"""Our PPO as a reference run, with the same report as `rlstab.bench.sb3_ppo` writes.

With the hyper-parameters of the parity study, or (``--preset``) with those of the task's preset.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from rlstab.bench import reports
from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS, OnEpisode
from rlstab.controllers.baselines.ppo.config import PPOConfig
from rlstab.controllers.runs import configure
from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.runs.config import to_json
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.learning.on_policy import OnPolicyLearner


def parity_config(env_id: str, seed: int, total_steps: int, num_threads: int = 1) -> PPOConfig:
    """Configure `PARITY_HYPERPARAMETERS`, with our defaults, which are SB3's, for what they leave open."""
    return _config(
        env_id, preset="none", seed=seed, total_steps=total_steps, num_threads=num_threads, **PARITY_HYPERPARAMETERS
    )


def preset_config(env_id: str, seed: int, total_steps: int, num_threads: int = 1) -> PPOConfig:
    """Configure what `rlstab train ppo --env ENV_ID` uses, but for the length."""
    return _config(env_id, preset=None, seed=seed, total_steps=total_steps, num_threads=num_threads)


def hyperparameters(config: PPOConfig) -> dict[str, Any]:
    """Pick what determines the learning, as plain JSON values."""
    names = ["num_envs", *(field.name for field in dataclasses.fields(OnPolicyConfig))]
    values = to_json(config)
    return {name: values[name] for name in names}


def make_learner(config: PPOConfig) -> OnPolicyLearner:
    """Build the learner and its environment."""
    from rlstab.controllers.baselines.ppo.learner import make_learner

    return make_learner(config)


def learn(learner: OnPolicyLearner, total_steps: int, on_episode: OnEpisode) -> None:
    """Train, until ``on_episode`` says stop; a rollout is finished first."""
    stop = False

    def note(steps: int, episode_return: float, _: int) -> None:
        nonlocal stop
        stop = on_episode(steps, episode_return) or stop

    learner.on_episode = note
    while learner.num_timesteps < total_steps and not stop:
        learner.iterate()


def train_and_evaluate(config: PPOConfig, name: str = "rlstab", eval_episodes: int = 20) -> dict[str, Any]:
    """Train and evaluate deterministically; see `rlstab.bench.sb3_ppo`. ``name`` is that of the learner."""
    import torch

    from rlstab.analysis.evaluation import evaluate

    torch.set_num_threads(1)
    learner = make_learner(config)
    episodes: list[list[float]] = []

    def record(steps: int, episode_return: float) -> bool:
        episodes.append([steps, episode_return])
        return False

    start = time.perf_counter()
    learn(learner, config.total_steps, record)
    train_seconds = time.perf_counter() - start
    evaluation = evaluate(learner.policy, config.env, episodes=eval_episodes, seed=EVALUATION_SEED + config.seed)
    return {
        "learner": name,
        "env_id": config.env,
        "seed": config.seed,
        "total_steps": learner.num_timesteps,
        "hyperparameters": hyperparameters(config),
        "train_seconds": train_seconds,
        "steps_per_second": learner.num_timesteps / train_seconds,
        "episodes": episodes,
        "eval_returns": [float(value) for value in evaluation.returns],
    }


def main() -> None:
    """Run one reference training and write its JSON."""
    parser = reports.arguments(__doc__)
    parser.add_argument("--preset", action="store_true", help="settings of `rlstab train ppo` instead of SB3's")
    given = parser.parse_args()
    configure, name = (preset_config, "preset") if given.preset else (parity_config, "rlstab")
    reports.run(given, lambda env, seed, steps: train_and_evaluate(configure(env, seed, steps), name))


def _config(env_id: str, **settings: Any) -> PPOConfig:
    config = configure("ppo", env_id, **settings)
    assert isinstance(config, PPOConfig)
    return config


if __name__ == "__main__":
    main()
