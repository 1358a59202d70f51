from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from rlstab.envs.registry import make_vec, native_ids
from rlstab.errors import UserError
from rlstab.sim2real.contract import ActionLayout, Actuator, Joint, Layout, ObservationField, ObservationLayout
from rlstab.sim2real.layout import first_difference, layout_of, not_compared


def native(env_id: str) -> Layout:
    env = make_vec(env_id)
    try:
        return layout_of(env)
    finally:
        env.close()


def test_hopper_is_described_in_full() -> None:
    layout = native("Hopper-v5")
    assert layout.env_id == "Hopper-v5"
    assert (layout.control_dt, layout.physics_dt, layout.decimation) == (0.008, 0.002, 4)
    assert layout.joint_names == ("rootx", "rootz", "rooty", "thigh_joint", "leg_joint", "foot_joint")
    assert layout.joints[1] == Joint("rootz", "slide", (1.25,))
    assert layout.joints[5].pos_limit == pytest.approx((-np.pi / 4, np.pi / 4))
    assert layout.actuators[0] == Actuator("thigh_joint", "thigh_joint", "torque", (-1.0, 1.0), 200.0, 200.0)
    assert layout.action == ActionLayout("torque", (3,), "float32", (200.0,) * 3, (0.0,) * 3, (-1.0,) * 3, (1.0,) * 3)
    assert layout.observation.shape == (11,)
    assert layout.observation.fields[5] == ObservationField("velocity/rootx", 1, "m/s", clip=(-10.0, 10.0))
    assert layout.base_quaternion is None


def test_a_floating_base_states_its_quaternion_order_and_default_pose() -> None:
    layout = native("Ant-v5")
    assert layout.base_quaternion == "wxyz"
    assert (layout.joints[0].name, layout.joints[0].type) == ("root", "free")
    frames = {part.name: part.frame for part in layout.observation.fields}
    assert (frames["velocity/root/x"], frames["velocity/root/wx"]) == ("world", "base")
    assert layout.joints[0].default_pos == (0.0, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("env_id", native_ids())
def test_every_native_task_accounts_for_its_whole_observation_and_agrees_with_itself(env_id: str) -> None:
    layout = native(env_id)
    assert sum(part.dim for part in layout.observation.fields) == layout.observation.shape[0]
    assert len(layout.actuators) == layout.action.shape[0]
    assert all(actuator.joint in layout.joint_names for actuator in layout.actuators)
    assert first_difference(layout, native(env_id)) == ""


def test_gymnasium_environments_on_mujoco_state_rates_joints_and_actuators_too() -> None:
    env = gymnasium.make("Hopper-v5")
    layout, reference = layout_of(env), native("Hopper-v5")
    env.close()
    assert layout.env_id == "Hopper-v5"
    assert (layout.joints, layout.actuators, layout.action) == (reference.joints, reference.actuators, reference.action)
    assert (layout.decimation, layout.physics_dt) == (reference.decimation, reference.physics_dt)
    assert layout.control_dt == pytest.approx(reference.control_dt)
    assert layout.observation.fields == (ObservationField("observation", 11),)


def test_an_environment_without_a_model_states_its_spaces() -> None:
    env = gymnasium.make("CartPole-v1")
    layout = layout_of(env)
    assert (layout.control_dt, layout.physics_dt, layout.joints, layout.actuators) == (None, None, (), ())
    assert layout.action == ActionLayout("discrete", (), "int64", n=2)
    assert layout.observation.dtype == "float32"
    assert layout.observation.high is not None
    assert layout.observation.high[1] is None or layout.observation.high[1] > 1e30
    wrapped = gymnasium.make_vec("CartPole-v1", num_envs=1, vectorization_mode="sync")
    assert layout_of(wrapped, "CartPole-v1") == dataclasses.replace(layout, env_id="CartPole-v1")


def spaces_only(observation: Any, action: Any) -> Any:
    return SimpleNamespace(observation_space=observation, action_space=action)


def test_bounds_of_images_are_not_listed() -> None:
    env = spaces_only(gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8), gymnasium.spaces.Discrete(3, start=1))
    layout = layout_of(env, "Image-v0")
    assert (layout.observation.low, layout.observation.dtype) == (None, "uint8")
    assert layout.observation.fields == (ObservationField("observation", 4 * 84 * 84),)
    assert (layout.action.n, layout.action.start) == (3, 1)


