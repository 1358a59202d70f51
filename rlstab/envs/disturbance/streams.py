"""Random numbers drawn at every step, for each world on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.disturbance.interface import Effect, EnvView
from rlstab.envs.physics.interface import IntArray
from rlstab.errors import UserError


def occurrences(streams: Sequence[str]) -> list[int]:
    """How many earlier entries are equal to each: 0 for the first, which therefore keeps its numbers in any company.

    Examples
    --------
    >>> occurrences(["mass", "noise", "mass"])
    [0, 0, 1]
    """
    return [streams[:index].count(stream) for index, stream in enumerate(streams)]


class WorldStreams:
    """One running generator a world, for effects that draw at every step; saved as an array of integers.

    A generator a world, rather than one for the batch, makes a world's numbers independent of how many others there
    are.
    """

    def __init__(self, view: EnvView, purpose: str) -> None:
        self._view = view
        self._purpose = purpose
        self._generators: list[np.random.Generator | None] = [None] * view.num_envs

    def begin(self, worlds: IntArray) -> None:
        """Start the streams of ``worlds`` for their new episode."""
        for world in worlds.tolist():
            self._generators[world] = self._view.rng(world, self._purpose)

    def __getitem__(self, world: int) -> np.random.Generator:
        """Generator of ``world``, whose episode has begun."""
        generator = self._generators[world]
        if generator is None:
            message = f"world {world} was stepped before its first reset"
            raise UserError(message)
        return generator

    def state(self) -> NDArray[np.uint64]:
        """State of the Philox generators ``(num_envs, 13)``; rows of worlds never reset are zero."""
        rows = np.zeros((len(self._generators), 13), np.uint64)
        for row, generator in zip(rows, self._generators, strict=True):
            if generator is not None:
                state: Any = generator.bit_generator.state
                row[:4], row[4:6], row[6:10] = state["state"]["counter"], state["state"]["key"], state["buffer"]
                row[10:] = state["buffer_pos"], state["has_uint32"], state["uinteger"]
        return rows

    def restore(self, rows: NDArray[np.uint64]) -> None:
        """Set the generators to what `state` returned."""
        for world, row in enumerate(rows):
            bits = np.random.Philox(0)
            bits.state = {
                "bit_generator": "Philox",
                "state": {"counter": row[:4], "key": row[4:6]},
                "buffer": row[6:10],
                "buffer_pos": int(row[10]),
                "has_uint32": int(row[11]),
                "uinteger": int(row[12]),
            }
            self._generators[world] = np.random.Generator(bits) if row.any() else None


class StreamEffect(Effect):
    """An effect that draws random numbers at every step from ``streams``."""

    def __init__(self, view: EnvView, purpose: str) -> None:
        self.view = view
        self.streams = WorldStreams(view, purpose)

    def begin(self, worlds: IntArray) -> None:
        """See `Effect.begin`."""
        self.streams.begin(worlds)

    def state_dict(self) -> dict[str, Any]:
        """See `Effect.state_dict`."""
        return {**super().state_dict(), "streams": self.streams.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Effect.load_state_dict`."""
        super().load_state_dict(state)
        self.streams.restore(np.asarray(state["streams"]))
