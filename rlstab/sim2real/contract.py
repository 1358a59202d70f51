"""The contract of an exported controller: everything the other side must agree with before it may run.

It travels inside the ``.onnx`` file and beside it as JSON. Numbers are written in full: a gain or an action scale that
was rounded for reading is a different controller.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, cast

from rlstab.errors import UserError
from rlstab.runs.config import from_json, to_json

FORMAT_VERSION = 1
"""Version of the contract's own layout. A reader refuses any other."""

MAX_TOLERANCE = 1e-2
"""Largest tolerance a contract may state. One that lets anything pass would switch the check off."""

COMMAND_KINDS = ("torque", "position", "velocity", "general", "mixed", "continuous")
"""What an action of real numbers may be; see `ActionLayout`."""

POLICY_TYPES = ("feedforward", "recurrent")
"""Controllers without and with a state that is carried along."""

MULTIPLE_CHOICE = ("multi-discrete", "multi-binary")
"""Actions of several whole numbers, each between its bounds."""

_DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")

_NUMBER_LIST = re.compile(r'\[\n[^\[\]{}"]*\]')


@dataclass(frozen=True)
class Joint:
    """A joint of the model, in model order."""

    name: str
    type: str
    """``free``, ``ball``, ``slide`` or ``hinge``."""
    default_pos: tuple[float, ...]
    """Reference position, 7, 4, 1 or 1 numbers: metres, radians, quaternions in the contract's order."""
    pos_limit: tuple[float, float] | None = None
    """Lower and upper limit, metres or radians; none if unlimited."""
    velocity_limit: float | None = None
    """Metres or radians per second; none if not known."""


@dataclass(frozen=True)
class Actuator:
    """What one entry of the action drives, in action order."""

    name: str
    joint: str | None
    """The joint it acts on; none for tendons, sites and bodies."""
    kind: str
    """``torque``, ``position``, ``velocity`` or ``general``."""
    ctrl_range: tuple[float, float] | None
    """Admissible control; none if unlimited."""
    scale: float | None = None
    """Effort (N or N m) for one unit of control where ``kind`` is ``torque``; unit joint target per unit else."""
    effort_limit: float | None = None
    """Largest effort, N for a slide joint and N m for a hinge; none if unlimited or not known."""
    kp: float | None = None
    """Stiffness of the position servo, N/m or N m/rad; none without one."""
    kd: float | None = None
    """Damping of the servo, N s/m or N m s/rad; none without one."""


@dataclass(frozen=True)
class ObservationField:
    """One contiguous part of the observation vector, in order."""

    name: str
    dim: int
    unit: str = ""
    scale: float = 1.0
    """Factor already applied by whoever builds the observation."""
    clip: tuple[float, float] | None = None
    """Limits already applied by whoever builds the observation."""
    frame: str = ""
    """``world`` or ``base`` where it matters."""
    history: int = 1
    """Number of time steps, the newest first; 1 is the present only."""


@dataclass(frozen=True)
class ObservationLayout:
    """The network's input."""

    shape: tuple[int, ...]
    dtype: str
    """What the environment delivers; the network casts to its own input type."""
    fields: tuple[ObservationField, ...]
    low: tuple[float | None, ...] | None = None
    """Lower bounds, flattened; none stands for unbounded, or for bounds that are not worth a list (images)."""
    high: tuple[float | None, ...] | None = None
    """Upper bounds, likewise."""
    n: int | None = None
    """Number of discrete observations; none for a vector or image."""
    start: int = 0
    """Smallest discrete observation."""


@dataclass(frozen=True)
class ActionLayout:
    """The network's output."""

    kind: str
    """``torque``, ``position``, ``velocity``, ``general``, ``mixed``, ``continuous`` (unknown), ``discrete``,
    ``multi-discrete`` or ``multi-binary``."""
    shape: tuple[int, ...]
    """Empty for a discrete action."""
    dtype: str
    scale: tuple[float, ...] | None = None
    """Command per unit of action: N or N m for ``torque``, m or rad for ``position``; none if not known."""
    offset: tuple[float, ...] | None = None
    """Command at action zero; none if not known."""
    low: tuple[float | None, ...] | None = None
    """Bounds that the graph keeps, up to rounding; none entries are unbounded. Of several choices: the first and last
    of each."""
    high: tuple[float | None, ...] | None = None
    n: int | None = None
    """Number of discrete actions."""
    start: int = 0
    """Smallest discrete action."""


