"""Who pushes whom, what it costs, and that both players learn what the linear theory says they should."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from rlstab.analysis.robustness import linear
from rlstab.controllers import registry
from rlstab.controllers.hinf.game import GameLearner
from rlstab.controllers.hinf.game_config import GameConfig
from rlstab.controllers.runs import configure
from rlstab.envs.disturbance import DecidedForce
from rlstab.envs.linear.systems import SYSTEMS
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError

SMALL = GameConfig(
    n_steps=20,
    batch_size=160,
    n_epochs=2,
    max_force=2.0,
    warmup=0.0,
    ramp=0.0,
    linear_actor=True,
    linear_disturber=True,
    normalize_observation=False,
)


def made(system: str = "S2", num_envs: int = 16, seed: int = 0, total_steps: int = 10_000, **changes: Any):
    config = dataclasses.replace(SMALL, **changes)
    env = make_vec(
        f"rlstab/LinearQuadratic-{system}-v0",
        num_envs,
        seed,
        disturbances=DecidedForce("load", config.max_force, "line"),
        max_episode_steps=100,
    )
    return GameLearner(env, config, total_steps=total_steps, seed=seed)


def test_each_world_is_pushed_by_whom_it_should_be() -> None:
    learner = made(calm_share=0.25, random_share=0.5, disturber_std=0.4)
    learner.collect()
    sizes = learner._intensity.sqrt().numpy()
    assert (sizes[:, :4] == 0.0).all()
    assert (sizes[:, 4:12] >= 1.0 - 1e-6).all()
    assert (sizes[:, 4:12] <= 2.0 + 1e-6).all()
    assert (sizes[:, 12:] <= 2.0 + 1e-6).all()
    decided = learner._forces[:, 12:, 0].abs().numpy() * 2.0
    np.testing.assert_allclose(sizes[:, 12:], np.minimum(decided, 2.0), rtol=1e-5)


def test_a_force_does_to_the_system_what_its_matrix_says() -> None:
    learner = made(calm_share=0.0, random_share=0.0)
    learner.collect()
    system = SYSTEMS["S2"]()
    states = learner._rollout.observations.double().numpy()
    actions = learner._rollout.actions.double().numpy()
    forces = np.clip(2.0 * learner._forces.double().numpy(), -2.0, 2.0)
    expected = states[:-1] @ system.a.T + actions @ system.b.T + forces @ system.e.T
    going_on = learner._rollout.dones.numpy() == 0.0
    np.testing.assert_allclose(states[1:][going_on], expected[going_on], atol=1e-5)
    costs = np.einsum("tni,ij,tnj->tn", states[:-1], system.q, states[:-1])
    costs += np.einsum("tni,ij,tnj->tn", actions, system.r, actions)
    np.testing.assert_allclose(learner._costs.numpy(), costs, rtol=1e-4)


def test_forces_come_after_the_warm_up_and_grow() -> None:
    learner = made(warmup=0.2, ramp=0.4, total_steps=3200)
    limits = []
    for _ in range(10):
        limits.append(learner.iterate()["game/limit"])
    np.testing.assert_allclose(limits, [0.0, 0.0, *np.arange(4) / 2, 2.0, 2.0, 2.0, 2.0], atol=1e-9)


def test_the_disturber_finds_the_worst_feedback_of_a_fixed_loop() -> None:
    """For ``u = -K x`` the game has one player left, whose best linear force solves a Riccati equation."""
    eta, gamma = 6.0, 0.99
    learner = made(
        "S1",
        64,
        n_steps=50,
        batch_size=800,
        n_epochs=5,
        learning_rate=1e-12,
        disturber_learning_rate=5e-3,
        disturber_std=0.1,
        max_force=5.0,
        calm_share=0.0,
        random_share=0.0,
        eta=eta,
        eta_rate=1.0,
        log_std_init=-4.0,
    )
    gain = linear.lqr(SYSTEMS["S1"]())
    with torch.no_grad():
        learner.network.actor.layers[0].weight.copy_(torch.from_numpy(-gain))
        learner.network.actor.layers[0].bias.zero_()
    weights = []
    for _ in range(60):
        learner.iterate()
        weights.append(5.0 * float(learner.disturber.network.actor.layers[0].weight.detach()))
    loop = linear.close(SYSTEMS["S1"](), gain)
    a, b, cost, p = float(loop.a[0, 0]), 1.0, float((loop.c.T @ loop.c)[0, 0]), 0.0
    for _ in range(1000):
        p = cost + gamma * a * a * p + (gamma * a * b * p) ** 2 / (eta - gamma * b * b * p)
    worst = gamma * a * b * p / (eta - gamma * b * b * p)
    # Policy gradients wander about the optimum: the mean of the later ones is what they found.
    assert np.mean(weights[30:]) == pytest.approx(worst, rel=0.35)


def test_training_against_the_disturber_lowers_the_gain() -> None:
    settings: dict[str, Any] = {
        "n_steps": 100,
        "batch_size": 1600,
        "n_epochs": 5,
        "learning_rate": 2e-2,
        "disturber_learning_rate": 2e-2,
        "max_force": 3.0,
        "disturber_std": 0.2,
        "eta": 0.2,
        "eta_rate": 1.0,
        "random_share": 0.0,
        "multiplier": 10.0,
        "multiplier_rate": 0.0,
        "max_grad_norm": 1e3,
    }

    def norm(disturber: str) -> float:
        learner = made("S2", 64, total_steps=256_000, disturber=disturber, **settings)
        for _ in range(40):
            learner.iterate()
        gain = -learner.network.actor.layers[0].weight.detach().double().numpy()
        return linear.h_infinity_norm(linear.close(SYSTEMS["S2"](), gain))[0]

    assert norm("hinf") < 0.9 * norm("none")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_preset_of_s2_ends_near_the_optimal_gain(seed: int) -> None:
    """The pipeline check of the specification: norm at most 1.15 times optimal, and bounded by eta as claimed."""
    config = configure("hinf", "rlstab/LinearQuadratic-S2-v0", seed=seed, num_threads=1)
    learner: Any = registry.get("hinf").make_learner(config)
    while learner.num_timesteps < config.total_steps:
        learner.iterate()
    system = SYSTEMS["S2"]()
    gain = -learner.network.actor.layers[0].weight.detach().double().numpy()
    norm = linear.h_infinity_norm(linear.close(system, gain))[0]
    assert norm <= 1.15 * linear.optimal_level(system)
    assert norm**2 <= 1.1 * learner.dual.eta


def test_it_goes_on_from_a_state_as_if_nothing_had_happened() -> None:
    first = made(random_share=0.25, eta_every=1)
    for _ in range(3):
        first.iterate()
    second = made(random_share=0.25, eta_every=1)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        ours, theirs = first.iterate(), second.iterate()
        timing = [name for name in ours if name.startswith("time/")]
        for name in timing:
            del ours[name], theirs[name]
        assert ours == theirs
    for left, right in zip(first.disturber.network.parameters(), second.disturber.network.parameters(), strict=True):
        assert torch.equal(left, right)


def test_what_cannot_be_played_is_refused() -> None:
    with pytest.raises(UserError, match="pushes through one DecidedForce"):
        GameLearner(make_vec("rlstab/LinearQuadratic-S1-v0", 4), SMALL)
    with pytest.raises(UserError, match=r"add up to 1\.5: at most 1"):
        made(calm_share=0.75, random_share=0.75)
