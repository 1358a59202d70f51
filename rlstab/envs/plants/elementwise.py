"""Numpy arrays with the methods by which plants are written, so that an environment needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Elementwise(np.ndarray):
    """An array that has ``sin``, ``cos``, ``square`` and ``abs`` as methods, as tensors and bounds do.

    Examples
    --------
    >>> float(Elementwise.of(np.array([0.0])).cos()[0])
    1.0
    """

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Elementwise:
        """See ``values`` in this way; they are not copied."""
        return values.view(cls)

    def sin(self) -> Any:
        """``sin q``."""
        return np.sin(self)

    def cos(self) -> Any:
        """``cos q``."""
        return np.cos(self)

    def square(self) -> Any:
        """``q^2``."""
        return np.square(self)

    def abs(self) -> Any:
        """``|q|``."""
        return np.abs(self)
