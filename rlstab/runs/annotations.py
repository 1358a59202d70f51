"""Type annotations of configuration fields: which values fit them, and how to say so in words."""

from __future__ import annotations

import dataclasses
import types
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

_PLAIN: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    types.NoneType: "nothing",
}


def members(annotation: Any) -> tuple[Any, ...]:
    """Members of a union; of any other annotation, itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def dataclass_members(annotation: Any) -> dict[str, type[Any]]:
    """Dataclasses among the members, by class name."""
    classes = (member for member in members(annotation) if isinstance(member, type))
    return {cls.__name__: cls for cls in classes if dataclasses.is_dataclass(cls)}


def container_member(annotation: Any, container: type[Any]) -> Any:
    """First member that is a list, tuple or dict as asked for, `container` itself where none is."""
    return next((member for member in members(annotation) if get_origin(member) is container), container)


def element(container: Any, index: int) -> Any:
    """Annotation of an element of ``list[T]``, ``tuple[T, ...]``, ``tuple[T, U]`` or of a value of ``dict[K, V]``."""
    arguments = get_args(container)
    if not arguments:
        return Any
    if get_origin(container) is dict:
        return arguments[1]
    if get_origin(container) is list or has_any_length(container):
        return arguments[0]
    return arguments[index] if index < len(arguments) else Any


def has_any_length(container: Any) -> bool:
    """Whether the annotation is not that of a tuple of fixed length."""
    arguments = get_args(container)
    return get_origin(container) is not tuple or (len(arguments) == 2 and arguments[1] is Ellipsis)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of the annotated type; a whole number may stand where a number is due."""
    return any(_fits_one(value, member) for member in members(annotation))


def describe(annotation: Any) -> str:
    """An annotation in words, as in "a whole number or nothing"."""
    return " or ".join(_describe_one(member) for member in members(annotation))


def _fits_one(value: Any, annotation: Any) -> bool:
    origin = get_origin(annotation)
    if annotation is Any:
        return True
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(annotation))
    if origin in (list, tuple):
        if not isinstance(value, origin):
            return False
        items = cast("list[Any]", value)
        if not has_any_length(annotation) and len(items) != len(get_args(annotation)):
            return False
        return all(fits(item, element(annotation, index)) for index, item in enumerate(items))
    if origin is dict:
        key_type, value_type = get_args(annotation)
        entries = cast("dict[Any, Any]", value).items() if isinstance(value, dict) else None
        return entries is not None and all(fits(key, key_type) and fits(item, value_type) for key, item in entries)
    if annotation in (int, float):
        wanted = (int, float) if annotation is float else int
        # Python counts True as a 1; a configuration that says so is wrong.
        return isinstance(value, wanted) and not isinstance(value, bool)
    return isinstance(value, annotation)


def _describe_one(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in arguments)
    if origin is dict:
        return f"a table of {describe(arguments[1])}"
    if origin in (list, tuple):
        if has_any_length(annotation):
            return f"a list of {describe(arguments[0])}"
        return "a list of " + ", ".join(describe(argument) for argument in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(repr(item.value) for item in annotation)
    return f"a {cast('type[Any]', annotation).__name__}" if isinstance(annotation, type) else str(annotation)
