"""Training is a learner: exact to resume, strict about its settings, and worth a proof where it is fast."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest

from rlstab.analysis.certificates.lyapunov.certifier import deployed_loop
from rlstab.analysis.certificates.lyapunov.certify import certify_largest
from rlstab.controllers import registry
from rlstab.controllers.lyapunov.config import LyapunovConfig
from rlstab.controllers.lyapunov.learner import LyapunovLearner, make_learner
from rlstab.controllers.runs import begin, configure, go_on
from rlstab.errors import UserError
from rlstab.learning.training import resume, train
from rlstab.runs.run import Run

SMALL = LyapunovConfig(
    env="rlstab/PlantPath-v0",
    total_steps=120,
    checkpoint_every=80,
    grid_cells=21,
    fit_share=0.3,
    batch=32,
    buffer=400,
    attack_every=10,
    sweep_every=20,
    sweep_samples=500,
    prove_every=100,
    controller_hidden=(4,),
    lyapunov_hidden=(6,),
)
QUADRATIC = dataclasses.replace(SMALL, lyapunov="quadratic", total_steps=40, checkpoint_every=20, sweep_samples=4000)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second


@pytest.mark.parametrize("config", [SMALL, QUADRATIC], ids=["network", "quadratic"])
def test_a_resumed_training_is_the_same_bit_for_bit(config: LyapunovConfig) -> None:
    whole = make_learner(config)
    while whole.num_timesteps < config.total_steps:
        metrics = whole.iterate()
        assert all(np.isfinite(value) for value in metrics.values())
    first = make_learner(config)
    first.iterate()
    kept = first.state_dict()
    first.iterate()
    # What was taken before is still of that moment.
    second = make_learner(config)
    second.load_state_dict(kept)
    while second.num_timesteps < config.total_steps:
        second.iterate()
    assert _equal(whole.state_dict(), second.state_dict())
    assert whole.policy.level > 0.0


def test_an_interrupted_run_goes_on_and_ends_with_the_same_weights(tmp_path) -> None:
    whole, _ = begin("lyapunov", SMALL, tmp_path, name="whole", tell=lambda line: None)
    stop = threading.Event()
    about = {"method": "lyapunov", "env_id": SMALL.env, "config": whole.info.config, "seed": 0, "command": []}
    parted = Run.create(tmp_path, **about, name="parted", device="cpu", torch_threads=1, total_steps=120)
    learner = make_learner(SMALL)
    summary = train(
        learner, parted, total_steps=120, checkpoint_every=80, stop=stop, on_progress=lambda progress: stop.set()
    )
    assert summary.status == "interrupted"
    again = make_learner(SMALL)
    resume(again, parted)
    assert 0 < again.num_timesteps < 120
    train(again, parted, total_steps=120, checkpoint_every=80)
    weights = [Run.open(run.path).checkpoints.latest() for run in (whole, parted)]
    from rlstab.runs.checkpoint import read_checkpoint

    first, second = (read_checkpoint(path).state["policy"] for path in weights if path is not None)
    assert _equal(first, second)
    # Extended, it goes on where it was.
    assert go_on(whole, total_steps=130, tell=lambda line: None).step == 130


def test_a_quadratic_search_beats_the_lqr_it_starts_from() -> None:
    learner = make_learner(dataclasses.replace(QUADRATIC, total_steps=120, sweep_samples=20_000))
    scores = []
    while learner.num_timesteps < 120:
        scores.append(learner.iterate()["train/volume"])
    assert scores == sorted(scores)
    proof = certify_largest(deployed_loop(learner.policy), seconds=10.0).certificate
    assert proof is not None
    # 15.40 is the literature's best LQR, 19.58 its network.
    assert proof.volume[0] > 18.0
    assert proof.converges


def test_seeds_differ() -> None:
    levels = []
    for seed in (0, 1):
        learner = make_learner(dataclasses.replace(SMALL, seed=seed, total_steps=50))
        learner.iterate()
        levels.append(learner.policy.predict(np.ones(2))[0].item())
    assert levels[0] != levels[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "InvertedPendulum-v5"}, "needs a plant whose equations are known, which InvertedPendulum-v5 is not"),
        ({"env": "rlstab/PlantCartPole-v0"}, "add --lyapunov quadratic"),
        ({"disturbances": "noise=0.1"}, "leave --disturbances out"),
        ({"device": "cuda"}, "CUDA|no GPU|use --device cpu"),
        ({"env_kwargs": {"mass": -1.0}}, "no setting mass"),
    ],
)
def test_what_it_cannot_do_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_learner(dataclasses.replace(SMALL, **changes))


def test_presets_choose_what_a_plant_allows() -> None:
    assert configure("lyapunov", "rlstab/PlantCartPole-v0").lyapunov == "quadratic"
    assert configure("lyapunov", "rlstab/PlantPendulum-v0").lyapunov == "network"
    forced = configure("lyapunov", "rlstab/PlantPath-v0", preset="network")
    assert forced.lyapunov == "network"
    with pytest.raises(UserError, match="kappa"):
        configure("lyapunov", "rlstab/PlantPath-v0", kappa=2.0)
    assert registry.get("lyapunov").native_only


def test_it_is_a_learner_of_the_environment_it_is_given() -> None:
    learner = make_learner(QUADRATIC)
    assert isinstance(learner, LyapunovLearner)
    assert learner.policy.plant == learner.env.task.plant
    learner.close()
