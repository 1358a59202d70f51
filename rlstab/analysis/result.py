"""What an analysis returns: arrays with units that a command prints, a notebook draws and a report embeds."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import html
import json
import math
import re
import typing
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCHEMA_VERSION = 1

Scalar = str | float | int | bool | None


class Result(ABC):
    """Base of every result: a frozen dataclass whose fields are arrays, numbers, text or other results.

    A subclass is declared ``@dataclass(frozen=True, eq=False, repr=False)``, sets ``kind`` to the word that names it
    in files, and gives each array a unit with ``field(metadata={"unit": "s"})``. Arrays are never pickled: `save`
    writes the numbers a person may want to read as JSON and the arrays beside them as safetensors.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Result]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            Result._kinds[cls.kind] = cls

    @abstractmethod
    def summary(self) -> dict[str, Scalar]:
        """The few numbers and words to print first, in order."""

    @abstractmethod
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw on ``ax``, or on a new figure if none is given, and return the axes."""

    @classmethod
    def units(cls) -> dict[str, str]:
        """Units of the fields that have one, as declared in the class."""
        return {
            field.name: field.metadata["unit"]
            for field in dataclasses.fields(typing.cast(Any, cls))
            if "unit" in field.metadata
        }

    def to_frame(self) -> pd.DataFrame:
        """The one-dimensional arrays of the commonest length as columns; units are in ``frame.attrs["units"]``."""
        import pandas as pd

        columns = {name: value for name, value in _fields(self).items() if _is_column(value)}
        lengths = [len(value) for value in columns.values()]
        rows = max(lengths, key=lengths.count) if lengths else 0
        frame = pd.DataFrame({name: value for name, value in columns.items() if len(value) == rows})
        frame.attrs["units"] = {name: unit for name, unit in self.units().items() if name in frame}
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and text for JSON; numbers that are not finite become ``None``."""
        return {"kind": self.kind, **_plain(self)}

    def save(self, path: str | Path) -> Path:
        """Write ``path``, with ``.json`` added if it is not there, and the arrays beside it as ``.safetensors``.

        The arrays' file has part of their checksum in its name, and the JSON, which names it, is replaced at once. So
        whatever ends the program in between, what `load` finds is the whole of the old result or of the new one.

        Returns
        -------
        Path
            The JSON file.

        Raises
        ------
        UserError
            The disk refuses.
        """
        from safetensors.numpy import save as to_safetensors

        from rlstab.runs import atomic, state

        target = _json_path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise atomic.disk_error(f"cannot make {target.parent}", error) from error
        arrays, skeleton = state.pack(_tree(self))
        document = {"schema_version": SCHEMA_VERSION, "kind": self.kind, "units": self.units(), "fields": skeleton}
        replaced = _arrays_of_old(target)
        current: Path | None = None
        if arrays:
            # safetensors writes the memory as it lies, so a view with gaps would come out scrambled.
            data = to_safetensors({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()})
            checksum = document["arrays_sha256"] = hashlib.sha256(data).hexdigest()
            current = _arrays_path(target, checksum)
            atomic.write_bytes(current, data)
        atomic.write_text(target, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        if replaced is not None and replaced != current:
            # A file left over does no harm; the result is saved.
            with contextlib.suppress(OSError):
                replaced.unlink(missing_ok=True)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            The file is missing, is not a result, is of another kind than ``cls``, comes from a newer version, or its
            arrays are missing or do not match their checksum.
        """
        from safetensors.numpy import load as from_safetensors

        from rlstab.runs import state

        source = _json_path(path)
        document = _read_document(source)
        kind = document["kind"]
        found = Result._kinds.get(kind)
        if found is None:
            raise UserError(f"{source} holds a result of unknown kind '{kind}'{suggest(kind, Result._kinds)}")
        if not issubclass(found, cls):
            raise UserError(f"{source} holds a result of kind '{kind}', not '{cls.kind}': use {found.__name__}.load")
        arrays: dict[str, np.ndarray] = {}
        if "arrays_sha256" in document:
            data = _read_arrays(_arrays_path(source, document["arrays_sha256"]), document["arrays_sha256"])
            arrays = from_safetensors(data)
        try:
            return typing.cast(Self, _build(found, state.unpack(arrays, document["fields"])))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{source} does not describe a complete '{kind}' ({error}): write it again") from error

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_format(value)}" for name, value in self.summary().items())
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(_format(value))}</td></tr>"
            for name, value in self.summary().items()
        )
        return f"<table><caption>{html.escape(type(self).__name__)}</caption>{rows}</table>"


def _json_path(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".json" else path.with_name(path.name + ".json")


def _arrays_path(target: Path, checksum: str) -> Path:
    return target.with_name(f"{target.stem}.{checksum[:12]}.safetensors")


def _arrays_of_old(target: Path) -> Path | None:
    """Arrays of the result that lies at ``target``; None if there is none or it has none."""
    try:
        return _arrays_path(target, _read_document(target)["arrays_sha256"])
    except (UserError, KeyError):
        return None


def _fields(result: Any) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}


def _is_column(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) > 0 and all(isinstance(item, str) for item in value)
    return isinstance(value, np.ndarray) and value.ndim == 1


def _format(value: Scalar) -> str:
    if value is None:
        return "not known"
    if isinstance(value, float):
        return f"{value:.5g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return str(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(item) for name, item in _fields(value).items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _tree(value: Any) -> Any:
    """A result as the dictionaries and lists that `rlstab.runs.state.pack` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = _fields(value)
    if isinstance(value, dict):
        return {key: _tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _build(annotation: Any, tree: Any) -> Any:
    """Rebuild a value of type ``annotation``: annotations tell tuples from lists and dataclasses from dictionaries."""
    if not isinstance(tree, list | dict):
        return tree
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    if type(None) in typing.get_args(annotation) and len(options) == 1:
        annotation = options[0]
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if isinstance(tree, list):
        items = [_build(arguments[0] if arguments else Any, item) for item in tree]
        return tuple(items) if origin is tuple else items
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = typing.get_type_hints(annotation)
        return annotation(**{name: _build(hints[name], item) for name, item in tree.items()})
    return {name: _build(arguments[1] if len(arguments) == 2 else Any, item) for name, item in tree.items()}


def _read_document(source: Path) -> dict[str, Any]:
    try:
        document = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no result at {source}: give the .json file that was saved") from error
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}; give the .json file that was saved") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{source} is not a result ({error}): give a .json file written by save()") from error
    if not isinstance(document, dict) or not {"schema_version", "kind", "fields"} <= document.keys():
        raise UserError(f"{source} is JSON, but not a result: it lacks schema_version, kind or fields")
    version = document["schema_version"]
    fits = {
        "schema_version": type(version) is int,
        "kind": isinstance(document["kind"], str),
        "fields": isinstance(document["fields"], dict),
        # It becomes part of a file's name.
        "arrays_sha256": bool(re.fullmatch("[0-9a-f]{64}", str(document.get("arrays_sha256", "0" * 64)))),
    }
    for name, fit in fits.items():
        if not fit:
            raise UserError(f"{source} is JSON, but not a result: its {name} is {document[name]!r:.60}; write it again")
    if version > SCHEMA_VERSION:
        raise UserError(f"{source} has schema version {version}, newer than {SCHEMA_VERSION}: update rlstab to read it")
    return document


def _read_arrays(path: Path, expected: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"the arrays of the result are missing: put {path.name} back beside its .json file") from error
    except OSError as error:
        raise UserError(f"cannot read the arrays {path}: {error.strerror}") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise UserError(f"{path} is damaged or belongs to another result: sha256 {actual}, expected {expected}")
    return data
