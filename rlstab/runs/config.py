"""Configuration dataclasses to JSON and back, with every field checked on the way.

Metadata of a field that is enforced (for a list or table: for each element): ``min`` and ``max`` (inclusive), ``above``
and ``below`` (exclusive), ``choices``. Numbers must be finite unless ``infinite`` is true. ``unit`` (in the plural, as
in "environment steps") and ``source`` (where a default comes from) are for readers.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin, get_type_hints

from rlstab.errors import UserError, suggest
from rlstab.runs.annotations import (
    container_member,
    dataclass_members,
    describe,
    element,
    fits,
    has_any_length,
    members,
)

T = TypeVar("T")

# Where a field may hold one of several dataclasses, this key says which.
_TYPE_KEY = "type"

_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "min": ("at least", operator.ge),
    "max": ("at most", operator.le),
    "above": ("greater than", operator.gt),
    "below": ("less than", operator.lt),
}

_NO_MATCH = object()


def to_json(config: Any) -> dict[str, Any]:
    """Turn a dataclass into plain JSON values.

    Parameters
    ----------
    config : dataclass instance
        Fields: bool, int, float, str, None, `~pathlib.Path`, enumerations, literals, nested dataclasses, and lists,
        tuples and dictionaries of these. Where a field may hold one of several dataclasses, the class name is kept
        under ``"type"``.

    Returns
    -------
    dict
        ``json.dumps`` takes it; `from_json` gives an equal dataclass back.
    """
    annotations = get_type_hints(cast("type[Any]", type(config)))
    return {
        field.name: _encode(getattr(config, field.name), annotations[field.name])
        for field in dataclasses.fields(config)
        if field.init
    }


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build a dataclass from plain JSON (or YAML) values.

    Parameters
    ----------
    cls : type
        The dataclass.
    data : mapping
        Values by field name; fields that are not named keep their defaults.

    Raises
    ------
    UserError
        An unknown or missing name, a wrong type, or a value out of its range. The message names the field.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Schedule:
    ...     start: float = dataclasses.field(default=1.0, metadata={"min": 0})
    >>> from_json(Schedule, {"start": 2})
    Schedule(start=2.0)
    """
    return _decode_dataclass(cls, data, cls.__name__)


def validate(config: Any) -> None:
    """Check the types and ranges of a dataclass that was built in Python.

    Raises
    ------
    UserError
        The first field that is wrong, what it is and what it should be.
    """
    _validate(config, type(config).__name__)


def _validate(config: Any, where: str) -> None:
    annotations = get_type_hints(cast("type[Any]", type(config)))
    for field in dataclasses.fields(config):
        value, place = getattr(config, field.name), f"{where}.{field.name}"
        if not fits(value, annotations[field.name]):
            raise UserError(f"{place} is {value!r}, but must be {describe(annotations[field.name])}")
        _check_bounds(value, field.metadata, place)


