"""Errors meant for people, and the two helpers that phrase them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2; a notebook sees an exception.
    """


class NonFiniteState(UserError):
    """An environment produced NaN or infinity. Carries what it needs to be looked into.

    Parameters
    ----------
    message : str
        One line: where it happened.
    step : int
        Environment step at which it happened, as the raiser counts.
    worlds : list of int
        Indices of the worlds concerned.
    arrays : dict of str to numpy.ndarray
        The offending state by name, as in ``{"qpos": ..., "action": ...}``; leading axis: all worlds.
    """

    def __init__(self, message: str, step: int, worlds: list[int], arrays: dict[str, np.ndarray]) -> None:
        # All of it goes to the base class, because worker processes pickle what they raise.
        super().__init__(message, step, worlds, arrays)
        self.step = step
        self.worlds = worlds
        self.arrays = arrays

    def __str__(self) -> str:
        return str(self.args[0])


def suggest(name: str, candidates: Iterable[str], limit: int = 3) -> str:
    """Phrase the nearest known names, or the empty string if none is near.

    Examples
    --------
    >>> suggest("Hoper-v5", ["Hopper-v5", "Ant-v5"])
    "; did you mean 'Hopper-v5'?"
    """
    by_folded = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), list(by_folded), n=limit, cutoff=0.6)
    if not near:
        return ""
    return "; did you mean " + " or ".join(f"'{by_folded[match]}'" for match in near) + "?"


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Raises
    ------
    UserError
        The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        message = f"this needs the package '{error.name}', which is not installed: pip install 'rlstab[{extra}]'"
        raise UserError(message) from error
