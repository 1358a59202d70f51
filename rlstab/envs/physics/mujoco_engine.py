"""MuJoCo on threads: many worlds of one model in native loops (`rlstab.envs.physics.native`)."""

from __future__ import annotations

import copy
import math
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from rlstab.envs.physics import native
from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

_SPEC = int(mujoco.mjtState.mjSTATE_INTEGRATION)
# What mj_rnePostConstraint computes; gymnasium leaves these at zero until the first step after a reset.
_POST_CONSTRAINT_FIELDS = frozenset({"cacc", "cfrc_int", "cfrc_ext"})
_STATISTICS = ("meaninertia", "meanmass", "meansize", "extent", "center")
_INERTIAL_FIELDS = frozenset(
    {"body_mass", "body_inertia", "body_ipos", "body_iquat", "dof_armature", "qpos0", "jnt_stiffness", "body_pos"}
)


@dataclass(frozen=True)
class StateSlice:
    """A copy of some worlds' state (`Physics.take`)."""

    qpos: FloatArray
    qvel: FloatArray
    fields: dict[str, FloatArray]

    def field(self, name: str) -> FloatArray:
        """Derived quantity ``name``, ``(k, ...)``."""
        return self.fields[name]


class MujocoPhysics:
    """Batched MuJoCo worlds stepped by `mj_step` on a thread pool.

    Every world gives the numbers that a separate ``MjData`` stepped from Python would give, for any ``num_threads``.

    Parameters
    ----------
    model
        Path of an MJCF file, or a compiled model. The engine keeps its own copy.
    num_envs
        Number of worlds.
    fields
        Names of derived ``mjData`` arrays to copy out after every step, e.g. ``("xipos", "cfrc_ext")``.
    num_threads
        Threads in all; default: the processors this process may use, at most ``num_envs``.

    Raises
    ------
    UserError
        The file is missing, is not valid MJCF or can't be stepped, a field is unknown, or ``num_threads`` is below 1.
    """

    def __init__(
        self,
        model: Path | mujoco.MjModel,
        num_envs: int,
        fields: tuple[str, ...] = (),
        num_threads: int | None = None,
    ) -> None:
        self._model = copy.copy(model) if isinstance(model, mujoco.MjModel) else _compile(model)
        _drop_idle_stages(self._model)
        self.num_envs = num_envs
        self.timestep = float(self._model.opt.timestep)
        if num_threads is not None and num_threads < 1:
            message = f"num_threads must be at least 1, got {num_threads}"
            raise UserError(message)
        self.num_threads = min(num_threads or usable_cores(), num_envs)

        offsets, size = _state_offsets(self._model)
        self._start = self._default_state(size)
        self._state = np.tile(self._start, (num_envs, 1))
        self._layout = offsets
        model_ = self._model
        self.time = self._view("TIME", 1)[:, 0]
        self._qpos = self._view("QPOS", model_.nq)
        self._qvel = self._view("QVEL", model_.nv)
        self._ctrl = self._view("CTRL", model_.nu)
        self._wrench = self._view("XFRC_APPLIED", 6 * model_.nbody)
        self._wrench_set = False

        self._datas = [_working_data(model_) for _ in range(self.num_threads)]
        self._own_models: dict[int, mujoco.MjModel] = {}
        self._changed: set[str] = set()
        self._model_addresses = np.full(num_envs, model_._address, np.int64)
        self._worlds = np.zeros(num_envs, np.int64)
        self._fields = {name: self._allocate(name) for name in fields}
        # Addresses of each field in each thread's mjData; mjData arrays never move.
        sources = [[getattr(data, name).ctypes.data for name in fields] for data in self._datas]
        self._pool = native.WorldPool(
            self.num_threads,
            (
                self._worlds,
                self._model_addresses,
                np.array([data._address for data in self._datas], np.int64),
                self._state,
                _SPEC,
                np.array(sources, np.int64).reshape(self.num_threads, len(fields)),
                np.array([array.ctypes.data for array in self._fields.values()], np.int64),
                np.array([array[0].size for array in self._fields.values()], np.int64),
                bool(_POST_CONSTRAINT_FIELDS & set(fields)),
            ),
        )
        self._close = weakref.finalize(self, self._pool.close)
        self._refresh(np.arange(num_envs))

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model; worlds changed by `set_parameters` have copies of it."""
        return self._model

    @property
    def qpos(self) -> FloatArray:
        """Generalised positions, ``(num_envs, nq)``: a live view."""
        return self._qpos

    @property
    def qvel(self) -> FloatArray:
        """Generalised velocities, ``(num_envs, nv)``: a live view."""
        return self._qvel

    def field(self, name: str) -> FloatArray:
        """Derived quantity ``name`` after the last step, ``(num_envs, ...)``: a live view."""
        return self._fields[name]

    def world_model(self, world: int) -> mujoco.MjModel:
        """The model that ``world`` steps with."""
        return self._own_models.get(world, self._model)

    def reset(self, worlds: IntArray, qpos: FloatArray, qvel: FloatArray) -> None:
        """See `Physics.reset`."""
        self._state[worlds] = self._start
        self._qpos[worlds] = qpos
        self._qvel[worlds] = qvel
        self._refresh(worlds)

    def step(self, ctrl: FloatArray, n_substeps: int, wrench: FloatArray | None = None) -> None:
        """See `Physics.step`."""
        self._ctrl[...] = ctrl
        if wrench is not None:
            self._wrench[...] = wrench.reshape(self.num_envs, -1)
            self._wrench_set = True
        elif self._wrench_set:
            self._wrench[...] = 0.0
            self._wrench_set = False
        self._pool.run(native.STEP, self.num_envs, n_substeps)

    def take(self, worlds: IntArray) -> StateSlice:
        """See `Physics.take`."""
        return StateSlice(
            self._qpos[worlds], self._qvel[worlds], {name: array[worlds] for name, array in self._fields.items()}
        )

    def set_parameters(self, worlds: IntArray, parameters: dict[str, NDArray[Any]]) -> None:
        """See `Physics.set_parameters`. Constants that depend on inertia are recomputed (`mj_setConst`).

        Raises
        ------
        UserError
            A field is not one of ``mjModel``, or a row has another shape.
        """
        for name, rows in parameters.items():
            shape = _parameter(self._model, name).shape
            if rows.shape != (len(worlds), *shape):
                message = f"parameter '{name}' needs shape {(len(worlds), *shape)}, got {rows.shape}"
                raise UserError(message)
        self._changed |= parameters.keys()
        scratch = mujoco.MjData(self._model)
        for row, world in enumerate(worlds.tolist()):
            model = self._own_models.get(world)
            if model is None:
                model = self._own_models[world] = copy.copy(self._model)
                self._model_addresses[world] = model._address
            for name, rows in parameters.items():
                _parameter(model, name)[...] = rows[row]
            if _INERTIAL_FIELDS & parameters.keys():
                # It also makes statistics of masses and sizes anew, which scale the solver's tolerance: those stay.
                statistics = {name: np.copy(getattr(self._model.stat, name)) for name in _STATISTICS}
                mujoco.mj_setConst(model, scratch)
                for name, value in statistics.items():
                    setattr(model.stat, name, value)

    def is_finite(self) -> bool:
        """See `Physics.is_finite`."""
        # A sum of squares is finite only if every term is: one pass, a fraction of `numpy.isfinite` on small batches.
        return math.isfinite(np.vdot(self._state, self._state))

    def state_dict(self) -> dict[str, Any]:
        """See `Physics.state_dict`."""
        worlds = sorted(self._own_models)
        return {
            "state": self._state.copy(),
            "parameter_worlds": np.array(worlds, np.int64),
            "parameters": {
                name: np.stack([_parameter(self._own_models[world], name) for world in worlds])
                for name in sorted(self._changed)
            },
            "fields": {name: array.copy() for name, array in self._fields.items()},
            "wrench_set": self._wrench_set,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Physics.load_state_dict`.

        Raises
        ------
        UserError
            The state belongs to another model or number of worlds.
        """
        if state["state"].shape != self._state.shape:
            message = f"the saved physics state has shape {state['state'].shape}, this engine's is {self._state.shape}"
            raise UserError(message)
        self.set_parameters(state["parameter_worlds"], state["parameters"])
        self._state[...] = state["state"]
        for name, array in self._fields.items():
            array[...] = state["fields"][name]
        self._wrench_set = bool(state["wrench_set"])

    def close(self) -> None:
        """End the worker threads."""
        self._close()

    def _refresh(self, worlds: IntArray) -> None:
        self._worlds[: len(worlds)] = worlds
        self._pool.run(native.RESET, len(worlds))
        for name in _POST_CONSTRAINT_FIELDS & self._fields.keys():
            self._fields[name][worlds] = 0.0

    def _default_state(self, size: int) -> FloatArray:
        state = np.zeros(size)
        mujoco.mj_getState(self._model, mujoco.MjData(self._model), state, _SPEC)
        return state

    def _view(self, component: str, size: int) -> FloatArray:
        start = self._layout[component]
        return self._state[:, start : start + size]

    def _allocate(self, name: str) -> FloatArray:
        source = getattr(self._datas[0], name, None)
        if not isinstance(source, np.ndarray) or source.dtype != np.float64:
            message = f"'{name}' is not a floating-point array of mjData, so a task can't read it"
            raise UserError(message)
        return np.zeros((self.num_envs, *source.shape))


