from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rlstab.errors import UserError
from rlstab.sim2real.contract import ActionLayout, Contract, ObservationLayout, Phase, RecurrentState, TestVector
from rlstab.sim2real.policy_onnx import OnnxPolicy


def test_predict_takes_one_observation_or_a_batch(policy_file: Path) -> None:
    policy = OnnxPolicy.load(policy_file)
    observations = np.array([[0.4, 0.2, 0.1], [9.0, 0.0, 0.0]])
    actions, state = policy.predict(observations, state="kept", deterministic=True)
    np.testing.assert_allclose(actions, [[0.1625], [1.0]], rtol=1e-6)
    assert state == "kept"
    single, _ = policy.predict(observations[0])
    assert single.shape == (1,)
    np.testing.assert_array_equal(single, actions[0])
    assert policy.predict(observations[:0])[0].shape == (0, 1)


def test_the_spaces_are_those_of_the_contract(policy_file: Path) -> None:
    policy = OnnxPolicy.load(policy_file)
    assert policy.observation_space == gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    assert policy.action_space == gymnasium.spaces.Box(-1, 1, (1,), np.float32)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 1, 3), ()])
def test_an_observation_of_another_shape_is_refused(policy_file: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"expects observations of shape \(3,\)"):
        OnnxPolicy.load(policy_file).predict(np.zeros(shape))


def test_a_network_that_computes_something_else_is_refused(write_file: Callable[..., Path], contract: Contract) -> None:
    first, second, third = contract.test_vectors
    wrong = dataclasses.replace(second, action=(second.action[0] + 1e-4,))
    with pytest.raises(UserError, match=r"test vector 1 gives an action that is off by 0\.0001"):
        OnnxPolicy.load(write_file(test_vectors=(first, wrong, third)))


def test_a_difference_that_is_nan_does_not_pass(policy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = OnnxPolicy.load(policy_file)
    monkeypatch.setattr(policy, "predict", lambda observation, state: (np.full(1, np.nan), None))
    with pytest.raises(UserError, match="off by nan"):
        policy.check_test_vectors()


def test_warming_up_changes_nothing(policy_file: Path) -> None:
    policy, observation = OnnxPolicy.load(policy_file), np.array([0.4, 0.2, 0.1])
    before, _ = policy.predict(observation)
    policy.warm_up(np.ones(3))
    np.testing.assert_array_equal(policy.predict(observation)[0], before)


def test_a_network_whose_output_is_nan_is_refused_before_it_runs(write_file: Callable[..., Path]) -> None:
    diverged = np.full((1, 3), np.nan, np.float32)
    with pytest.raises(UserError, match=r"NaN or infinite.*weights diverged"):
        OnnxPolicy.load(write_file(diverged))


def test_an_observation_that_is_nan_is_named_as_the_cause(policy_file: Path) -> None:
    with pytest.raises(UserError, match="its observation is not finite"):
        OnnxPolicy.load(policy_file).predict(np.full(3, np.nan))


def test_a_clock_that_nothing_would_feed_is_refused(write_file: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="does not run"):
        OnnxPolicy.load(write_file(phase=Phase("motion", 2.0)))


def test_a_state_that_the_network_lacks_is_refused(write_file: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"carries the states \[\] to \[\], its contract names \['h'\]"):
        OnnxPolicy.load(write_file(policy_type="recurrent", recurrent=(RecurrentState("h", (64,)),)))


def test_what_onnx_runtime_cannot_load_is_one_line(contract: Contract) -> None:
    node = helper.make_node("NoSuchOperator", ["observation"], ["action"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("observation", "action")]
    model = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]), ir_version=10)
    with pytest.raises(UserError, match="cannot load the network") as caught:
        OnnxPolicy(model.SerializeToString(), contract)
    assert "\n" not in str(caught.value)


def test_a_network_of_two_inputs_is_refused(contract: Contract) -> None:
    node = helper.make_node("Add", ["observation", "clock"], ["action"])
    names = ("observation", "clock", "action")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in names]
    model = helper.make_model(helper.make_graph([node], "g", value[:2], value[2:]), ir_version=10)
    with pytest.raises(UserError, match="each state as input and output"):
        OnnxPolicy(model.SerializeToString(), contract)


def of_shape(contract: Contract, *shape: int) -> Contract:
    observation = dataclasses.replace(contract.layout.observation, shape=shape)
    return dataclasses.replace(contract, layout=dataclasses.replace(contract.layout, observation=observation))


@pytest.mark.parametrize("shape", [(4,), (1, 3), ()])
def test_a_network_for_other_inputs_than_the_contract_says_is_refused(
    network: bytes, contract: Contract, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UserError, match=r"takes inputs of shape \[3\], its contract says") as caught:
        OnnxPolicy(network, of_shape(contract, *shape))
    assert str(list(shape)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_that_fails_while_it_runs_is_one_line(network: bytes, contract: Contract) -> None:
    # The graph leaves the extent open, so nothing contradicts the contract until the product is taken.
    model = onnx.load_from_string(network)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "entries"
    openly = model.SerializeToString()
    assert OnnxPolicy(openly, contract).predict(np.zeros(3))[0].shape == (1,)
    with pytest.raises(UserError, match=r"ONNX Runtime cannot run the network .*; export the run again") as caught:
        OnnxPolicy(openly, of_shape(contract, 4)).predict(np.zeros(4))
    assert "\n" not in str(caught.value)


def test_images_go_in_and_discrete_actions_come_out(contract: Contract) -> None:
    nodes = [
        helper.make_node("Flatten", ["observation"], ["flat"]),
        helper.make_node("ArgMax", ["flat"], ["action"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "argmax",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 1, 2, 2])],
        [helper.make_tensor_value_info("action", TensorProto.INT64, ["batch"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    layout = dataclasses.replace(
        contract.layout,
        observation=ObservationLayout((1, 2, 2), "uint8", contract.layout.observation.fields),
        action=ActionLayout("discrete", (), "int64", n=4),
    )
    vectors = tuple(TestVector(tuple(np.eye(4)[index]), (float(index),)) for index in range(4))
    policy = OnnxPolicy(model.SerializeToString(), dataclasses.replace(contract, layout=layout, test_vectors=vectors))
    policy.check_test_vectors()
    assert policy.observation_space == gymnasium.spaces.Box(0, 255, (1, 2, 2), np.uint8)
    assert policy.action_space == gymnasium.spaces.Discrete(4)
    image = np.array([[[0, 0], [255, 0]]], np.uint8)
    assert policy.predict(image)[0] == 2
    np.testing.assert_array_equal(policy.predict(np.stack([image, image[:, ::-1]]))[0], [2, 0])
