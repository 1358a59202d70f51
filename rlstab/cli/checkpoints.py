"""How a checkpoint is named on the command line."""

from __future__ import annotations

from typing import Literal

from rlstab.errors import UserError

Which = Literal["best", "last"] | int


def which_checkpoint(text: str) -> Which:
    """Read ``best``, ``last`` or a step number.

    Raises
    ------
    UserError
        It is none of these.
    """
    if text == "best" or text == "last":
        return text
    digits = text.replace("_", "").replace(",", "")
    if not digits.isdigit():
        raise UserError(f"--checkpoint is '{text}'; it must be best, last or a step number")
    return int(digits)
