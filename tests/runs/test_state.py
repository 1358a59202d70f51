from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rlstab.runs.state import array_names, pack, unpack
from rlstab.runs.tensors import FORMAT_NAMES

arrays = st.sampled_from(sorted(FORMAT_NAMES)).flatmap(
    lambda name: npst.arrays(np.dtype(name), npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.integers(2**63, 2**130) | st.floats() | st.text(max_size=5) | arrays
)
keys = st.text(max_size=4) | st.sampled_from(["$array", "$$", "$float", "a/b", "a", "__metadata__", "(root)"])
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, float):
        return math.isnan(one) == math.isnan(other) and (
            math.isnan(one) or math.copysign(1, one) * one == one * math.copysign(1, other)
        )
    return one == other


@given(trees)
def test_unpack_inverts_pack_through_json(tree: Any) -> None:
    tensors, skeleton = pack(tree)
    assert same(unpack(tensors, json.loads(json.dumps(skeleton, allow_nan=False))), tree)


@given(trees)
def test_array_names_are_ascii_and_not_reserved(tree: Any) -> None:
    tensors, _ = pack(tree)
    assert all(name.isascii() and name != "__metadata__" for name in tensors)


def test_a_generator_comes_back_in_the_same_place() -> None:
    for bits in (np.random.PCG64(1), np.random.Philox(1), np.random.MT19937(1), np.random.SFC64(1)):
        generator = np.random.Generator(bits)
        generator.standard_normal(7)
        saved = unpack(*pack(generator.bit_generator.state))
        expected = generator.standard_normal(5)
        restored = np.random.Generator(type(bits)(0))
        restored.bit_generator.state = saved
        np.testing.assert_array_equal(restored.standard_normal(5), expected)


def test_numpy_scalars_keep_their_type() -> None:
    tree = {"rate": np.float32(0.1), "done": np.bool_(True), "count": np.int16(3)}
    assert same(unpack(*pack(tree)), tree)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"policy": {"size": (1, 2)}}, ["policy/size", "tuple"]),
        ({"buffer": {3: "x"}}, ["buffer", "3", "text"]),
        ({"names": np.array(["a"])}, ["names", "<U1"]),
        ({"objects": np.array([object()])}, ["objects", "object"]),
        ({"network": np.zeros(2, dtype=">f8")}, ["network", ">f8"]),
        ({"path": object()}, ["path", "object"]),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused_by_place(tree: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        pack(tree)
    assert all(word in str(caught.value) for word in words)


def test_a_skeleton_of_other_arrays_is_refused() -> None:
    _, skeleton = pack({"a": np.zeros(1)})
    with pytest.raises(ValueError, match="'a' is missing"):
        unpack({}, skeleton)


def test_a_branch_knows_its_arrays() -> None:
    tree = {"policy": {"weights": [np.zeros(2), np.float32(1.0)], "kind": "mlp"}, "replay": np.zeros(3), "$array": "x"}
    tensors, skeleton = pack(tree)
    names = array_names(skeleton["policy"])
    assert names == ["policy/weights/0", "policy/weights/1"]
    assert unpack({name: tensors[name] for name in names}, skeleton["policy"])["kind"] == "mlp"
    assert sorted(array_names(skeleton)) == sorted(tensors)
