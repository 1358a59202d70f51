"""What every certificate says of itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.result import Result

Grade: TypeAlias = Literal["sound", "statistical", "empirical"]
"""``sound``: a proof, for every element of the set. ``statistical``: holds but for a stated probability. ``empirical``:
seen on a sample, and proved for nothing else."""


@dataclass(frozen=True, eq=False, repr=False)
class Certificate(Result):
    """A result that states what holds, for which network and which set, and how that was found.

    Concrete certificates add what is bounded and a ``kind``.
    """

    statement: str
    """The claim in words, with its quantifiers."""
    grade: Grade
    method: str
    """How it was found, with the source of the formula."""
    network_sha256: str
    """Of all weights that enter."""
    set_sha256: str
    """Of everything that describes the set: centre and size."""

    @property
    def is_proof(self) -> bool:
        """Whether the statement is proved for every element of the set."""
        return self.grade == "sound"


def digest(*arrays: NDArray[np.float64] | float) -> str:
    """Hash of numbers in order, shapes included."""
    found = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(np.asarray(array, np.float64))
        found.update(str(values.shape).encode())
        found.update(values.tobytes())
    return found.hexdigest()
