"""Changed model parameters: mass, friction, damping, actuator strength, gravity."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.disturbance.interface import Disturbance, Effect, EnvView
from rlstab.envs.disturbance.ranges import Scalar, check_bounds, draw
from rlstab.envs.disturbance.streams import occurrences
from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.envs.physics.model_parts import Kind, index_of
from rlstab.errors import UserError, suggest

_LEAST_MASS = 1e-6

ParameterRows = dict[str, NDArray[Any]]
"""Model fields by name, one row a world."""

Selection = dict[str, Any]
"""Model fields by name, and which part of one world's row is meant (an index)."""


@dataclass(frozen=True)
class ParameterChange(Disturbance):
    """A disturbance of model parameters, constant during an episode."""

    @abstractmethod
    def selection(self, model: Any) -> Selection:
        """Which part of which fields of ``model`` changes.

        Raises
        ------
        UserError
            The model lacks a named part.
        """

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """One or two numbers for one world's episode."""

    @abstractmethod
    def apply(self, rows: ParameterRows, drawn: FloatArray, selection: Selection) -> None:
        """Change ``rows`` of k worlds in place by their ``drawn (k, 2)`` numbers."""

    def attach(self, view: EnvView) -> Effect:
        """See `Disturbance.attach`."""
        return ModelChanges((self,), view)


@dataclass(frozen=True)
class ParameterScale(ParameterChange):
    """One physical parameter times a factor, for an episode.

    ==============  ===========  ===================================================================================
    parameter       names are    what is scaled
    ==============  ===========  ===================================================================================
    mass            bodies       mass and rotational inertia alike
    friction        geoms        all friction coefficients of the geoms (and of explicit contact pairs if all)
    damping         joints       viscous joint damping
    armature        joints       rotor inertia seen at the joint
    frictionloss    joints       dry joint friction
    stiffness       joints       joint springs
    gain            actuators    force for a given control; for servos, stiffness and damping together
    gravity         (none)       gravitational acceleration
    ==============  ===========  ===================================================================================

    Several on one parameter multiply.

    Notes
    -----
    MuJoCo takes the larger coefficient of the two geoms in contact. Scaling the floor alone therefore changes nothing
    below the foot's own coefficient (2.0 in Hopper); without ``names`` all geoms are scaled, so every contact is.

    Parameters
    ----------
    parameter
        One of the table.
    factor
        Factor, not negative; a number or a `Range`.
    names
        Which bodies, geoms, joints or actuators; ``None`` for all.

    Raises
    ------
    UserError
        The parameter is unknown, the factor is negative, or names are given where there are none.
    """

    kind: ClassVar[str] = "parameter_scale"

    parameter: str
    factor: Scalar
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parameter not in _SELECTORS:
            hint = suggest(self.parameter, _SELECTORS) or f"; known: {', '.join(_SELECTORS)}"
            message = f"there is no parameter '{self.parameter}' to scale{hint}"
            raise UserError(message)
        # A robot without mass has no accelerations.
        check_bounds(f"factor of {self.parameter}", self.factor, _LEAST_MASS if self.parameter == "mass" else 0.0)
        if self.parameter == "gravity" and self.names is not None:
            message = "gravity acts on everything, so it takes no names"
            raise UserError(message)
        if isinstance(self.names, str):
            message = f"names is a list: write names=({self.names!r},)"
            raise UserError(message)
        if self.names is not None:
            object.__setattr__(self, "names", tuple(self.names))

    @property
    def stream(self) -> str:
        """See `Disturbance.stream`."""
        return f"{self.kind}/{self.parameter}"

    def selection(self, model: Any) -> Selection:
        """See `ParameterChange.selection`."""
        return _SELECTORS[self.parameter](model, self.names)

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """See `ParameterChange.draw`."""
        return (draw(self.factor, rng),)

    def apply(self, rows: ParameterRows, drawn: FloatArray, selection: Selection) -> None:
        """See `ParameterChange.apply`."""
        for name, part in selection.items():
            mask = np.zeros(rows[name].shape[1:], bool)
            mask[part] = True
            factors = drawn[:, 0].reshape(-1, *(1,) * mask.ndim)
            rows[name][...] = np.where(mask, rows[name] * factors, rows[name])


@dataclass(frozen=True)
class GravityTilt(ParameterChange):
    """Gravity turned away from straight down, which is what a sloping floor does to the robot's balance.

    Parameters
    ----------
    angle_deg
        Degrees from straight down, 0 to 90; the model's own gravity must point there.
    azimuth_deg
        Degrees around the vertical of the direction it leans to, from x towards y.

    Raises
    ------
    UserError
        The angle is out of range.
    """

    kind: ClassVar[str] = "gravity_tilt"

    angle_deg: Scalar
    azimuth_deg: Scalar = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("angle_deg", self.angle_deg, 0.0, 90.0)
        check_bounds("azimuth_deg", self.azimuth_deg, -math.inf)

    def selection(self, model: Any) -> Selection:
        """See `ParameterChange.selection`."""
        if np.any(model.opt.gravity[:2] != 0):
            message = f"gravity_tilt needs a model whose gravity is vertical, this one's is {model.opt.gravity}"
            raise UserError(message)
        return {"opt.gravity": slice(None)}

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """See `ParameterChange.draw`."""
        return (math.radians(draw(self.angle_deg, rng)), math.radians(draw(self.azimuth_deg, rng)))

    def apply(self, rows: ParameterRows, drawn: FloatArray, selection: Selection) -> None:
        """See `ParameterChange.apply`."""
        gravity = rows["opt.gravity"]
        size = np.linalg.norm(gravity, axis=1, keepdims=True)
        angle, azimuth = drawn[:, :1], drawn[:, 1:]
        lean = np.hstack([np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)])
        gravity[...] = np.cos(angle) * gravity + np.sin(angle) * size * lean