@dataclass(frozen=True)
class Normaliser:
    """``clamp((observation - mean) / sqrt(var + eps), -clip, clip)``."""

    baked: bool
    """Whether the graph does it. If so, feed raw observations; the numbers are for reading."""
    mean: tuple[float, ...]
    var: tuple[float, ...]
    eps: float
    clip: float | None


@dataclass(frozen=True)
class Phase:
    """A clock that the observation contains."""

    kind: str
    period_s: float
    """Seconds."""


@dataclass(frozen=True)
class RecurrentState:
    """A state the network carries from one control period to the next, zero at the start of an episode."""

    name: str
    """Of the graph's input. The output with the state after the step is ``next_`` and this."""
    shape: tuple[int, ...]
    """Of one environment's: the graph has a leading axis for the batch."""


@dataclass(frozen=True)
class Training:
    """Where the network comes from."""

    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    """Constructor arguments of the environment."""
    max_episode_steps: int | None = None
    """Time limit that was set in training, control periods; none for the registered one."""
    method: str = ""
    run: str = ""
    seed: int | None = None
    steps: int | None = None
    """Environment steps the policy was trained for."""
    git: str = ""
    """Commit of the software that trained it, with ``-dirty`` if it was changed."""
    gap: str = "none"
    """The simulator gap (disturbances) present in training."""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    """Package versions at training."""


@dataclass(frozen=True)
class TestVector:
    """An input, flattened, and the action that the trained network gave for it."""

    __test__ = False

    observation: tuple[float, ...]
    action: tuple[float, ...]


@dataclass(frozen=True)
class Layout:
    """What a robot or simulator offers, and what the contract demands of it.

    The same function derives it from the training environment when a controller is exported and from the backend when
    it is deployed, so the two can be compared part by part (`rlstab.sim2real.layout.first_difference`).
    """

    env_id: str
    control_dt: float | None
    """Seconds between two actions; none if the environment does not say."""
    physics_dt: float | None
    """Seconds of one simulator step."""
    decimation: int | None
    """Simulator steps in one control period."""
    joints: tuple[Joint, ...]
    """Empty if the environment has no model to ask."""
    actuators: tuple[Actuator, ...]
    observation: ObservationLayout
    action: ActionLayout
    base_quaternion: str | None = None
    """Order of quaternion components, ``wxyz``; none without a free or ball joint."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in model order."""
        return tuple(joint.name for joint in self.joints)


