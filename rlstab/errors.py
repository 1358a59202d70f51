"""Errors meant for people, and the helpers that phrase them."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_NAME = "rlstab"


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


class DivergedError(UserError):
    """Training itself became NaN or infinite. Going on with the same settings leads there again."""


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


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line: its first, or its type if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def command(*words: object) -> str:
    """Phrase a command line of this program that works as printed, quoted for a shell.

    The program is plain ``rlstab`` only where the shell finds this installation's under that name; in a virtual
    environment that is not activated, it is the path of the script, as in ``.venv/bin/rlstab``.

    Parameters
    ----------
    words
        Subcommand and arguments.
    """
    return shlex.join([*_program(), *map(str, words)])


def pip_install(*arguments: str) -> str:
    """Phrase a ``pip install`` for the Python that runs this, quoted for a shell."""
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


def _program() -> list[str]:
    started = Path(sys.argv[0]) if sys.argv else Path()
    beside = Path(sys.executable).with_name(_NAME)
    for script in (started, beside):
        if script.name != _NAME or not script.is_file():
            continue
        found = shutil.which(_NAME)
        if found is not None and os.path.samefile(found, script):
            return [_NAME]
        script = script.absolute()
        return [str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)]
    return [sys.executable, "-m", "rlstab"]