class ModelChanges(Effect):
    """All changes of model parameters of one batch, together because several may touch one field."""

    memory = ("drawn",)

    def __init__(self, changes: tuple[ParameterChange, ...], view: EnvView) -> None:
        self._view = view
        self._changes = [(change, change.selection(view.model)) for change in changes]
        numbers = occurrences([change.stream for change in changes])
        self._purposes = [
            f"{change.stream}#{number}" if number else change.stream
            for change, number in zip(changes, numbers, strict=True)
        ]
        touched = dict.fromkeys(name for _, selection in self._changes for name in selection)
        self._nominal = {name: _field_of(view.model, name) for name in touched}
        self._current = {name: np.stack([value] * view.num_envs) for name, value in self._nominal.items()}
        self.drawn: FloatArray = np.full((view.num_envs, len(changes), 2), np.nan)

    def begin(self, worlds: IntArray) -> None:
        """See `Effect.begin`."""
        for number, (change, _) in enumerate(self._changes):
            for world in worlds.tolist():
                values = change.draw(self._view.rng(world, self._purposes[number]))
                self.drawn[world, number, : len(values)] = values
        self._set(worlds)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Effect.load_state_dict`; sets the engine's parameters."""
        super().load_state_dict(state)
        self._set(np.flatnonzero(np.isfinite(self.drawn[:, 0, 0])))

    def _set(self, worlds: IntArray) -> None:
        if not len(worlds):
            return
        rows = {name: np.stack([value] * len(worlds)) for name, value in self._nominal.items()}
        for number, (change, selection) in enumerate(self._changes):
            change.apply(rows, self.drawn[worlds, number], selection)
        changed = np.zeros(len(worlds), bool)
        for name, values in rows.items():
            changed |= np.any(values != self._current[name][worlds], axis=tuple(range(1, values.ndim)))
        # Recomputing a model's constants costs as much as a few steps, and fixed factors change nothing.
        if changed.any():
            self._view.physics.set_parameters(worlds[changed], {name: values[changed] for name, values in rows.items()})
            for name, values in rows.items():
                self._current[name][worlds] = values


def _field_of(model: Any, name: str) -> NDArray[Any]:
    """A copy of the model field ``name``, which may be dotted (``opt.gravity``)."""
    value = model
    for part in name.split("."):
        if not hasattr(value, part):
            raise UserError(f"the model has no {name} that could be changed")
        value = getattr(value, part)
    return np.array(value)


def _indices(model: Any, kind: Kind, names: tuple[str, ...] | None) -> Any:
    return slice(None) if names is None else [index_of(model, kind, name) for name in names]


def _mass(model: Any, names: tuple[str, ...] | None) -> Selection:
    bodies = _indices(model, "body", names)
    return {"body_mass": bodies, "body_inertia": bodies}


def _friction(model: Any, names: tuple[str, ...] | None) -> Selection:
    selection: Selection = {"geom_friction": _indices(model, "geom", names)}
    if names is None and model.npair:
        selection["pair_friction"] = slice(None)
    return selection


def _dof(field: str) -> Callable[[Any, tuple[str, ...] | None], Selection]:
    def select(model: Any, names: tuple[str, ...] | None) -> Selection:
        if names is None:
            return {field: slice(None)}
        joints = _indices(model, "joint", names)
        return {field: np.flatnonzero(np.isin(model.dof_jntid, joints))}

    return select


def _stiffness(model: Any, names: tuple[str, ...] | None) -> Selection:
    return {"jnt_stiffness": _indices(model, "joint", names)}


def _gain(model: Any, names: tuple[str, ...] | None) -> Selection:
    actuators = _indices(model, "actuator", names)
    # 0 is a fixed gain, 1 an affine one; the first three numbers of both are coefficients of the force. In a muscle
    # they mean other things.
    if not np.all(np.isin(model.actuator_gaintype[actuators], (0, 1))):
        message = "actuator gain can only be scaled for motors and servos; this model has muscles or user actuators"
        raise UserError(message)
    gain, bias = np.zeros(model.actuator_gainprm.shape, bool), np.zeros(model.actuator_biasprm.shape, bool)
    gain[actuators, :3] = True
    bias[actuators, :3] = True
    return {"actuator_gainprm": gain, "actuator_biasprm": bias}


def _gravity(model: Any, names: tuple[str, ...] | None) -> Selection:
    return {"opt.gravity": slice(None)}


_SELECTORS: dict[str, Callable[[Any, tuple[str, ...] | None], Selection]] = {
    "mass": _mass,
    "friction": _friction,
    "damping": _dof("dof_damping"),
    "armature": _dof("dof_armature"),
    "frictionloss": _dof("dof_frictionloss"),
    "stiffness": _stiffness,
    "gain": _gain,
    "gravity": _gravity,
}

PARAMETERS = tuple(_SELECTORS)
"""Names that `ParameterScale` takes."""
