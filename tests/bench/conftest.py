from __future__ import annotations

import argparse
import functools
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlstab.bench import method_worker, reports, rlstab_ppo, sb3_lstm, sb3_ppo, study, trainings

GIT = {"commit": "c0ffee" * 7, "branch": "main", "dirty": False}


def make_report(
    learner: str, env: str, seed: int, steps: int, hyperparameters: dict[str, Any], **fields: Any
) -> dict[str, Any]:
    """What a training script writes."""
    rollout = hyperparameters["num_envs"] * hyperparameters["n_steps"]
    total = -(-steps // rollout) * rollout
    value = 1000.0 + 10 * seed
    return {
        "learner": learner,
        "env_id": env,
        "seed": seed,
        "total_steps": total,
        "hyperparameters": hyperparameters,
        "train_seconds": 1.0,
        "steps_per_second": float(total),
        "episodes": [[total * part // 4, value * part / 4] for part in range(1, 5)],
        "eval_returns": [value - 1, value + 1],
        "requested_steps": steps,
        "git": GIT,
        "versions": {"python": "3.11", "torch": "2.11"},
        "date": "2026-01-02",
        **fields,
    }


class FakeTrainings:
    """Stands in for the processes that train: remembers which were started, and writes what they would write."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, int]] = []
        self.environments: list[dict[str, str]] = []
        self.change: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda report: report
        self.fail: tuple[str, str, int] | None = None

    report = staticmethod(make_report)

    def run(self, command: list[str], env: dict[str, str], **_: Any) -> types.SimpleNamespace:
        module, flags = command[2], command[3:]
        parser = reports.arguments(None)
        parser.add_argument("--preset", action="store_true")
        parser.add_argument("--method")
        parser.add_argument("--learner")
        parser.add_argument("--settings", type=json.loads, default={})
        given = parser.parse_args(flags)
        learner, hyperparameters = self._learner(module, given)
        job = (learner, given.env, given.seed)
        self.begun.append(job)
        self.environments.append(env)
        if job == self.fail:
            return types.SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nValueError: no such physics\n")
        report = self.change(make_report(learner, given.env, given.seed, given.steps, hyperparameters))
        if report is not None:
            reports.report_path(given.out, learner, given.env, given.seed).write_text(json.dumps(report))
        return types.SimpleNamespace(returncode=0, stdout="", stderr="")

    def _learner(self, module: str, given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
        if module == sb3_ppo.__name__:
            return "sb3", sb3_ppo.PARITY_HYPERPARAMETERS
        if module == sb3_lstm.__name__:
            return given.learner, given.settings
        if module == method_worker.__name__:
            wanted = method_worker.training(
                given.method, given.learner, given.env, given.seed, given.steps, given.settings
            )
            return given.learner, dict(wanted.hyperparameters)
        configure = rlstab_ppo.preset_config if given.preset else rlstab_ppo.parity_config
        config = configure(given.env, given.seed, given.steps)
        return "preset" if given.preset else "rlstab", rlstab_ppo.hyperparameters(config)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTrainings:
    """Trainings that take no time."""
    fake = FakeTrainings()
    # Intervals are the library's business; here they only cost time.
    monkeypatch.setattr(study, "aggregate", functools.partial(study.aggregate, resamples=200))
    monkeypatch.setattr(study, "learning_curve", functools.partial(study.learning_curve, resamples=20))
    monkeypatch.setattr(trainings, "subprocess", types.SimpleNamespace(run=fake.run))
    return fake


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder for reports."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
