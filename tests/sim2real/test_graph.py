from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rlstab.sim2real.graph import disagreement, normalisation, opset

MEAN, SCALE = np.array([1.0, -2.0, 0.5], np.float32), np.array([0.5, 4.0, 1.0], np.float32)


def model(nodes: list[Any], constants: dict[str, Any], version: int = 18) -> bytes:
    weights = {"weight": np.ones((3, 1), np.float32), **constants}
    last = nodes[-1].output[0]
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", [last, "weight"], ["action"])],
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def node(operator: str, *names: str, **attributes: Any) -> Any:
    return helper.make_node(operator, list(names[:-1]), [names[-1]], **attributes)


CLIP = {"low": np.float32(-10), "high": np.float32(10)}


@pytest.mark.parametrize("operator", ["Mul", "Div"])
@pytest.mark.parametrize("clipped", [True, False])
def test_the_normaliser_at_the_entrance_is_found(operator: str, clipped: bool) -> None:
    nodes = [node("Sub", "observation", "mean", "a"), node(operator, "a", "scale", "b")]
    nodes += [node("Clip", "b", "low", "high", "c")] if clipped else []
    found = normalisation(model(nodes, {"mean": MEAN, "scale": SCALE, **CLIP}), 3)
    assert found is not None
    np.testing.assert_array_equal(found.mean, MEAN)
    np.testing.assert_allclose(found.scale, SCALE if operator == "Mul" else 1 / SCALE)
    assert found.clip == (10.0 if clipped else None)
    stated = found.stated()
    np.testing.assert_allclose(1 / np.sqrt(np.array(stated.var) + stated.eps), found.scale)


def test_it_is_found_behind_casts_and_in_constant_nodes() -> None:
    nodes = [
        node("Constant", "scale", value=numpy_helper.from_array(SCALE)),
        node("Cast", "mean64", "mean", to=TensorProto.FLOAT),
        node("Flatten", "observation", "flat"),
        node("Sub", "flat", "mean", "a"),
        node("Mul", "a", "scale", "b"),
    ]
    found = normalisation(model(nodes, {"mean64": MEAN.astype(np.float64)}), 3)
    assert found is not None
    np.testing.assert_array_equal(found.mean, MEAN)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Tanh", "observation", "a")], {}),
        ([node("Sub", "observation", "mean", "a")], {"mean": MEAN}),
        ([node("Sub", "observation", "mean", "a"), node("Mul", "a", "mean", "b")], {"mean": np.float32(127.5)}),
        ([node("Mul", "observation", "mean", "a"), node("Sub", "a", "mean", "b")], {"mean": MEAN}),
    ],
)
def test_what_does_something_else_is_no_normaliser(nodes: list[Any], constants: dict[str, Any]) -> None:
    assert normalisation(model(nodes, constants), 3) is None


def test_the_operator_set_is_the_standard_one() -> None:
    assert opset(model([node("Tanh", "observation", "a")], {}, version=17)) == 17
    made = helper.make_model(
        helper.make_graph([], "empty", [], []),
        opset_imports=[helper.make_opsetid("com.example", 3), helper.make_opsetid("", 21)],
    )
    assert opset(made.SerializeToString()) == 21


def test_a_contract_may_not_claim_what_the_graph_does_not_do(contract: Any, network: bytes) -> None:
    import dataclasses

    from rlstab.sim2real.contract import Normaliser

    assert disagreement(network, contract) == ""
    claimed = dataclasses.replace(contract, normaliser=Normaliser(True, (0.0,) * 3, (1.0,) * 3, 0.0, None))
    assert "does not normalise" in disagreement(network, claimed)