def _compile(path: Path) -> mujoco.MjModel:
    if not path.is_file():
        message = f"model file {path} does not exist"
        raise UserError(message)
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        message = f"{path.name} is not a valid MuJoCo model: {' '.join(str(error).split())}"
        raise UserError(message) from error


def _working_data(model: mujoco.MjModel) -> mujoco.MjData:
    """A workspace that has been stepped once through the bindings, which turn MuJoCo's fatal errors into exceptions.

    In the native loops there is nobody to catch them (see `native`).
    """
    try:
        data = mujoco.MjData(model)
        mujoco.mj_step(model, data)
    except mujoco.FatalError as error:
        message = f"MuJoCo can't step this model: {error}"
        raise UserError(message) from error
    mujoco.mj_resetData(model, data)
    return data


def _drop_idle_stages(model: mujoco.MjModel) -> None:
    """Switch off pipeline stages that this model does not need.

    Islands only reorder the constraint solve (the last digits change), which costs time at these sizes; sensors and
    contacts are dropped where the model has none. Automatic resets are dropped because they would hide a diverged state
    from the user.
    """
    flags = int(mujoco.mjtDisableBit.mjDSBL_ISLAND) | int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    if model.nsensor == 0:
        flags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    contype, conaffinity = model.geom_contype, model.geom_conaffinity
    if model.npair == 0 and model.nflex == 0 and not np.any(contype[:, None] & conaffinity[None, :]):
        flags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    model.opt.disableflags |= flags


def _state_offsets(model: mujoco.MjModel) -> tuple[dict[str, int], int]:
    """Where each component starts in the state vector (components are ordered by their bit), and its length."""
    offsets: dict[str, int] = {}
    offset = 0
    for bit in range(_SPEC.bit_length()):
        if not _SPEC & (1 << bit):
            continue
        offsets[mujoco.mjtState(1 << bit).name.removeprefix("mjSTATE_")] = offset
        offset += mujoco.mj_stateSize(model, 1 << bit)
    return offsets, offset


def _parameter(model: mujoco.MjModel, name: str) -> NDArray[Any]:
    owner, _, attribute = name.rpartition(".")
    value = getattr(getattr(model, owner) if owner else model, attribute, None)
    if not isinstance(value, np.ndarray):
        message = f"'{name}' is not an array of mjModel, so it can't be changed per world"
        raise UserError(message)
    return value