@dataclass(frozen=True)
class Contract:
    """The whole of it."""

    layout: Layout
    policy_type: str
    """``feedforward``, or ``recurrent`` if there is state to carry."""
    training: Training
    normaliser: Normaliser | None = None
    phase: Phase | None = None
    recurrent: tuple[RecurrentState, ...] = ()
    safety: dict[str, float] = field(default_factory=dict[str, float])
    """Limits for a safety layer, by name; none are enforced by this version."""
    opset: int = 0
    """ONNX operator set of the graph."""
    sha256: str = ""
    """SHA-256 of the file's bytes without its metadata entries (`rlstab.sim2real.artefact.network_digest`)."""
    test_vectors: tuple[TestVector, ...] = ()
    """At least three; recomputed on every load. Of a recurrent controller: consecutive steps from the start."""
    tolerance: float = 1e-5
    """Largest ``|difference| / max(1, |action|)`` that a test vector may show on another machine."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Text that `from_json` reads back to an equal contract: floats in their shortest exact form."""
        text = json.dumps(to_json(self), indent=1, allow_nan=False)
        # Lists of numbers on one line. A raw line break cannot occur inside a JSON string, so only layout changes.
        return _NUMBER_LIST.sub(lambda found: " ".join(found[0].split()), text)

    @classmethod
    def from_json(cls, text: str, source: str) -> Contract:
        """Read a contract; ``source`` names it in errors.

        Raises
        ------
        UserError
            Not JSON, another format version, or a field missing, unknown or of the wrong type.
        """
        try:
            loaded: object = json.loads(text)
        except ValueError as error:
            raise UserError(f"{source}: the contract is not valid JSON ({error}); export the run again") from error
        tree = cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}
        version: object = tree.get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{source}: contract format_version is {version!r}, this version of rlstab reads {FORMAT_VERSION}; "
                "export the run again or install the matching rlstab"
            )
        try:
            contract = from_json(cls, tree)
        except UserError as error:
            raise UserError(f"{source}: {error}; export the run again") from error
        problem = contract.contradiction()
        if problem:
            raise UserError(f"{source}: the contract contradicts itself: {problem}; export the run again")
        return contract

    def contradiction(self) -> str:
        """Name the first thing that cannot be although its type is right, or give the empty string."""
        problem = _first_not_finite(self)
        if problem:
            return problem
        if not 0 <= self.tolerance <= MAX_TOLERANCE:
            return f"tolerance is {self.tolerance:g}, it must lie between 0 and {MAX_TOLERANCE:g}"
        problem = _impossible_state(self)
        if problem:
            return problem
        layout = self.layout
        for what, part in (("observation", layout.observation), ("action", layout.action)):
            problem = _impossible_space(part)
            if problem:
                return f"the {what} {problem}"
        if any(part.dim < 1 or part.history < 1 for part in layout.observation.fields):
            return "an observation field has no entries"
        observation_size, action_size = math.prod(layout.observation.shape), math.prod(layout.action.shape)
        described = sum(part.dim * part.history for part in layout.observation.fields)
        if described != observation_size:
            return f"the observation fields have {described} entries in all, the observation has {observation_size}"
        for what, numbers in (("scale", layout.action.scale), ("offset", layout.action.offset)):
            if numbers is not None and len(numbers) != action_size:
                return f"the action {what} has {len(numbers)} entries, the action has {action_size}"
        problem = (
            _impossible_action(layout)
            or _impossible_rates(layout)
            or _impossible_normaliser(self.normaliser, observation_size)
        )
        if problem:
            return problem
        if len(self.test_vectors) < 3:
            return f"there are {len(self.test_vectors)} test vectors, at least 3 are needed"
        for number, vector in enumerate(self.test_vectors):
            if len(vector.observation) != observation_size or len(vector.action) != action_size:
                return f"test vector {number} does not have {observation_size} inputs and {action_size} outputs"
        return ""


def _impossible_state(contract: Contract) -> str:
    """Say what is wrong with the kind of policy and its state, or give the empty string."""
    kind, names = contract.policy_type, [state.name for state in contract.recurrent]
    if kind not in POLICY_TYPES:
        return f"policy_type is {kind!r}, it must be one of {', '.join(POLICY_TYPES)}"
    if (kind == "recurrent") != bool(names):
        return f"policy_type is '{kind}', and there are {len(names)} recurrent states"
    if len(set(names)) < len(names):
        return "two recurrent states have the same name"
    for state in contract.recurrent:
        if any(extent < 1 for extent in state.shape):
            return f"the shape of state {state.name!r} is {list(state.shape)}, every extent must be positive"
    return ""


def _impossible_space(part: ObservationLayout | ActionLayout) -> str:
    """Say what no space can have: its type, shape, bounds or number of values. Or give the empty string."""
    if part.dtype not in _DTYPES:
        return f"dtype is {part.dtype!r}, it must be one of {', '.join(_DTYPES)}"
    if any(extent < 1 for extent in part.shape):
        return f"shape is {list(part.shape)}, every extent must be positive"
    if part.n is not None and part.n < 1:
        return f"has {part.n} discrete values, it must have at least one"
    size = math.prod(part.shape)
    bounds = (part.low, part.high)
    if any(bound is not None and len(bound) != size for bound in bounds):
        return f"bounds do not have {size} entries"
    if part.low is not None and part.high is not None:
        pairs = zip(part.low, part.high, strict=True)
        if any(low is not None and high is not None and low > high for low, high in pairs):
            return "has a lower bound above the upper one"
    return ""


