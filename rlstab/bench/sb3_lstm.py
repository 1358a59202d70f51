"""Recurrent PPO of sb3-contrib as a reference run, on the same batched worlds as ours.

``python -m rlstab.bench.sb3_lstm --env rlstab/PassiveTMaze-v0 --steps 200000 --out DIR --settings '{"n_steps": 104}'``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlstab.bench import reports
from rlstab.bench.trainings import Training

if TYPE_CHECKING:
    from sb3_contrib import RecurrentPPO

DEFAULTS: dict[str, Any] = {
    "num_envs": 16,
    "n_steps": 128,
    "batch_size": 512,
    "n_epochs": 4,
    "learning_rate": 3e-4,
    "learning_rate_schedule": "linear",
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "lstm_hidden_size": 64,
    "n_lstm_layers": 1,
    "hidden_sizes": [],
    "activation": "tanh",
    "normalize_observation": True,
    "normalize_reward": True,
    "log_std_init": 0.0,
}
"""The learning settings are those of our transformer's; the memory is a layer of 64 units each for actor and critic.
``hidden_sizes`` come after it."""


def train_and_evaluate(
    env_id: str, seed: int, total_steps: int, settings: dict[str, Any], name: str = "lstm", eval_episodes: int = 20
) -> dict[str, Any]:
    """Train and evaluate deterministically; see `rlstab.bench.sb3_ppo.train_and_evaluate`.

    ``settings`` override `DEFAULTS`; ``name`` is that of the learner in the report.
    """
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from rlstab.analysis.evaluation import evaluate
    from rlstab.runs.seeding import EVALUATION_SEED

    torch.set_num_threads(1)
    hyper = DEFAULTS | settings
    model = make_model(env_id, seed, hyper)
    episodes: list[list[float]] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    episodes.append([self.num_timesteps, float(info["episode"]["r"])])
            return True

    start, processor_start = time.perf_counter(), time.process_time()
    model.learn(total_steps, callback=Watch())
    train_seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    evaluation = evaluate(_Normalising(model), env_id, episodes=eval_episodes, seed=EVALUATION_SEED + seed)
    return {
        "learner": name,
        "env_id": env_id,
        "seed": seed,
        "total_steps": model.num_timesteps,
        "hyperparameters": hyper,
        "train_seconds": train_seconds,
        "steps_per_second": model.num_timesteps / train_seconds,
        "processor_seconds": processor_seconds,
        "episodes": episodes,
        "eval_returns": [float(value) for value in evaluation.returns],
    }


def make_model(env_id: str, seed: int, hyper: dict[str, Any]) -> RecurrentPPO:
    """Build the learner on the worlds of `rlstab.envs.make_vec`."""
    import torch
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.vec_env import VecNormalize

    from rlstab.envs import make_vec

    hyper = dict(hyper)
    worlds: Any = make_vec(env_id, hyper.pop("num_envs"), seed, num_threads=1)
    envs = VecNormalize(
        worlds.to_sb3(),
        norm_obs=hyper.pop("normalize_observation"),
        norm_reward=hyper.pop("normalize_reward"),
        gamma=hyper["gamma"],
    )
    rate = hyper.pop("learning_rate")
    falls = hyper.pop("learning_rate_schedule") == "linear"
    names = ("lstm_hidden_size", "n_lstm_layers", "log_std_init")
    network = {name: hyper.pop(name) for name in names}
    network["net_arch"] = list(hyper.pop("hidden_sizes"))
    network["activation_fn"] = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[hyper.pop("activation")]
    schedule = (lambda left: rate * left) if falls else rate
    return RecurrentPPO("MlpLstmPolicy", envs, schedule, seed=seed, device="cpu", policy_kwargs=network, **hyper)


class _Normalising:
    """A model and the statistics of its environment as one policy."""

    def __init__(self, model: RecurrentPPO) -> None:
        self._model = model
        self._envs: Any = model.get_vec_normalize_env()
        self.observation_space, self.action_space = model.observation_space, model.action_space

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        seen = self._envs.normalize_obs(observation)
        return self._model.predict(seen, state, episode_start, deterministic)


def training(name: str, env_id: str, seed: int, steps: int, settings: Mapping[str, Any]) -> Training:
    """Describe a training of a study; ``settings`` override `DEFAULTS`."""
    wanted: dict[str, Any] = json.loads(json.dumps(DEFAULTS | dict(settings)))  # As it is in reports: tuples are lists.
    flags = ("--learner", name, "--settings", json.dumps(wanted))
    return Training(name, __name__, env_id, seed, steps, wanted, flags)


def main() -> None:
    """Run one reference training and write its JSON."""
    parser = reports.arguments(__doc__)
    parser.add_argument("--learner", default="lstm", help="name in the report")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON object over the defaults")
    given = parser.parse_args()
    reports.run(given, lambda env, seed, steps: train_and_evaluate(env, seed, steps, given.settings, given.learner))


if __name__ == "__main__":
    main()
