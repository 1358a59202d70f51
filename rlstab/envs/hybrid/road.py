"""Random roads: straight pieces that turn at knots and change their friction halfway between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError

DRY, ICE = 1.0, 0.1
"""Friction relative to dry road."""
HALF_WIDTH = 2.0
"""Of a lane, m: for drawings."""
WIDEST_ERROR = 3.0
"""Lateral error at which a run counts as lost, m."""
_BASE_LENGTH = 15.0
_RATIOS = (2.5, 1.0, 0.5)
_TURNS = (1.5, -1.5, 1.0, -1.0, 0.5, -0.5)
_TURN = np.radians(30.0)
_FIRST_TURNS = (1.0, -1.0, 0.5, -0.5, 0.25, -0.25)


@dataclass(frozen=True, eq=False)
class Road:
    """A polyline with a friction for each piece; the first begins at the origin unless ``points`` say otherwise."""

    points: NDArray[np.float64]
    """``(pieces + 1, 2)`` m."""
    friction: NDArray[np.float64]
    """``(pieces,)`` relative to dry road."""

    @property
    def lengths(self) -> NDArray[np.float64]:
        """``(pieces,)`` m."""
        return np.linalg.norm(np.diff(self.points, axis=0), axis=1)

    @property
    def headings(self) -> NDArray[np.float64]:
        """``(pieces,)`` rad."""
        dx, dy = np.diff(self.points, axis=0).T
        return np.arctan2(dy, dx)

    def configuration(self, speeds: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Configuration ``(6 pieces,)`` of a `Car` on this road whose reference drives at ``speeds`` m/s.

        Raises
        ------
        UserError
            A speed is not positive.
        """
        speeds = np.broadcast_to(np.asarray(speeds, np.float64), self.friction.shape)
        if not (speeds > 0.0).all():
            raise UserError(f"the reference must drive forward, got {speeds.min():g} m/s")
        parts = [self.friction, speeds, self.headings, self.lengths, self.points[:-1, 0], self.points[:-1, 1]]
        return np.stack(parts, -1).ravel()


def random_road(rng: np.random.Generator, segments: int = 10) -> Road:
    """Draw a road of ``2 segments`` pieces, with the benchmark's frictions, lengths and turns.

    Each knot has a friction, dry or ice with equal chances, which holds from the middle of the segment before it to the
    middle of the one after it. Segments are 15 m times 2.5, 1 or 0.5 long, and turn by 45, 30 or 15 degrees to either
    side; the first turns by 1, 0.5 or 0.25 rad instead. Drawn in this order: all frictions, then for each segment its
    length and its turn. The benchmark does not say in which order each set of choices is listed, and no order that was
    tried gives its published errors, so that its maps of a seed are other ones from the same distribution.

    Parameters
    ----------
    rng
        Source of the numbers; ``numpy.random.default_rng(seed)`` for the benchmark's maps.
    segments
        Straight segments between knots.

    Raises
    ------
    UserError
        There would be no segment.
    """
    if segments < 1:
        raise UserError(f"a road has at least one segment, not {segments}")
    friction = rng.choice([DRY, ICE], segments + 1)
    points, heading = [np.zeros(2)], 0.0
    for segment in range(segments):
        length = _BASE_LENGTH * rng.choice(_RATIOS)
        heading += rng.choice(_TURNS) * _TURN if segment else rng.choice(_FIRST_TURNS)
        ahead = length * np.array([np.cos(heading), np.sin(heading)])
        points += [points[-1] + 0.5 * ahead, points[-1] + ahead]
    return Road(np.array(points), np.stack([friction[:-1], friction[1:]], -1).ravel())
