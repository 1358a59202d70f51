"""Random generators addressed by a key, so that nobody's draws depend on who drew before.

World 7 in its third episode draws the same numbers whether it runs beside 3 or 500 others, on one thread or sixteen,
and whether or not the run was interrupted in between.
"""

from __future__ import annotations

import hashlib
from typing import SupportsIndex

import numpy as np

EVALUATION_SEED = 10_000
"""Base seed of episodes that judge a policy, in analysis and deployment alike. Far from the small seeds that training
is usually given, so that these episodes begin in other states."""


def _digest(seed: int, key: tuple[str | SupportsIndex, ...]) -> bytes:
    """16 bytes that depend on the seed and on every part of the key, its type and its place."""
    parts: list[bytes] = []
    for part in (seed, *key):
        # Length and type in front, so that ("ab", "c") and ("a", "bc"), or 1 and "1", are different keys.
        tag, text = (b"s", part.encode("utf-8")) if isinstance(part, str) else (b"i", b"%d" % part.__index__())
        parts.append(tag + b"%d:" % len(text) + text)
    return hashlib.sha256(b"".join(parts)).digest()[:16]


def generator(seed: int, *key: str | SupportsIndex) -> np.random.Generator:
    """Make the random generator that belongs to a seed and a key.

    Parameters
    ----------
    seed : int
        The run's seed; any integer.
    *key : int or str
        What the numbers are for, as in ``generator(seed, "reset", world, episode)``.

    Returns
    -------
    numpy.random.Generator
        Counter-based (Philox 4x64), its 128-bit key derived from seed and key by SHA-256. The bit stream is the same
        on every platform; distributions follow numpy, which may improve them between versions.

    References
    ----------
    Salmon, Moraes, Dror, Shaw (2011). Parallel random numbers: as easy as 1, 2, 3. SC11.

    Examples
    --------
    >>> bool(generator(0, "world", 3).random() == generator(0, "world", 3).random())
    True
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(seed, key), "little")))


class EpisodeGenerator:
    """One generator that is moved from episode to episode, at a fraction of the cost of making one for each.

    Seed and purpose give the key, world and episode the upper half of the 256-bit counter; the lower half counts the
    draws within an episode.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._state = self._bits.state
        self._generator = np.random.Generator(self._bits)
        self._family: tuple[int, str] | None = None

    def at(self, seed: int, purpose: str, world: int, episode: int) -> np.random.Generator:
        """Numbers of one episode; the generator serves until the next call."""
        inner = self._state["state"]
        if self._family != (seed, purpose):
            inner["key"][:] = np.frombuffer(_digest(seed, (purpose,)), "<u8")
            self._family = (seed, purpose)
        inner["counter"][2:] = world, episode
        self._bits.state = self._state
        return self._generator


def derive_seed(seed: int, *key: str | SupportsIndex) -> int:
    """Derive a plain seed for a library that takes no generator.

    Returns
    -------
    int
        From 0 to 2**31 - 1, which torch, gymnasium, numpy and ALE all accept.
    """
    return int.from_bytes(_digest(seed, key), "little") % 2**31
