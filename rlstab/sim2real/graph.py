"""What an ONNX graph itself shows of the things that a contract states: its operator set and its normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstab.sim2real.contract import Contract, Normaliser
from rlstab.sim2real.protobuf import payloads, varint

# Field numbers of ONNX's messages (onnx.proto).
_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR = 1, 2, 4, 5, 5
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_DOUBLES = 2, 4, 8, 9, 10
_FLOATING = {1: np.dtype("<f4"), 11: np.dtype("<f8")}

_SHAPING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze")
"""Operators that change no value."""

_RELATIVE = 1e-5
"""Networks may hold the contract's double-precision statistics in single precision."""


@dataclass(frozen=True)
class Normalisation:
    """What the first operators of a graph do to the observation: ``clip((observation - mean) * scale)``."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    clip: float | None

    def stated(self) -> Normaliser:
        """Say it as a contract does. A graph does not tell the variance from the ``eps`` added to it."""
        return Normaliser(True, tuple(self.mean.tolist()), tuple((self.scale**-2).tolist()), 0.0, self.clip)


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def disagreement(model: bytes, contract: Contract) -> str:
    """Name the first statement of a contract that the model contradicts, or give the empty string."""
    found = opset(model)
    if found != contract.opset:
        return f"the graph has ONNX operator set {found}, its contract says {contract.opset}"
    stated, inside = contract.normaliser, normalisation(model, math.prod(contract.layout.observation.shape))
    if stated is None or inside is None:
        if (stated is None) == (inside is None):
            return ""
        return (
            "the graph normalises its observation, its contract has no normaliser"
            if stated is None
            else "the contract has a normaliser, the graph does not normalise its observation"
        )
    scale = 1 / np.sqrt(np.array(stated.var) + stated.eps)
    for what, ours, theirs in (
        ("mean", stated.mean, inside.mean),
        ("variance", scale, inside.scale),
        ("clip", stated.clip or math.inf, inside.clip or math.inf),
    ):
        if not np.allclose(ours, theirs, rtol=_RELATIVE, atol=1e-12):
            return f"the {what} of the contract's normaliser is not the one in the graph"
    return ""


def opset(model: bytes) -> int:
    """Version of the standard operator set that a serialised model uses; 0 if it names none."""
    for entry in payloads(model).get(_MODEL_OPSET, []):
        parts = payloads(entry)
        # 1 is the domain, empty for the standard one; 2 the version.
        if not parts.get(1, [b""])[0] and 2 in parts:
            return varint(parts[2][0])[0]
    return 0


def normalisation(model: bytes, size: int) -> Normalisation | None:
    """Find how a serialised model normalises an observation of ``size`` entries; none if it begins otherwise."""
    graph = payloads(payloads(model)[_MODEL_GRAPH][0])
    nodes = [_node(message) for message in graph.get(_GRAPH_NODE, [])]
    constants = _constants(graph, nodes)
    names = [_text(payloads(message).get(1, [b""])[0]) for message in graph.get(_GRAPH_INPUT, [])]
    value = next((name for name in names if name not in constants), "")
    steps: list[tuple[_Node, NDArray[np.float64] | None]] = []
    while len(steps) < 3:
        node = next((node for node in nodes if value in node.inputs), None)
        if node is None or not node.outputs:
            break
        if node.operator not in _SHAPING:
            other = next((name for name in node.inputs if name != value), "")
            steps.append((node, constants.get(other)))
        value = node.outputs[0]
    if len(steps) < 2:
        return None
    (first, mean), (second, scale) = steps[:2]
    if first.operator != "Sub" or mean is None or mean.size != size or scale is None or scale.size != size:
        return None
    if second.operator not in ("Mul", "Div"):
        return None
    last = steps[2][0] if len(steps) > 2 else None
    limit = constants.get(last.inputs[-1]) if last is not None and last.operator == "Clip" else None
    bounded = limit is not None and limit.size == 1 and math.isfinite(float(limit[0]))
    return Normalisation(
        mean,
        scale if second.operator == "Mul" else 1 / scale,
        float(limit[0]) if limit is not None and bounded else None,
    )


def _constants(graph: dict[int, list[bytes]], nodes: list[_Node]) -> dict[str, NDArray[np.float64]]:
    """Floating-point constants by name, flattened: initialisers, constant nodes, and casts of either."""
    found: dict[str, NDArray[np.float64]] = {}
    for message in graph.get(_GRAPH_INITIALIZER, []):
        tensor = payloads(message)
        values = _values(tensor)
        if values is not None:
            found[_text(tensor[_TENSOR_NAME][0])] = values
    for message, node in zip(graph.get(_GRAPH_NODE, []), nodes, strict=True):
        if node.operator == "Constant":
            attributes = [payloads(entry) for entry in payloads(message).get(_NODE_ATTRIBUTE, [])]
            tensors = [payloads(part) for entry in attributes for part in entry.get(_ATTRIBUTE_TENSOR, [])]
            values = _values(tensors[0]) if tensors else None
        else:
            values = found.get(node.inputs[0]) if node.operator == "Cast" else None
        if values is not None:
            found[node.outputs[0]] = values
    return found


def _values(tensor: dict[int, list[bytes]]) -> NDArray[np.float64] | None:
    kind = _FLOATING.get(varint(tensor[_TENSOR_TYPE][0])[0]) if _TENSOR_TYPE in tensor else None
    if kind is None:
        return None
    # Raw bytes, or a packed list by type.
    listed = _TENSOR_FLOATS if kind.itemsize == 4 else _TENSOR_DOUBLES
    content = b"".join(tensor.get(_TENSOR_RAW) or tensor.get(listed, []))
    return np.frombuffer(content, kind).astype(np.float64)


def _node(message: bytes) -> _Node:
    parts = payloads(message)
    inputs, outputs = (tuple(map(_text, parts.get(number, []))) for number in (_NODE_INPUT, _NODE_OUTPUT))
    return _Node(_text(parts[_NODE_OPERATOR][0]), inputs, outputs)


def _text(payload: bytes) -> str:
    return payload.decode("latin1")
