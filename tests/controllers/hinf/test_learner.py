from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.controllers import registry
from rlstab.controllers.runs import begin, configure, go_on
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.policies.loading import load_policy
from rlstab.sim2real.layout import layout_of


def test_a_robot_is_trained_on_and_pushed() -> None:
    settings = {"n_steps": 16, "batch_size": 64, "num_envs": 8, "warmup": 0.0, "ramp": 0.0, "hidden_sizes": (16,)}
    learner: Any = registry.get("hinf").make_learner(configure("hinf", "Hopper-v5", total_steps=1000, **settings))
    metrics = learner.iterate()
    assert metrics["game/force"] > 0.0
    assert 0.0 <= metrics["game/cost"] <= 1.0
    assert learner.env.disturbances[0].max_force == pytest.approx(0.15 * 155.0, rel=0.02)
    action, _ = learner.predict(np.zeros((8, 11)), deterministic=True)
    assert action.shape == (8, 3)


def test_a_run_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    settings = {"n_steps": 10, "batch_size": 40, "num_envs": 8, "checkpoint_every": 80}
    config = configure("hinf", "rlstab/LinearQuadratic-S2-v0", total_steps=160, **settings)
    run, summary = begin("hinf", config, tmp_path, name="s2")
    assert summary.status == "finished"
    assert go_on(run, total_steps=320).status == "finished"
    policy: Any = load_policy(run, "last")
    assert len(policy.module.actor.layers) == 1
    assert len(policy.module.critic.layers) == 3
    layout = layout_of(make_vec("rlstab/LinearQuadratic-S2-v0"))
    assert [field.name for field in layout.observation.fields] == ["state/0", "state/1"]


def test_a_fall_needs_a_discount() -> None:
    with pytest.raises(UserError, match="gamma must be below 1"):
        registry.get("hinf").make_learner(configure("hinf", "Hopper-v5", gamma=1.0))


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("CartPole-v1", "CartPole-v1 is none"),
        ("Reacher-v5", "which body of Reacher-v5 to push: name it with --body"),
    ],
)
def test_what_cannot_be_pushed_is_refused(env_id: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        registry.get("hinf").make_learner(configure("hinf", env_id))
