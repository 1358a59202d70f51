"""Finding parts of a compiled model by name."""

from __future__ import annotations

from typing import Any, Literal

from rlstab.errors import UserError, suggest

Kind = Literal["body", "geom", "joint", "actuator", "camera"]
_COUNTS = {"body": "nbody", "geom": "ngeom", "joint": "njnt", "actuator": "nu", "camera": "ncam"}


def index_of(model: Any, kind: Kind, name: str) -> int:
    """Index of the ``kind`` of part called ``name``.

    Raises
    ------
    UserError
        The model has none of that name; the message gives near or possible names.
    """
    names = [getattr(model, kind)(index).name for index in range(getattr(model, _COUNTS[kind]))]
    if name in names:
        return names.index(name)
    known = [candidate for candidate in names if candidate]
    hint = suggest(name, known) or "; it has " + (", ".join(known[:12]) or "no named one")
    message = f"the model has no {kind} named '{name}'{hint}"
    raise UserError(message)
