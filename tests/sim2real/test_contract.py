from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.sim2real.contract import Actuator, Contract, Normaliser

finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    numbers=st.lists(finite, min_size=3, max_size=3),
    positive=st.lists(st.floats(1e-300, allow_infinity=False), min_size=3, max_size=3),
    text=st.text(),
)
def test_json_keeps_every_bit_of_every_number_and_text(
    contract: Contract, numbers: list[float], positive: list[float], text: str
) -> None:
    changed = dataclasses.replace(
        contract,
        normaliser=Normaliser(True, tuple(numbers), tuple(positive), positive[0], None),
        training=dataclasses.replace(contract.training, run=text, env_kwargs={"factor": numbers[0], text: [text, 1]}),
        safety={text: numbers[0]},
    )
    assert Contract.from_json(changed.to_json(), "here") == changed


def test_lists_of_numbers_stand_on_one_line_and_text_is_left_alone(contract: Contract) -> None:
    odd = dataclasses.replace(contract, training=dataclasses.replace(contract.training, run="[\n  1,\n  2 ]"))
    text = odd.to_json()
    assert '"default_pos": [ 0.1 ]' in text
    assert Contract.from_json(text, "here") == odd


def test_numbers_are_not_rounded_for_reading(contract: Contract) -> None:
    scale = 0.07450086921453476
    actuator = Actuator("motor", "slider", "position", None, scale)
    changed = dataclasses.replace(contract, layout=dataclasses.replace(contract.layout, actuators=(actuator,)))
    assert repr(scale) in changed.to_json()


def damaged(contract: Contract, *keys: str | int, value: Any = None, drop: bool = False) -> str:
    tree = json.loads(contract.to_json())
    part = tree
    for key in keys[:-1]:
        part = part[key]
    if drop:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    return json.dumps(tree)


def normaliser(**changes: Any) -> dict[str, Any]:
    return {"baked": True, "mean": [0.0] * 3, "var": [1.0] * 3, "eps": 1e-8, "clip": 10.0} | changes


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("format_version",), 2, "format_version is 2"),
        (("format_version",), "1", "format_version is '1'"),
        (("layout", "control_dt"), "fast", "control_dt"),
        (("layout", "control_dt"), -0.02, "control_dt"),
        (("layout", "joints", 0, "name"), 7, "name"),
        (("layout", "observation", "fields", 0, "dim"), 5, "6 entries in all, the observation has 3"),
        (("layout", "observation", "shape"), [3.5], "shape"),
        (("layout", "observation", "shape"), [3, 0], "the observation shape is [3, 0], every extent must be positive"),
        (("layout", "action", "shape"), [-1], "the action shape is [-1]"),
        (("layout", "observation", "dtype"), "float23", "the observation dtype is 'float23', it must be one of"),
        (("layout", "action", "dtype"), "complex64", "the action dtype is 'complex64'"),
        (("layout", "action", "n"), 0, "the action has 0 discrete values"),
        (("layout", "observation", "n"), -2, "the observation has -2 discrete values"),
        (("layout", "observation", "high"), [1.0], "the observation bounds do not have 3 entries"),
        (("layout", "action", "low"), [-1.0, -1.0], "the action bounds do not have 1 entries"),
        (("layout", "action", "low"), [2.0], "the action has a lower bound above the upper one"),
        (("layout", "action", "scale"), [1.0, 2.0], "the action scale has 2 entries, the action has 1"),
        (("layout", "action", "offset"), [], "the action offset has 0 entries, the action has 1"),
        (("layout", "observation", "fields", 1, "dim"), 0, "an observation field has no entries"),
        (("layout", "observation", "fields", 1, "history"), 0, "an observation field has no entries"),
        (("test_vectors",), [], "test vectors"),
        (("test_vectors", 1, "action"), [1.0, 2.0], "test vector 1"),
        (("surprise",), 1, "surprise"),
        (("layout", "control_dt"), "inf", "layout.control_dt is inf"),
        (("layout", "joints", 0, "pos_limit"), [-1.0, "inf"], "layout.joints[0].pos_limit[1] is inf"),
        (("test_vectors", 0, "action"), ["-inf"], "test_vectors[0].action[0] is -inf"),
        (("safety",), {"tilt": "inf"}, "safety['tilt'] is inf"),
        (("layout", "action", "kind"), "position", "the action kind is 'position', its actuators are of kind 'torque'"),
        (("layout", "action", "kind"), "pull", "the action kind is 'pull', it must be one of torque"),
        (
            ("layout", "action", "kind"),
            "discrete",
            "the action kind is 'discrete', and the number of discrete actions is",
        ),
        (("layout", "action", "n"), 3, "the action kind is 'torque', and the number of discrete actions is 3"),
        (("layout", "action", "kind"), "multi-binary", "its bounds must be 0 and 1"),
        (("layout", "action", "scale"), [50.0], "the action scale is [50.0], that of its actuators [100.0]"),
        (("layout", "physics_dt"), 0.004, "control_dt is 0.02, but 4 physics steps of 0.004 s are 0.016"),
        (("layout", "decimation"), 5, "control_dt is 0.02, but 5 physics steps"),
        (("layout", "decimation"), 0, "decimation is 0, it must be positive"),
        (("normaliser",), normaliser(mean=[0.0]), "normaliser.mean has 1 entries, the observation has 3"),
        (("normaliser",), normaliser(var=[]), "normaliser.var has 0 entries"),
        (("normaliser",), normaliser(var=[1.0, -1.0, 1.0]), "must not be negative"),
        (("normaliser",), normaliser(var=[1.0, 0.0, 1.0], eps=0.0), "nor zero together"),
        (("normaliser",), normaliser(clip=0.0), "normaliser.clip is 0.0"),
        (("tolerance",), "inf", "tolerance is inf"),
        (("tolerance",), 0.1, "tolerance is 0.1, it must lie between 0 and 0.01"),
        (("tolerance",), -1e-9, "tolerance is -1e-09"),
    ],
)
def test_a_wrong_entry_is_named_in_one_line(contract: Contract, keys: tuple[Any, ...], value: Any, named: str) -> None:
    with pytest.raises(UserError) as caught:
        Contract.from_json(damaged(contract, *keys, value=value), "policy.onnx")
    message = str(caught.value)
    assert named in message
    assert message.startswith("policy.onnx: ")
    assert "\n" not in message


def test_nan_and_infinity_as_other_json_writers_put_them_are_refused(contract: Contract) -> None:
    for word in ("NaN", "Infinity", "-Infinity"):
        text = contract.to_json().replace('"tolerance": 1e-05', f'"tolerance": {word}')
        with pytest.raises(UserError, match="tolerance is"):
            Contract.from_json(text, "policy.onnx")


def test_bounds_may_be_open_and_equal(contract: Contract) -> None:
    observation = dataclasses.replace(contract.layout.observation, low=(None, 0.0, -1.0), high=(1.0, 0.0, None))
    layout = dataclasses.replace(contract.layout, observation=observation)
    assert dataclasses.replace(contract, layout=layout).contradiction() == ""


def test_the_settings_of_an_environment_may_be_infinite(contract: Contract) -> None:
    training = dataclasses.replace(contract.training, env_kwargs={"healthy_z_range": (0.7, float("inf"))})
    assert dataclasses.replace(contract, training=training).contradiction() == ""


def test_a_missing_entry_is_named(contract: Contract) -> None:
    with pytest.raises(UserError, match="observation is missing"):
        Contract.from_json(damaged(contract, "layout", "observation", drop=True), "policy.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_what_is_not_a_contract_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"policy\.onnx"):
        Contract.from_json(text, "policy.onnx")
