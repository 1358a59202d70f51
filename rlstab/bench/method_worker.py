"""Any rlstab method as a reference run, with the report of `rlstab.bench.reports`.

``python -m rlstab.bench.method_worker --method ppo --learner mlp --env Hopper-v5 --steps 100000 --out DIR
--settings '{"gamma": 0.98}'``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlstab.bench import reports
from rlstab.bench.trainings import Training
from rlstab.controllers import registry
from rlstab.controllers.config import BaseConfig
from rlstab.controllers.runs import configure
from rlstab.errors import NonFiniteState
from rlstab.runs.config import to_json
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.learning.on_policy import OnPolicyLearner

_KEPT = 60
_WATCHED = ("attention/", "train/gradient_norm", "train/approx_kl", "train/entropy")


def worker_config(method: str, env_id: str, seed: int, total_steps: int, settings: Mapping[str, Any]) -> BaseConfig:
    """Configure the environment's preset of a method, with some settings changed."""
    return configure(method, env_id, seed=seed, total_steps=total_steps, num_threads=1, **settings)


def hyperparameters(method: str, config: BaseConfig) -> dict[str, Any]:
    """Pick what determines the learning, as plain JSON values: the method's own settings and the number of worlds."""
    common = {field.name for field in dataclasses.fields(BaseConfig)} - {"num_envs"}
    return {"method": method, **{name: value for name, value in to_json(config).items() if name not in common}}


def train_and_evaluate(method: str, config: BaseConfig, name: str, eval_episodes: int = 20) -> dict[str, Any]:
    """Train and evaluate deterministically.

    Returns
    -------
    dict
        As `rlstab.bench.sb3_ppo.train_and_evaluate` gives, and ``processor_seconds``, of the training; ``metrics``:
        rows of some scalars of the log, thinned out, each with its ``step``; ``diverged``: whether weights became NaN
        or infinite, which ends the training with the returns of its last episodes in place of an evaluation;
        ``history``: for policies with memory, the summary of `rlstab.analysis.history.history_gains`.
    """
    import torch

    from rlstab.analysis.evaluation import evaluate

    torch.set_num_threads(1)
    learner: OnPolicyLearner = registry.get(method).make_learner(config)  # pyright: ignore[reportAssignmentType]
    episodes: list[list[float]] = []
    learner.on_episode = lambda steps, episode_return, _: episodes.append([steps, episode_return])
    metrics: list[dict[str, float]] = []
    diverged = False
    clock = _Clock()
    while learner.num_timesteps < config.total_steps:
        try:
            found = learner.iterate()
        except (RuntimeError, NonFiniteState):
            diverged = not _is_finite(learner)
            if diverged:
                break
            raise
        row = {key: value for key, value in found.items() if key.startswith(_WATCHED) and math.isfinite(value)}
        if any(key.startswith("attention/") for key in row):
            with clock.stopped():
                metrics.append({"step": learner.num_timesteps, **row, **_layer_gains(learner.policy, config)})
    train_seconds, processor_seconds = clock.read()
    diverged = diverged or not _is_finite(learner)
    if diverged:
        returns = [value for _, value in episodes[-eval_episodes:]]
    else:
        evaluation = evaluate(learner.policy, config.env, episodes=eval_episodes, seed=EVALUATION_SEED + config.seed)
        returns = [float(value) for value in evaluation.returns]
    return {
        "learner": name,
        "env_id": config.env,
        "seed": config.seed,
        "total_steps": learner.num_timesteps,
        "hyperparameters": hyperparameters(method, config),
        "train_seconds": train_seconds,
        "steps_per_second": learner.num_timesteps / train_seconds,
        "processor_seconds": processor_seconds,
        "episodes": episodes,
        "metrics": metrics[:: math.ceil(len(metrics) / _KEPT) or 1],
        "eval_returns": returns,
        "diverged": diverged,
        "history": None if diverged else _history(learner.policy, config),
    }


class _Clock:
    """Seconds and processor seconds since it was made, less those while it was stopped."""

    def __init__(self) -> None:
        self._begin = np.array(self._now())

    def read(self) -> tuple[float, float]:
        seconds, processor_seconds = np.array(self._now()) - self._begin
        return float(seconds), float(processor_seconds)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        before = np.array(self._now())
        yield
        self._begin += np.array(self._now()) - before

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def _is_finite(learner: OnPolicyLearner) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in learner.network.parameters())


def _history(policy: Any, config: BaseConfig) -> dict[str, Any] | None:
    from gymnasium import spaces

    from rlstab.analysis.history import first_steps, history_gains
    from rlstab.policies.transformer.policy import TransformerPolicy

    if not isinstance(policy, TransformerPolicy) or not isinstance(policy.observation_space, spaces.Box):
        return None
    steps = policy.module.receptive_field + 1
    return history_gains(policy.module, *first_steps(policy, config.env, steps, seed=EVALUATION_SEED)).summary()


def _layer_gains(policy: Any, config: BaseConfig) -> dict[str, float]:
    """How much attention amplifies changes of its input at the beginning of some episodes, and the proved bound of it.

    ``attention/layer0/gain`` is estimated from below; sigmoid's has ``attention/layer0/certified_gain``.
    """
    import torch

    from rlstab.analysis.certificates.attention import certify_attention, jacobian_norms
    from rlstab.analysis.history import first_steps
    from rlstab.policies.transformer.network import Sequences
    from rlstab.policies.transformer.policy import TransformerPolicy

    if not isinstance(policy, TransformerPolicy):
        return {}
    network, inputs = policy.module, []
    shape = network.transformer.config
    observations, actions = first_steps(policy, config.env, shape.window, episodes=4, seed=EVALUATION_SEED)
    steps = torch.arange(observations.shape[1]).expand(observations.shape[:2])
    with torch.no_grad():
        network.encode(Sequences(observations, actions, steps == 0, steps), keep=inputs)
    figures = {}
    for index, (block, stream) in enumerate(zip(network.transformer.layers, inputs, strict=True)):
        x = block.attention_norm(stream).detach()
        figures[f"attention/layer{index}/gain"] = float(jacobian_norms(block.attention, x).max())
        if shape.attention == "sigmoid":
            bounds = [certify_attention(block.attention, sequence).local for sequence in x]
            figures[f"attention/layer{index}/certified_gain"] = max(bounds)
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def training(method: str, name: str, env_id: str, seed: int, steps: int, settings: Mapping[str, Any]) -> Training:
    """Describe a training of a study."""
    wanted = hyperparameters(method, worker_config(method, env_id, seed, steps, settings))
    flags = ("--method", method, "--learner", name, "--settings", json.dumps(dict(settings)))
    return Training(name, __name__, env_id, seed, steps, wanted, flags)


def main() -> None:
    """Run one training and write its JSON."""
    parser = reports.arguments(__doc__)
    parser.add_argument("--method", required=True)
    parser.add_argument("--learner", required=True, help="name in the report")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON object of settings over the preset")
    given = parser.parse_args()

    def train(env: str, seed: int, steps: int) -> dict[str, Any]:
        return train_and_evaluate(
            given.method, worker_config(given.method, env, seed, steps, given.settings), given.learner
        )

    reports.run(given, train)


if __name__ == "__main__":
    main()