BOX, DISCRETE = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(3)


def test_discrete_observations_are_described() -> None:
    layout = layout_of(spaces_only(gymnasium.spaces.Discrete(16), DISCRETE), "FrozenLake-v1")
    assert (layout.observation.shape, layout.observation.n) == ((), 16)
    assert layout.observation.fields == (ObservationField("observation", 1),)


@pytest.mark.parametrize(
    ("observation", "action"),
    [(gymnasium.spaces.Dict({"a": BOX}), BOX), (BOX, gymnasium.spaces.Tuple((BOX, DISCRETE)))],
)
def test_spaces_that_no_single_tensor_carries_are_refused(observation: Any, action: Any) -> None:
    with pytest.raises(UserError, match=r"cannot export a policy on a (Dict|Tuple).*: wrap the environment"):
        layout_of(spaces_only(observation, action), "Odd-v0")


def test_actions_of_several_choices_state_the_first_and_last_of_each() -> None:
    choices = layout_of(spaces_only(BOX, gymnasium.spaces.MultiDiscrete([2, 3], start=[5, -1])), "Choices-v0")
    assert choices.action == ActionLayout("multi-discrete", (2,), "int64", low=(5.0, -1.0), high=(6.0, 1.0))
    bits = layout_of(spaces_only(BOX, gymnasium.spaces.MultiBinary([2, 2])), "Bits-v0")
    assert bits.action == ActionLayout("multi-binary", (2, 2), "int8", low=(0.0,) * 4, high=(1.0,) * 4)


def test_frames_that_do_not_make_up_the_control_period_are_not_stated() -> None:
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    for dt, decimation in ((0.01, 5), (0.03, None)):
        env: Any = SimpleNamespace(observation_space=BOX, action_space=BOX, model=model, frame_skip=5, dt=dt)
        assert (layout_of(env, "Own-v0").control_dt, layout_of(env, "Own-v0").decimation) == (dt, decimation)


def test_servos_state_their_gains() -> None:
    model = mujoco.MjModel.from_xml_string("""
        <mujoco><worldbody>
          <body><joint name="a" axis="0 1 0" actuatorfrcrange="-3 3"/><geom size="0.1"/>
            <body><joint name="b" axis="0 1 0"/><geom size="0.1"/></body></body>
        </worldbody><actuator>
          <position name="hold" joint="a" kp="40" kv="2" ctrlrange="-1 1"/>
          <velocity joint="b" kv="5"/>
          <motor name="push" joint="a" gear="150" ctrlrange="-0.4 0.2" forcerange="-0.3 0.3"/>
          <general name="pull" joint="b" ctrlrange="0 1" dyntype="filter" dynprm="0.1"/>
        </actuator></mujoco>""")
    env: Any = SimpleNamespace(
        observation_space=BOX, action_space=gymnasium.spaces.Box(-1, 1, (4,)), model=model, frame_skip=5, dt=0.01
    )
    layout = layout_of(env, "Servo-v0")
    hold, turn, push, pull = layout.actuators
    assert (hold.kind, hold.kp, hold.kd, hold.scale, hold.effort_limit) == ("position", 40.0, 2.0, 1.0, 3.0)
    assert (turn.name, turn.kind, turn.kd, turn.ctrl_range) == ("b", "velocity", 5.0, None)
    assert (push.kind, push.scale, push.effort_limit) == ("torque", 150.0, pytest.approx(3.0))
    assert (pull.kind, pull.scale, pull.kp) == ("general", None, None)
    assert (layout.action.kind, layout.action.scale) == ("mixed", None)
    assert (layout.decimation, layout.control_dt) == (5, 0.01)