def _check_bounds(value: Any, metadata: Mapping[str, Any], place: str) -> None:
    """Check a value and everything in it against a field's metadata."""
    if dataclasses.is_dataclass(value):
        _validate(value, place)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("list[Any]", value)):
            _check_bounds(item, metadata, f"{place}[{index}]")
    elif isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            _check_bounds(item, metadata, f"{place}[{key!r}]")
    elif value is not None:
        if "choices" in metadata and value not in metadata["choices"]:
            raise UserError(f"{place} is {value!r}, but must be one of {', '.join(map(repr, metadata['choices']))}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_number(value, metadata, place)


def _check_number(value: float, metadata: Mapping[str, Any], place: str) -> None:
    if math.isnan(value):
        raise UserError(f"{place} is NaN, but must be a number")
    if math.isinf(value) and not metadata.get("infinite"):
        raise UserError(f"{place} is {value!r}, but must be finite")
    for name, (phrase, holds) in _BOUNDS.items():
        if name in metadata and not holds(value, metadata[name]):
            bound = _counted(metadata[name], metadata.get("unit"))
            raise UserError(f"{place} is {value!r}, but must be {phrase} {bound}")


def _counted(number: float, unit: str | None) -> str:
    """A number with its unit; "1 environment step", but "2 environment steps"."""
    if not unit:
        return str(number)
    # The noun ends the unit, or stands before "of" or "per": "steps of every world".
    return f"{number} {re.sub(r's(?= of | per |$)', '', unit, count=1) if number == 1 and len(unit) > 1 else unit}"


def _encode(value: Any, annotation: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        encoded = to_json(value)
        if len(dataclass_members(annotation)) > 1:
            return {_TYPE_KEY: type(value).__name__, **encoded}
        return encoded
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no infinity; `from_json` reads the word where a number is due.
        return str(value)
    if isinstance(value, (list, tuple)):
        sequence = container_member(annotation, list if isinstance(value, list) else tuple)
        return [_encode(item, element(sequence, index)) for index, item in enumerate(cast("list[Any]", value))]
    if isinstance(value, dict):
        table = container_member(annotation, dict)
        return {str(key): _encode(item, element(table, 0)) for key, item in cast("dict[Any, Any]", value).items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a configuration cannot hold a {type(value).__name__}")


def _decode_dataclass(cls: type[T], data: Any, place: str) -> T:
    if not isinstance(data, Mapping):
        raise UserError(f"{place} is {data!r}, but must be a table of named values")
    values = cast("Mapping[str, Any]", data)
    fields = {field.name: field for field in dataclasses.fields(cast("Any", cls)) if field.init}
    for key in values:
        if key not in fields:
            hint = suggest(str(key), fields) or f"; there are: {', '.join(fields)}"
            raise UserError(f"{place} has no setting '{key}'{hint}")
    annotations = get_type_hints(cls)
    decoded: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            decoded[name] = _decode(values[name], annotations[name], f"{place}.{name}")
            _check_bounds(decoded[name], field.metadata, f"{place}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{place}.{name} is missing")
    return cls(**decoded)


def _decode(value: Any, annotation: Any, place: str) -> Any:
    """Turn a JSON value into what the annotation asks for."""
    if type(value) in members(annotation):
        return value
    inside: UserError | None = None
    for member in members(annotation):
        try:
            decoded = _decode_member(value, member, annotation, place)
        except UserError as error:
            inside = inside or error
        else:
            if decoded is not _NO_MATCH:
                return decoded
    raise inside or UserError(
        f"{place} is {value!r}, but must be {describe(annotation)}{_number_hint(value, annotation)}"
    )


def _decode_member(value: Any, member: Any, annotation: Any, place: str) -> Any:
    """Decode as one member of a union; `_NO_MATCH` if the value is of another kind altogether."""
    origin = get_origin(member)
    if dataclasses.is_dataclass(member) and isinstance(member, type):
        return _decode_tagged(value, member, annotation, place) if isinstance(value, Mapping) else _NO_MATCH
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        given = cast("list[Any]", value)
        items = [_decode(item, element(member, index), f"{place}[{index}]") for index, item in enumerate(given)]
        if not has_any_length(member) and not fits(tuple(items), member):
            return _NO_MATCH
        return tuple(items) if origin is tuple else items
    if origin is dict and isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value)
        return {key: _decode(item, element(member, 0), f"{place}[{key!r}]") for key, item in entries.items()}
    if member is Path and isinstance(value, str):
        return Path(value)
    if isinstance(member, type) and issubclass(member, Enum):
        return next((item for item in member if item.value == value), _NO_MATCH)
    if member is float and (value in ("inf", "-inf") or type(value) is int):
        return float(value)
    return value if fits(value, member) else _NO_MATCH


def _decode_tagged(value: Any, member: type[Any], annotation: Any, place: str) -> Any:
    candidates = dataclass_members(annotation)
    if len(candidates) == 1:
        return _decode_dataclass(member, value, place)
    table = cast("Mapping[str, Any]", value)
    name = table.get(_TYPE_KEY)
    if name not in candidates:
        raise UserError(f'{place} must name its "{_TYPE_KEY}", one of: {", ".join(candidates)}')
    if candidates[name] is not member:
        return _NO_MATCH
    rest = {key: item for key, item in table.items() if key != _TYPE_KEY}
    return _decode_dataclass(member, rest, place)


def _number_hint(value: Any, annotation: Any) -> str:
    """Help with the commonest trap: YAML reads 3e-4 and 1e6 as text, and 1.0e6 is not a whole number."""
    wanted = {int, float} & set(members(annotation))
    if not wanted or not isinstance(value, (str, float)):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if float in wanted:
        text = repr(number)
        return f"; write {text if '.' in text else text.replace('e', '.0e')}" if math.isfinite(number) else ""
    return f"; write {int(number)}" if number.is_integer() else ""
