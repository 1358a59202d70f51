"""What there was when something failed, kept in a file for whoever looks into it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstab.errors import NonFiniteState, UserError
from rlstab.runs.atomic import disk_error, write_bytes

FAILURE_FOLDER = "failure"
"""Where states go by default, in the working directory or in a run."""


def failure_name(*parts: object) -> str:
    """Name of a file, made of words that may hold anything.

    Examples
    --------
    >>> failure_name("evaluate", "rlstab/Hopper-v5", "episode3")
    'evaluate-rlstab-Hopper-v5-episode3.npz'
    """
    return re.sub(r"[^0-9A-Za-z_.]+", "-", "-".join(map(str, parts))).strip("-.") + ".npz"


def save_failure(path: Path, error: Exception, **more: ArrayLike) -> str:
    """Write the arrays an error carries, and more of them, as ``.npz``.

    Parameters
    ----------
    path
        The file; its folder is made.
    error
        Of a `NonFiniteState` the arrays are kept, with ``environment_step`` and ``worlds``.
    more
        Further arrays and numbers by name.

    Returns
    -------
    str
        A clause for the error's message: where the state is, or why it could not be saved. A disk that refuses is no
        error here: the first failure is the one to report.
    """
    arrays: dict[str, NDArray[Any]] = {name: np.asarray(values) for name, values in more.items()}
    if isinstance(error, NonFiniteState):
        arrays |= {"environment_step": np.asarray(error.step), "worlds": np.asarray(error.worlds)}
        arrays |= {name: np.asarray(values) for name, values in error.arrays.items()}
    # Arrays of Python objects would need pickle, which nothing here reads.
    plain = {name: values for name, values in arrays.items() if not values.dtype.hasobject}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **plain)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as refusal:
            raise disk_error(f"cannot make {path.parent}", refusal) from refusal
        write_bytes(path, content.getvalue())
    except UserError as refusal:
        return f"the state could not be saved: {refusal}"
    return f"the state is saved in {path}"


def add_clause(error: Exception, clause: str) -> None:
    """Let an error say more while it stays the error it is, so that whoever expects its type still catches it."""
    if isinstance(error, UserError):
        error.args = (f"{error}; {clause}", *error.args[1:])
    else:
        error.add_note(clause)