def _impossible_action(layout: Layout) -> str:
    """Say where the action contradicts its own kind or the actuators that it drives, or give the empty string."""
    action = layout.action
    kinds = (*COMMAND_KINDS, "discrete", *MULTIPLE_CHOICE)
    if action.kind not in kinds:
        return f"the action kind is {action.kind!r}, it must be one of {', '.join(kinds)}"
    if (action.kind == "discrete") != (action.n is not None):
        return f"the action kind is '{action.kind}', and the number of discrete actions is {action.n}"
    if action.kind in MULTIPLE_CHOICE:
        bounds = [*(action.low or (None,)), *(action.high or (None,))]
        if any(bound is None or bound != int(bound) for bound in bounds):
            return f"the action kind is '{action.kind}', its bounds must be whole numbers"
        if action.kind == "multi-binary" and set(bounds) != {0, 1}:
            return "the action kind is 'multi-binary', its bounds must be 0 and 1"
    actuators = layout.actuators
    if action.kind not in COMMAND_KINDS[:-1] or len(actuators) != math.prod(action.shape):
        return ""
    driven = {actuator.kind for actuator in actuators}
    if action.kind != (driven.pop() if len(driven) == 1 else "mixed"):
        return f"the action kind is '{action.kind}', its actuators are of kind {_words(a.kind for a in actuators)}"
    scales = [actuator.scale for actuator in actuators]
    if action.scale is not None and None not in scales and list(action.scale) != scales:
        return f"the action scale is {list(action.scale)}, that of its actuators {scales}"
    return ""


def _impossible_rates(layout: Layout) -> str:
    for name in ("control_dt", "physics_dt", "decimation"):
        value = getattr(layout, name)
        if value is not None and value <= 0:
            return f"{name} is {value}, it must be positive"
    control_dt, physics_dt, decimation = layout.control_dt, layout.physics_dt, layout.decimation
    if control_dt is None or physics_dt is None or decimation is None:
        return ""
    if not math.isclose(physics_dt * decimation, control_dt, rel_tol=1e-6):
        together = f"{physics_dt * decimation:g}"
        return f"control_dt is {control_dt}, but {decimation} physics steps of {physics_dt} s are {together}"
    return ""


def _impossible_normaliser(normaliser: Normaliser | None, size: int) -> str:
    if normaliser is None:
        return ""
    for name, numbers in (("mean", normaliser.mean), ("var", normaliser.var)):
        if len(numbers) != size:
            return f"normaliser.{name} has {len(numbers)} entries, the observation has {size}"
    if normaliser.eps < 0 or any(value < 0 or value + normaliser.eps <= 0 for value in normaliser.var):
        return "normaliser.var and normaliser.eps must not be negative, nor zero together"
    if normaliser.clip is not None and normaliser.clip <= 0:
        return f"normaliser.clip is {normaliser.clip}, it must be positive"
    return ""


def _words(kinds: Iterable[str]) -> str:
    return ", ".join(f"'{kind}'" for kind in dict.fromkeys(kinds))


def _first_not_finite(value: Any, place: str = "") -> str:
    """Name the first number that is NaN or infinite, or give the empty string."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{place} is {value}, it must be a finite number"
    inside: list[tuple[str, Any]] = []
    if is_dataclass(value):
        # The settings of an environment are its own affair: a healthy range may well end at infinity.
        inside = [(f".{part.name}", getattr(value, part.name)) for part in fields(value) if part.name != "env_kwargs"]
    elif isinstance(value, tuple):
        inside = [(f"[{index}]", item) for index, item in enumerate(cast("tuple[Any, ...]", value))]
    elif isinstance(value, dict):
        inside = [(f"[{key!r}]", item) for key, item in cast("dict[str, Any]", value).items()]
    problems = (_first_not_finite(item, f"{place}{step}".lstrip(".")) for step, item in inside)
    return next((problem for problem in problems if problem), "")
