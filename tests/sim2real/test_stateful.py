"""Policies with memory, from the network to the robot."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

from rlstab.envs import make_vec
from rlstab.errors import UserError
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.policy import TransformerPolicy
from rlstab.sim2real.artefact import read_artefact
from rlstab.sim2real.contract import Contract, RecurrentState, Training
from rlstab.sim2real.export import export_policy
from rlstab.sim2real.layout import layout_of
from rlstab.sim2real.policy_onnx import OnnxPolicy

ROBOT, MAZE = "InvertedPendulum-v5", "rlstab/PassiveTMaze-v0"
Robot: TypeAlias = tuple[TransformerPolicy, Path]
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"attention": "softmax", "positions": "alibi", "residual": "plain", "sigma_reparam": True},
    {"score_bias": "head", "kv_heads": 1, "layer_scale": 0.5, "output_norm": True, "previous_action": False},
    {"observation_change": True, "num_layers": 2},
    {"separate_critic": True},
)


def made(env_id: str, folder: Path, shape: dict[str, Any] | None = None) -> Robot:
    """A policy whose actions depend on what it remembers, and its export."""
    env = make_vec(env_id, 2)
    config = TransformerConfig(**{"width": 16, "num_heads": 2, "window": 5, **(shape or {})})
    policy = TransformerPolicy(env.single_observation_space, env.single_action_space, config=config, seed=1)
    network, generator = policy.module, torch.Generator().manual_seed(0)
    for statistics in (network.normalizer, network.change_normalizer):
        if statistics is not None:
            statistics.update(0.3 + 2.0 * torch.randn(50, network.size, generator=generator))
    with torch.no_grad():
        network.actor.layers[-1].weight.mul_(30.0)
    artefact = export_policy(policy, folder / "policy.onnx", layout_of(env, env_id), Training(env_id))
    env.close()
    return policy, artefact.path


def observations_of(policy: TransformerPolicy, steps: int = 20) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((steps, 3, *policy.observation_space.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    return made(ROBOT, tmp_path_factory.mktemp("robot"))


@pytest.mark.parametrize(("env_id", "shape"), [(MAZE, SHAPES[0]), *((ROBOT, shape) for shape in SHAPES[1:])], ids=str)
def test_the_file_acts_as_the_policy_with_resets(env_id: str, shape: dict[str, Any], tmp_path: Path) -> None:
    policy, path = made(env_id, tmp_path, shape)
    exported = OnnxPolicy.load(path)
    state = other = None
    rng = np.random.default_rng(1)
    distinct = set()
    for observation in observations_of(policy):
        starts = rng.random(3) < 0.15
        ours, state = policy.predict(observation, state, starts, deterministic=True)
        theirs, other = exported.predict(observation, other, starts)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        distinct |= set(np.round(theirs.ravel(), 6).tolist())
    assert len(distinct) > 1


def test_the_critics_own_transformer_is_not_exported(tmp_path: Path) -> None:
    sizes = []
    for own in (False, True):
        (folder := tmp_path / str(own)).mkdir()
        sizes.append(made(ROBOT, folder, {"separate_critic": own})[1].stat().st_size)
    # Only the provenance that the file carries may differ.
    assert abs(sizes[0] - sizes[1]) < 100


def test_memory_matters_and_an_episode_begins_without_it(robot: Robot) -> None:
    policy, path = robot
    exported = OnnxPolicy.load(path)
    first, second = observations_of(policy, 2)
    fresh, _ = exported.predict(second)
    _, state = exported.predict(first)
    before = [part.copy() for part in state]
    remembered, _ = exported.predict(second, state)
    again, _ = exported.predict(second, state, np.array([True, False, True]))
    assert not np.allclose(fresh, remembered)
    np.testing.assert_array_equal(again[[0, 2]], fresh[[0, 2]])
    np.testing.assert_array_equal(again[1], remembered[1])
    for part, copy in zip(state, before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_a_single_observation_has_a_state_of_its_own(robot: Robot) -> None:
    policy, path = robot
    exported = OnnxPolicy.load(path)
    state = other = None
    for observation in observations_of(policy):
        batch, state = exported.predict(observation, state)
        alone, other = exported.predict(observation[1], other)
        np.testing.assert_allclose(alone, batch[1], rtol=1e-5, atol=1e-6)


def test_the_contract_names_the_state(robot: Robot) -> None:
    _, path = robot
    contract = read_artefact(path).contract
    assert contract.policy_type == "recurrent"
    assert contract.recurrent[:3] == (
        RecurrentState("count", ()),
        RecurrentState("previous", (1,)),
        RecurrentState("keys_0", (2, 5, 8)),
    )
    assert Contract.from_json(contract.to_json(), "here") == contract


def test_the_state_of_another_batch_is_refused(robot: Robot) -> None:
    policy, path = robot
    exported = OnnxPolicy.load(path)
    observation = observations_of(policy)[0]
    _, state = exported.predict(observation)
    with pytest.raises(UserError, match="the state is that of 3 environments, there are 2 observations"):
        exported.predict(observation[:2], state)


def test_a_contract_with_other_states_is_refused(robot: Robot) -> None:
    _, path = robot
    artefact = read_artefact(path)
    fewer = dataclasses.replace(artefact.contract, recurrent=artefact.contract.recurrent[:-1])
    with pytest.raises(UserError, match=r"carries the states .* its contract names"):
        OnnxPolicy(artefact.model, fewer)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy_type": "oracle"}, "policy_type is 'oracle'"),
        ({"policy_type": "feedforward"}, "policy_type is 'feedforward', and there are 6 recurrent states"),
        ({"recurrent": ()}, "policy_type is 'recurrent', and there are 0 recurrent states"),
        ({"recurrent": (RecurrentState("a", ()),) * 2}, "two recurrent states have the same name"),
        ({"recurrent": (RecurrentState("a", (0,)),)}, "every extent must be positive"),
    ],
)
def test_contracts_that_cannot_be_are_named(changes: dict[str, Any], words: str, robot: Robot) -> None:
    _, path = robot
    contract = dataclasses.replace(read_artefact(path).contract, **changes)
    assert words in contract.contradiction()


def test_a_network_that_forgets_is_caught_by_the_test_vectors(robot: Robot) -> None:
    _, path = robot
    artefact = read_artefact(path)
    policy = OnnxPolicy(artefact.model, artefact.contract)
    policy.check_test_vectors()
    remembering = policy.predict
    policy.predict = lambda observation, state=None: remembering(observation)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="test vector 1 gives an action that is off"):
        policy.check_test_vectors()


def test_the_contract_has_the_statistics_of_observations_not_of_changes(tmp_path: Path) -> None:
    policy, path = made(ROBOT, tmp_path, {"observation_change": True})
    normaliser = read_artefact(path).contract.normaliser
    network = policy.module
    assert network.normalizer is not None
    assert network.change_normalizer is not None
    assert normaliser is not None
    np.testing.assert_array_equal(normaliser.mean, network.normalizer.mean)
    np.testing.assert_array_equal(normaliser.var, network.normalizer.var)