def change(**changes: Any) -> Callable[[Layout], Layout]:
    return lambda layout: dataclasses.replace(layout, **changes)


def first(part: str, **changes: Any) -> Callable[[Layout], Layout]:
    def apply(layout: Layout) -> Layout:
        head, *tail = getattr(layout, part)
        return dataclasses.replace(layout, **{part: (dataclasses.replace(head, **changes), *tail)})

    return apply


def observed(**changes: Any) -> Callable[[Layout], Layout]:
    def apply(layout: Layout) -> Layout:
        head, *tail = layout.observation.fields
        fields = (dataclasses.replace(head, **changes), *tail)
        return dataclasses.replace(layout, observation=dataclasses.replace(layout.observation, fields=fields))

    return apply


def sensed(**changes: Any) -> Callable[[Layout], Layout]:
    return lambda layout: dataclasses.replace(layout, observation=dataclasses.replace(layout.observation, **changes))


def acted(**changes: Any) -> Callable[[Layout], Layout]:
    return lambda layout: dataclasses.replace(layout, action=dataclasses.replace(layout.action, **changes))


@pytest.mark.parametrize(
    ("departure", "named"),
    [
        (change(control_dt=0.01), "control_dt is 0.01, the controller was exported for 0.02"),
        (change(control_dt=None), "control_dt is none"),
        (change(decimation=2), "decimation is 2"),
        (change(joints=()), "joint 0 is none, the controller was exported for 'slider'"),
        (lambda layout: dataclasses.replace(layout, joints=layout.joints[::-1]), "joint 0 is 'hinge'"),
        (lambda layout: dataclasses.replace(layout, joints=(*layout.joints, Joint("c", "free", ()))), "joint 2 is 'c'"),
        (first("joints", type="hinge"), "type of joint 'slider'"),
        (first("actuators", name="servo"), "actuator 0 is 'servo'"),
        (first("actuators", joint="hinge"), "joint of actuator 'motor'"),
        (first("actuators", kind="position"), "kind of actuator 'motor'"),
        (observed(name="speed"), "observation part 0 is 'speed'"),
        (observed(dim=1), "size of observation part 'position' is 1"),
        (observed(unit="mm"), "unit of observation part 'position' is 'mm'"),
        (observed(scale=0.25), "scale of observation part 'position'"),
        (observed(history=2), "history of observation part 'position' is 2, the controller was exported for 1"),
        (observed(dim=1, history=2), "size of observation part 'position' is 1"),
        (observed(clip=(-5.0, 5.0)), "clipping of observation part 'position' is [-5.0, 5.0]"),
        (observed(frame="base"), "frame of observation part 'position' is 'base'"),
        (change(physics_dt=0.004), "physics_dt is 0.004, the controller was exported for 0.005"),
        (first("joints", pos_limit=(-2.0, 1.0)), "limit of joint 'slider' is [-2.0, 1.0]"),
        (first("joints", pos_limit=None), "limit of joint 'slider' is none"),
        (first("joints", default_pos=(0.5,)), "default position of joint 'slider' is [0.5]"),
        (first("actuators", ctrl_range=(-2.0, 2.0)), "control range of actuator 'motor' is [-2.0, 2.0]"),
        (sensed(low=(0.0, None, None)), "lower observation bound is [0.0, None, None]"),
        (sensed(high=(0.0, None, None)), "upper observation bound is [0.0, None, None]"),
        (sensed(dtype="float32"), "observation dtype is 'float32'"),
        (acted(kind="position"), "action kind is 'position'"),
        (acted(dtype="float64"), "action dtype is 'float64'"),
        (acted(scale=(50.0,)), "action scale is [50.0]"),
        (acted(offset=(0.5,)), "action offset is [0.5]"),
        (acted(low=(-2.0,)), r"lower action bound is \[-2.0\]"),
        (acted(shape=(2,)), "action shape"),
        (acted(n=2), "number of discrete actions"),
        (change(base_quaternion="xyzw"), "base quaternion order is 'xyzw'"),
    ],
)
def test_the_first_difference_is_named_with_what_to_do(
    contract: Any, departure: Callable[[Layout], Layout], named: str
) -> None:
    message = first_difference(contract.layout, departure(contract.layout))
    assert named.replace("\\", "") in message
    assert "train and export" in message
    assert "\n" not in message


