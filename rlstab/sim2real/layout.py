"""What an environment offers a controller, derived from the environment itself, and how two such layouts differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from rlstab.errors import UserError
from rlstab.sim2real.contract import (
    ActionLayout,
    Actuator,
    Contract,
    Joint,
    Layout,
    ObservationField,
    ObservationLayout,
)

_LISTED_BOUNDS = 1024
"""Bounds of larger observations (images) are not written out."""

_UNNAMED = "observation"
"""The one part of an observation about whose entries nothing is known."""


def layout_of(env: Any, env_id: str = "") -> Layout:
    """Describe an environment as a contract does.

    Parameters
    ----------
    env
        A `rlstab.envs.batch_env.BatchEnv`, of which everything is known; or a gymnasium ``Env`` or ``VectorEnv``, of
        which the spaces are known, and rates, joints and actuators where it is built on a MuJoCo model.
    env_id
        The id it was made by; default: what the environment says.

    Raises
    ------
    UserError
        The observation or action space is one that no single tensor carries.
    """
    task = getattr(env, "task", None)
    if task is not None and hasattr(env, "physics"):
        terms: Any = env.observation_terms
        fields = tuple(
            ObservationField(str(term.name), int(term.dim), str(term.unit), clip=term.clip, frame=str(term.frame))
            for term in terms
        )
        physics_dt = float(env.physics.timestep)
        # A linear system has no joints.
        model = env.model if hasattr(env.model, "njnt") else None
        return _layout(env, env_id or str(task.id), model, physics_dt, int(task.frame_skip), float(env.dt), fields)
    worlds: Any = getattr(getattr(env, "unwrapped", env), "envs", None)
    single: Any = worlds[0] if worlds else env
    inner: Any = getattr(single, "unwrapped", single)
    control_dt: Any = getattr(inner, "dt", None)
    model: Any = getattr(inner, "model", None)
    spec: Any = getattr(single, "spec", None)
    name = env_id or (str(spec.id) if spec is not None else type(inner).__name__)
    control_dt = float(control_dt) if isinstance(control_dt, int | float) else None
    if not hasattr(model, "actuator_ctrlrange"):
        return _layout(env, name, None, None, None, control_dt, None)
    skip: Any = getattr(inner, "frame_skip", None)
    physics_dt = float(model.opt.timestep)
    if (
        isinstance(skip, int)
        and control_dt is not None
        and not math.isclose(physics_dt * skip, control_dt, rel_tol=1e-6)
    ):
        # It counts something else, or its own way.
        skip = None
    return _layout(env, name, model, physics_dt, skip, control_dt, None)


def first_difference(contract: Layout, backend: Layout) -> str:
    """Say where a backend departs from the contract and how to mend it, or give the empty string.

    Compared are the things that make a controller meaningless when they differ: rates, joints with their limits and
    reference positions, actuators with their range of control, observation and action. Masses, the gains of servos and
    limits of effort and velocity are not: a backend may differ there on purpose. Nor are names and units of observation
    parts where one side has none; `not_compared` says so.
    """
    for what, wanted, found in _compared(contract, backend):
        if wanted != found:
            remedy = (
                "make the environment as it was in training, or train and export again"
                if contract.env_id == backend.env_id
                else f"deploy it there, or train and export one for {backend.env_id}"
            )
            return (
                f"{what} is {_phrase(found)}, the controller was exported for {_phrase(wanted)} "
                f"({contract.env_id}): {remedy}"
            )
    return ""


def not_compared(contract: Contract, backend: Layout) -> list[str]:
    """Say, one line each, what a contract states and nothing here checks or enforces."""
    remarks: list[str] = []
    layout = contract.layout
    if _is_anonymous(layout.observation) != _is_anonymous(backend.observation):
        silent = "the contract" if _is_anonymous(layout.observation) else f"the backend's {backend.env_id}"
        remarks.append(
            f"{silent} does not name the parts of the observation: its shape, type and bounds were compared, the "
            "order, units and scales of its entries could not be"
        )
    if contract.safety:
        names = ", ".join(contract.safety)
        remarks.append(f"the contract's safety limits are not enforced by this version of rlstab: {names}")
    limited = [joint.name for joint in layout.joints if joint.velocity_limit is not None]
    if limited:
        remarks.append(
            f"the contract's velocity limits are not enforced by this version of rlstab: {', '.join(limited)}"
        )
    return remarks


def _is_anonymous(observation: ObservationLayout) -> bool:
    """Whether a layout is what `layout_of` gives where it knows a space and nothing about its entries."""
    return observation.fields == (ObservationField(_UNNAMED, math.prod(observation.shape)),)


def _compared(contract: Layout, backend: Layout) -> Iterator[tuple[str, Any, Any]]:
    yield from _names("joint", contract.joint_names, backend.joint_names)
    joints = zip(contract.joints, backend.joints, strict=True)
    for wanted, found in joints:
        yield f"the type of joint '{wanted.name}'", wanted.type, found.type
        yield f"the limit of joint '{wanted.name}'", _rounded(wanted.pos_limit), _rounded(found.pos_limit)
        yield (
            f"the default position of joint '{wanted.name}'",
            _rounded(wanted.default_pos),
            _rounded(found.default_pos),
        )
    yield from _names(
        "actuator", *(tuple(actuator.name for actuator in each.actuators) for each in (contract, backend))
    )
    for wanted, found in zip(contract.actuators, backend.actuators, strict=True):
        yield f"the joint of actuator '{wanted.name}'", wanted.joint, found.joint
        yield f"the kind of actuator '{wanted.name}'", wanted.kind, found.kind
        yield f"the control range of actuator '{wanted.name}'", _rounded(wanted.ctrl_range), _rounded(found.ctrl_range)
    if _is_anonymous(contract.observation) == _is_anonymous(backend.observation):
        yield from _compared_parts(contract.observation, backend.observation)
    yield "the observation shape", contract.observation.shape, backend.observation.shape
    yield "the observation dtype", contract.observation.dtype, backend.observation.dtype
    yield "the number of discrete observations", contract.observation.n, backend.observation.n
    yield "the first discrete observation", contract.observation.start, backend.observation.start
    yield "the lower observation bound", _rounded(contract.observation.low), _rounded(backend.observation.low)
    yield "the upper observation bound", _rounded(contract.observation.high), _rounded(backend.observation.high)
    yield "the action shape", contract.action.shape, backend.action.shape
    yield "the action kind", contract.action.kind, backend.action.kind
    yield "the action dtype", contract.action.dtype, backend.action.dtype
    yield "the number of discrete actions", contract.action.n, backend.action.n
    yield "the first discrete action", contract.action.start, backend.action.start
    yield "the lower action bound", _rounded(contract.action.low), _rounded(backend.action.low)
    yield "the upper action bound", _rounded(contract.action.high), _rounded(backend.action.high)
    yield "the action scale", _rounded(contract.action.scale), _rounded(backend.action.scale)
    yield "the action offset", _rounded(contract.action.offset), _rounded(backend.action.offset)
    yield "the base quaternion order", contract.base_quaternion, backend.base_quaternion
    yield "control_dt", _rounded(contract.control_dt), _rounded(backend.control_dt)
    yield "physics_dt", _rounded(contract.physics_dt), _rounded(backend.physics_dt)
    yield "decimation", contract.decimation, backend.decimation


def _compared_parts(contract: ObservationLayout, backend: ObservationLayout) -> Iterator[tuple[str, Any, Any]]:
    yield from _names("observation part", *(tuple(part.name for part in each.fields) for each in (contract, backend)))
    for wanted, found in zip(contract.fields, backend.fields, strict=True):
        yield f"the size of observation part '{wanted.name}'", wanted.dim, found.dim
        yield f"the history of observation part '{wanted.name}'", wanted.history, found.history
        yield f"the unit of observation part '{wanted.name}'", wanted.unit, found.unit
        yield f"the scale of observation part '{wanted.name}'", wanted.scale, found.scale
        yield f"the clipping of observation part '{wanted.name}'", wanted.clip, found.clip
        yield f"the frame of observation part '{wanted.name}'", wanted.frame, found.frame


def _names(what: str, wanted: tuple[str, ...], found: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    for index, (left, right) in enumerate(itertools.zip_longest(wanted, found)):
        yield f"{what} {index}", left, right


def _rounded(value: Any) -> Any:
    # 0.002 * 4 and 0.008 are one rate, and degrees may be turned into radians in more than one way.
    if isinstance(value, tuple):
        return tuple(_rounded(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _phrase(value: Any) -> str:
    if value is None:
        return "none"
    return repr(list(value) if isinstance(value, tuple) else value)  # pyright: ignore[reportUnknownArgumentType]


def _layout(
    env: Any,
    env_id: str,
    model: Any,
    physics_dt: float | None,
    decimation: int | None,
    control_dt: float | None,
    fields: tuple[ObservationField, ...] | None,
) -> Layout:
    observation_space = getattr(env, "single_observation_space", None) or env.observation_space
    action_space = getattr(env, "single_action_space", None) or env.action_space
    joints = () if model is None else _joints(model)
    actuators = () if model is None else _actuators(model)
    offsets = () if model is None else tuple(_target_offset(model, index) for index in range(model.nu))
    return Layout(
        env_id=env_id,
        control_dt=control_dt,
        physics_dt=physics_dt,
        decimation=decimation,
        joints=joints,
        actuators=actuators,
        observation=_observation(observation_space, fields),
        action=_action(action_space, actuators, offsets),
        base_quaternion="wxyz" if any(joint.type in ("free", "ball") for joint in joints) else None,
    )


def _joints(model: Any) -> tuple[Joint, ...]:
    kinds = (("free", 7), ("ball", 4), ("slide", 1), ("hinge", 1))  # In the order of mjtJoint.
    joints: list[Joint] = []
    reference = _reference_pose(model)
    for index in range(model.njnt):
        kind, size = kinds[int(model.jnt_type[index])]
        start = int(model.jnt_qposadr[index])
        low, high = model.jnt_range[index].tolist()
        joints.append(
            Joint(
                name=str(model.joint(index).name) or f"joint{index}",
                type=kind,
                default_pos=tuple(reference[start : start + size].tolist()),
                pos_limit=(low, high) if model.jnt_limited[index] else None,
            )
        )
    return tuple(joints)


def _reference_pose(model: Any) -> Any:
    """Joint positions ``(nq,)`` that the model calls home, else those it is drawn in."""
    names = [str(model.key(index).name) for index in range(getattr(model, "nkey", 0))]
    return model.key_qpos[names.index("home")] if "home" in names else model.qpos0


def _actuators(model: Any) -> tuple[Actuator, ...]:
    return tuple(_actuator(model, index) for index in range(model.nu))


def _actuator(model: Any, index: int) -> Actuator:
    # mjtTrn: 0 is a joint, 1 a joint in its parent's frame. mjtDyn 0: no activation. mjtGain 0: fixed. mjtBias: 0 none,
    # 1 affine.
    joint: str | None = None
    if int(model.actuator_trntype[index]) in (0, 1):
        number = int(model.actuator_trnid[index, 0])
        joint = str(model.joint(number).name) or f"joint{number}"
    gain, bias, gear = (
        float(model.actuator_gainprm[index, 0]),
        model.actuator_biasprm[index],
        float(model.actuator_gear[index, 0]),
    )
    kind, scale, kp, kd = "general", None, None, None
    if int(model.actuator_dyntype[index]) == 0 and int(model.actuator_gaintype[index]) == 0:
        if int(model.actuator_biastype[index]) == 0:
            kind, scale = "torque", gain * gear
        elif bias[1] < 0 and gain != 0:
            # A servo, whose control may be any affine function of the target (`_target_offset`).
            stiffness = float(-bias[1])
            kind, scale = "position", gain / (stiffness * gear)
            kp, kd = stiffness * gear**2, float(-bias[2]) * gear**2
        elif bias[0] == 0 and bias[1] == 0 and bias[2] == -gain:
            kind, scale, kd = "velocity", 1.0 / gear, gain * gear**2
    low, high = model.actuator_ctrlrange[index].tolist()
    limited = bool(model.actuator_ctrllimited[index])
    return Actuator(
        name=str(model.actuator(index).name) or joint or f"actuator{index}",
        joint=joint,
        kind=kind,
        ctrl_range=(low, high) if limited else None,
        scale=scale,
        effort_limit=_effort_limit(
            model, index, max(abs(low), abs(high)) * abs(gain * gear) if limited and kind == "torque" else math.inf
        ),
        kp=kp,
        kd=kd,
    )


def _target_offset(model: Any, index: int) -> float:
    """Joint target of a position servo for a control of zero; 0 for other actuators."""
    bias = model.actuator_biasprm[index]
    servo = int(model.actuator_biastype[index]) == 1 and bias[1] < 0
    return float(bias[0] / (-bias[1] * model.actuator_gear[index, 0])) if servo else 0.0


def _effort_limit(model: Any, index: int, limit: float) -> float | None:
    if model.actuator_forcelimited[index]:
        limit = min(
            limit, float(np.abs(model.actuator_forcerange[index]).max()) * abs(float(model.actuator_gear[index, 0]))
        )
    if int(model.actuator_trntype[index]) == 0:
        joint = int(model.actuator_trnid[index, 0])
        if model.jnt_actfrclimited[joint]:
            limit = min(limit, float(np.abs(model.jnt_actfrcrange[joint]).max()))
    return None if math.isinf(limit) else limit


def _observation(space: Any, fields: tuple[ObservationField, ...] | None) -> ObservationLayout:
    if not isinstance(space, gymnasium.spaces.Box | gymnasium.spaces.Discrete):
        raise UserError(
            f"cannot export a policy on a {type(space).__name__} observation space, only on Box and Discrete: wrap the "
            "environment in gymnasium.wrappers.FlattenObservation and train again"
        )
    shape = _extents(space)
    if fields is None:
        fields = (ObservationField(_UNNAMED, math.prod(shape)),)
    if isinstance(space, gymnasium.spaces.Discrete):
        return ObservationLayout(shape, str(space.dtype), fields, n=int(space.n), start=int(space.start))
    low, high = _bounds(space)
    return ObservationLayout(shape, str(space.dtype), fields, low, high)


def _action(space: Any, actuators: tuple[Actuator, ...], offsets: tuple[float, ...]) -> ActionLayout:
    if isinstance(space, gymnasium.spaces.Discrete):
        return ActionLayout("discrete", (), str(space.dtype), n=int(space.n), start=int(space.start))
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        low, last = space.start.ravel(), (space.start + space.nvec - 1).ravel()
        first, final = (tuple(map(float, bound.tolist())) for bound in (low, last))
        return ActionLayout("multi-discrete", _extents(space), str(space.dtype), low=first, high=final)
    if isinstance(space, gymnasium.spaces.MultiBinary):
        bits = math.prod(_extents(space))
        return ActionLayout("multi-binary", _extents(space), str(space.dtype), low=(0.0,) * bits, high=(1.0,) * bits)
    if not isinstance(space, gymnasium.spaces.Box):
        raise UserError(
            f"cannot export a policy on a {type(space).__name__} action space, only on Box, Discrete, MultiDiscrete "
            "and MultiBinary: wrap the environment so that its actions are one of these and train again"
        )
    shape = _extents(space)
    low, high = _bounds(space)
    # A task may act through fewer numbers than there are actuators; then nothing is known about each number.
    if len(actuators) != math.prod(shape) or not actuators:
        return ActionLayout("continuous", shape, str(space.dtype), low=low, high=high)
    kinds = {actuator.kind for actuator in actuators}
    scales = tuple(actuator.scale for actuator in actuators if actuator.scale is not None)
    known = len(scales) == len(actuators)
    return ActionLayout(
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        shape=shape,
        dtype=str(space.dtype),
        scale=scales if known else None,
        offset=offsets if known else None,
        low=low,
        high=high,
    )


def _extents(space: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in space.shape or ())


def _bounds(space: gymnasium.spaces.Box) -> tuple[tuple[float | None, ...] | None, tuple[float | None, ...] | None]:
    if math.prod(space.shape) > _LISTED_BOUNDS:
        return None, None
    low, high = (
        tuple(value if math.isfinite(value) else None for value in bound.ravel().tolist())
        for bound in (space.low, space.high)
    )
    return low, high
