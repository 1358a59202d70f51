"""The log of a deployment: what was seen, commanded and when, for inspection and for fitting simulators to it."""

from __future__ import annotations

import io
import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlstab.runs.atomic import write_bytes
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.robot import Reading
from rlstab.sim2real.timing import Tick


class Row(NamedTuple):
    """One reading and what was done about it."""

    episode: int
    reading: Reading
    action: NDArray[np.generic] | None
    tick: Tick
    final: bool


class Recorder:
    """Keeps the newest readings of any number of episodes in memory and writes them as one ``.npz``.

    Parameters
    ----------
    capacity
        Readings to keep; older ones are dropped. Default: an hour at 200 Hz.
    """

    def __init__(self, capacity: int = 720_000) -> None:
        self._rows: deque[Row] = deque(maxlen=capacity)
        self._episode = -1

    def __len__(self) -> int:
        """Count the readings kept."""
        return len(self._rows)

    def begin(self) -> None:
        """Say that a new episode starts."""
        self._episode += 1

    def record(self, reading: Reading, action: NDArray[np.generic] | None, tick: Tick, *, final: bool = False) -> None:
        """Keep one reading, the action sent for it, and its times.

        ``final`` says that nothing was sent any more: the episode ended with this reading, or a fault ended it. The
        action is then none, or what would have been sent.
        """
        self._rows.append(Row(self._episode, reading, action, tick, final))

    def arrays(self, contract: Contract, newest: int | None = None) -> dict[str, NDArray[np.generic]]:
        """Give the log as arrays with one row a reading.

        Parameters
        ----------
        contract
            Of the controller; gives the shape of actions where none was sent.
        newest
            At most so many rows, and of the present episode only; default: all.

        Returns
        -------
        dict
            ``episode``; ``observation``; ``action``; ``qpos`` and ``qvel``, NaN where not known; ``reward`` since the
            previous reading, NaN where not measured; ``final``, true for the last reading of an episode, after which
            nothing was sent: its action is NaN (0 for a discrete one), or what was not sent because of a fault; and the
            fields of `rlstab.sim2real.timing.Tick`, those after the fault or end NaN. The rewards of an episode sum to
            its return.
        """
        rows = list(self._rows)
        if newest is not None:
            rows = [row for row in rows if row.episode == self._episode][-newest:]
        readings = [row.reading for row in rows]
        sent = next((np.asarray(row.action) for row in rows if row.action is not None), None)
        layout = contract.layout.action
        nothing = np.zeros(layout.shape, layout.dtype) if sent is None else np.zeros_like(sent)
        if np.issubdtype(nothing.dtype, np.inexact):
            nothing = np.full_like(nothing, np.nan)
        arrays: dict[str, NDArray[np.generic]] = {
            "episode": np.array([row.episode for row in rows], dtype=np.int64),
            "observation": np.array([reading.observation for reading in readings]),
            "action": np.array([nothing if row.action is None else row.action for row in rows]),
            "qpos": _stacked([reading.qpos for reading in readings]),
            "qvel": _stacked([reading.qvel for reading in readings]),
            "reward": np.array([np.nan if reading.reward is None else reading.reward for reading in readings]),
            "final": np.array([row.final for row in rows], dtype=np.bool_),
        }
        for name in Tick._fields:
            arrays[name] = np.array([getattr(row.tick, name) for row in rows])
        return arrays

    def save(self, path: str | os.PathLike[str], contract: Contract) -> Path:
        """Write the log: the arrays of `arrays`, and ``contract``, the contract's JSON.

        Raises
        ------
        UserError
            The file cannot be written.
        """
        content = io.BytesIO()
        arrays = {**self.arrays(contract), "contract": np.array(contract.to_json())}
        np.savez_compressed(content, allow_pickle=False, **arrays)
        write_bytes(Path(path), content.getvalue())
        return Path(path)


def _stacked(vectors: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack vectors of one size; empty ones, which stand for not known, become NaN."""
    size = max((vector.size for vector in vectors), default=0)
    return np.array([vector if vector.size == size else np.full(size, np.nan) for vector in vectors])
