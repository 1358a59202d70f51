"""The log of a deployment: what was seen, commanded and when, for inspection and for fitting simulators to it."""

from __future__ import annotations

import io
import os
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlstab.runs.atomic import write_bytes
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.robot import Reading
from rlstab.sim2real.timing import Tick


class Recorder:
    """Keeps the newest ticks of any number of episodes in memory and writes them as one ``.npz``.

    Parameters
    ----------
    capacity
        Ticks to keep; older ones are dropped. Default: an hour at 200 Hz.
    """

    def __init__(self, capacity: int = 720_000) -> None:
        self._rows: deque[tuple[int, Reading, NDArray[np.generic], Tick]] = deque(maxlen=capacity)
        self._episode = -1

    def __len__(self) -> int:
        """Count the ticks kept."""
        return len(self._rows)

    def begin(self) -> None:
        """Say that a new episode starts."""
        self._episode += 1

    def record(self, reading: Reading, action: NDArray[np.generic], tick: Tick) -> None:
        """Keep one tick: the reading, the action sent for it, and its times."""
        self._rows.append((self._episode, reading, action, tick))

    def save(self, path: str | os.PathLike[str], contract: Contract) -> Path:
        """Write the log.

        The arrays have one row a tick: ``episode``, ``observation``, ``action``, ``qpos``, ``qvel``, ``reward`` (since
        the previous tick; NaN where not measured) and the fields of `rlstab.sim2real.timing.Tick`. ``contract`` is the
        contract's JSON.

        Raises
        ------
        UserError
            The file cannot be written.
        """
        episodes, readings, actions, ticks = (
            (list(column) for column in zip(*self._rows, strict=True)) if self._rows else ([], [], [], [])
        )
        arrays: dict[str, NDArray[np.generic]] = {
            "episode": np.array(episodes, dtype=np.int64),
            "observation": np.array([reading.observation for reading in readings]),
            "action": np.array(actions),
            "qpos": np.array([reading.qpos for reading in readings]),
            "qvel": np.array([reading.qvel for reading in readings]),
            "reward": np.array([np.nan if reading.reward is None else reading.reward for reading in readings]),
            "contract": np.array(contract.to_json()),
        }
        for name in Tick._fields:
            arrays[name] = np.array([getattr(tick, name) for tick in ticks])
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        write_bytes(Path(path), content.getvalue())
        return Path(path)
