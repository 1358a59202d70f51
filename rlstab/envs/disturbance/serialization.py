"""Disturbances as JSON, for configurations and results, and as short text, for the command line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rlstab.envs.disturbance.decided import DecidedForce
from rlstab.envs.disturbance.delay import ActionDelay, ObservationDelay
from rlstab.envs.disturbance.interface import Disturbance
from rlstab.envs.disturbance.noise import ObservationNoise
from rlstab.envs.disturbance.parameters import PARAMETERS, GravityTilt, ParameterScale
from rlstab.envs.disturbance.ranges import Range, Scalar
from rlstab.envs.disturbance.wrench import ExternalWrench, RandomForce
from rlstab.errors import UserError, suggest

_KINDS: dict[str, type[Disturbance]] = {
    kind.kind: kind
    for kind in (
        ExternalWrench,
        RandomForce,
        DecidedForce,
        ObservationNoise,
        ParameterScale,
        GravityTilt,
        ActionDelay,
        ObservationDelay,
    )
}


def to_json(disturbances: Sequence[Disturbance]) -> list[dict[str, Any]]:
    """Disturbances as what `json.dumps` takes; `from_json` is the exact inverse.

    Examples
    --------
    >>> to_json([ActionDelay(steps=2)])
    [{'kind': 'action_delay', 'steps': 2, 'jitter': 0}]
    """
    return [
        {"kind": item.kind, **{f.name: _plain(getattr(item, f.name)) for f in dataclasses.fields(item)}}
        for item in disturbances
    ]


def from_json(items: Sequence[dict[str, Any]]) -> tuple[Disturbance, ...]:
    """Disturbances from what `to_json` wrote.

    Raises
    ------
    UserError
        An unknown kind or setting, or a value that the disturbance refuses.
    """
    return tuple(_one_from_json(item) for item in items)


def listed(disturbances: Sequence[Disturbance] | Disturbance | str) -> tuple[Disturbance, ...]:
    """Disturbances as a tuple, whether given as a list, alone, or as short text (see `parse`).

    Raises
    ------
    UserError
        They are none of that, or the text is malformed.

    Examples
    --------
    >>> listed("latency=1") == listed(ActionDelay(steps=1.0)) == (ActionDelay(steps=1.0),)
    True
    """
    if isinstance(disturbances, str):
        return parse(disturbances)
    given: Any = disturbances
    items: tuple[Any, ...] = tuple(given) if isinstance(given, Iterable) else (given,)
    for item in items:
        if not isinstance(item, Disturbance):
            message = f"{item!r} is not a disturbance; rlstab.envs.disturbance has those there are"
            raise UserError(message)
    return items


def parse(text: str) -> tuple[Disturbance, ...]:
    """Disturbances from short text: ``name=value`` or ``name=low:high``, separated by commas.

    Names are the parameters that can be scaled (``mass``, ``friction``, ``gain``, ...), ``latency`` (of actions,
    control steps), ``observation_delay`` (control steps), ``noise`` (gaussian, observation units) and ``tilt``
    (degrees).

    Raises
    ------
    UserError
        The text is malformed, or a name is unknown.

    Examples
    --------
    >>> parse("gain=0.8,latency=1")
    (ParameterScale(parameter='gain', factor=0.8, names=None), ActionDelay(steps=1.0, jitter=0))
    """
    return tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip())


def _parse_one(part: str) -> Disturbance:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if name not in _SHORT:
        hint = suggest(name, _SHORT) or f"; known: {', '.join(_SHORT)}"
        message = f"there is no disturbance '{name}'{hint}"
        raise UserError(message)
    try:
        numbers = [float(number) for number in value.split(":")]
    except ValueError:
        numbers = []
    if not equals or len(numbers) not in (1, 2):
        message = f"'{part}' is not a disturbance: write {name}=0.8, or {name}=0.5:1.5 for a range"
        raise UserError(message)
    return _SHORT[name](numbers[0] if len(numbers) == 1 else Range(numbers[0], numbers[1]))


def _scaled(parameter: str) -> Callable[[Scalar], Disturbance]:
    return lambda value: ParameterScale(parameter, value)


_SHORT: dict[str, Callable[[Scalar], Disturbance]] = {
    **{parameter: _scaled(parameter) for parameter in PARAMETERS},
    "latency": ActionDelay,
    "observation_delay": ObservationDelay,
    "noise": ObservationNoise,
    "tilt": GravityTilt,
}


def _plain(value: Any) -> Any:
    if isinstance(value, Range):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    # JSON has no infinity.
    return None if isinstance(value, float) and math.isinf(value) else value


def _one_from_json(item: dict[str, Any]) -> Disturbance:
    kind = item.get("kind") if isinstance(item, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        message = (
            f"there is no kind of disturbance {kind!r}{suggest(str(kind), _KINDS) or '; known: ' + ', '.join(_KINDS)}"
        )
        raise UserError(message)
    cls = _KINDS[kind]
    known = {f.name: f for f in dataclasses.fields(cls)}
    settings = {name: value for name, value in item.items() if name != "kind"}
    unknown = sorted(settings.keys() - known.keys())
    if unknown:
        message = f"{kind} has no setting {', '.join(unknown)}; it has {', '.join(known)}"
        raise UserError(message)
    try:
        return cls(**{name: _revived(value, known[name].default) for name, value in settings.items()})
    except TypeError as error:
        message = f"{kind} can't be made of {settings}: {error}"
        raise UserError(message) from error


def _revived(value: Any, default: Any) -> Any:
    if isinstance(value, dict):
        return Range(**value)
    if isinstance(value, list):
        return tuple(_revived(item, None) for item in value)
    return math.inf if value is None and default == math.inf else value