def test_a_backend_may_differ_in_strength_and_name(contract: Any) -> None:
    weaker = first("actuators", effort_limit=80.0, scale=80.0)(contract.layout)
    assert first_difference(contract.layout, dataclasses.replace(weaker, env_id="Other-v0", physics_dt=0.005)) == ""


def test_numbers_that_are_equal_but_for_rounding_are_equal(contract: Any) -> None:
    turned = first("joints", pos_limit=(-1.0 - 1e-15, 1.0))(contract.layout)
    assert first_difference(contract.layout, turned) == ""


def test_an_observation_whose_parts_have_no_names_is_compared_by_its_space_and_that_is_told(contract: Any) -> None:
    unnamed = sensed(fields=(ObservationField("observation", 3),))
    told = not_compared(contract, unnamed(contract.layout))
    assert len(told) == 1
    assert told[0].startswith("the backend's Cart-v0 does not name the parts of the observation")
    assert first_difference(contract.layout, unnamed(contract.layout)) == ""
    assert first_difference(unnamed(contract.layout), contract.layout) == ""
    assert (
        "the contract does not name"
        in not_compared(dataclasses.replace(contract, layout=unnamed(contract.layout)), contract.layout)[0]
    )
    smaller = sensed(fields=(ObservationField("observation", 2),), shape=(2,))
    assert "observation shape is [2]" in first_difference(contract.layout, smaller(contract.layout))
    bounded = sensed(fields=(ObservationField("observation", 3),), low=(0.0, 0.0, 0.0))
    assert "lower observation bound" in first_difference(contract.layout, bounded(contract.layout))
    assert not_compared(contract, contract.layout) == []


def test_limits_that_nothing_enforces_are_told(contract: Any) -> None:
    layout = first("joints", velocity_limit=3.0)(contract.layout)
    limited = dataclasses.replace(contract, layout=layout, safety={"tilt": 0.8, "rate": 2.0})
    safety, velocity = not_compared(limited, layout)
    assert "safety limits are not enforced by this version of rlstab: tilt, rate" in safety
    assert "velocity limits are not enforced by this version of rlstab: slider" in velocity


@pytest.mark.parametrize("env_id", native_ids())
def test_gymnasiums_environment_of_the_same_name_differs_in_nothing_that_can_be_compared(env_id: str) -> None:
    env = make_vec(env_id, backend="gymnasium")
    try:
        assert first_difference(native(env_id), layout_of(env)) == ""
    finally:
        env.close()


def test_a_different_environment_is_pointed_to(contract: Any) -> None:
    other = change(env_id="Other-v0", control_dt=1.0)(contract.layout)
    assert "(Cart-v0): deploy it there" in first_difference(contract.layout, other)


def test_rates_that_are_equal_but_for_rounding_are_equal(contract: Any) -> None:
    assert first_difference(contract.layout, change(control_dt=0.1 / 5 + 1e-16)(contract.layout)) == ""


def test_observation_shapes_are_compared(contract: Any) -> None:
    layout = dataclasses.replace(
        contract.layout, observation=ObservationLayout((3, 1), "float64", contract.layout.observation.fields)
    )
    assert "observation shape is [3, 1]" in first_difference(contract.layout, layout)
