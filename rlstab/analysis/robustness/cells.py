"""What the world is changed to in a robustness battery: one parameter at a time, and mass and friction together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlstab.analysis.robustness.forced import Plant
from rlstab.envs.disturbance import (
    ActionDelay,
    Disturbance,
    GravityTilt,
    ObservationNoise,
    ParameterScale,
)

Level = Literal["quick", "full"]

NOMINAL = "nominal"
GRID = "mass x friction"


@dataclass(frozen=True)
class Cell:
    """One changed world.

    Parameters
    ----------
    test
        What is changed.
    value
        To what; for `GRID` the mass.
    unit
        Of the value.
    disturbances
        That make it so.
    second
        The friction, for `GRID`.
    """

    test: str
    value: float
    unit: str
    disturbances: tuple[Disturbance, ...]
    second: float = float("nan")


_SCALES: dict[Level, dict[str, tuple[float, ...]]] = {
    "quick": {
        "body mass": (0.5, 0.7, 1.5, 2.0),
        "mass": (0.7, 1.5),
        "friction": (0.35, 0.5, 2.0),
        "damping": (0.5, 2.0),
        "armature": (),
        "gain": (0.7, 0.85, 1.15),
    },
    "full": {
        "body mass": (0.5, 0.7, 0.85, 1.2, 1.5, 2.0),
        "mass": (0.5, 0.7, 0.85, 1.2, 1.5, 2.0),
        "friction": (0.2, 0.35, 0.5, 0.7, 1.5, 2.0),
        "damping": (0.5, 2.0, 4.0),
        "armature": (0.5, 2.0, 4.0),
        "gain": (0.5, 0.7, 0.85, 1.15),
    },
}
_DELAYS: dict[Level, tuple[int, ...]] = {"quick": (1, 2), "full": (1, 2, 3, 4)}
_TILTS: dict[Level, tuple[float, ...]] = {"quick": (2.0, 5.0), "full": (2.0, 5.0, 8.0)}
_NOISES: dict[Level, tuple[float, ...]] = {"quick": (0.05, 0.1), "full": (0.01, 0.02, 0.05, 0.1, 0.2)}
_GRID_STEPS: dict[Level, int] = {"quick": 0, "full": 10}
_GRID_RANGE = (0.5, 2.0)


def battery_cells(plant: Plant, level: Level, unit_of_noise: Sequence[float] = ()) -> tuple[Cell, ...]:
    """List the worlds of a battery; the first is the unchanged one.

    Friction is scaled at all geoms: MuJoCo takes the larger of the two in contact, so that scaling the floor alone
    changes nothing below the foot's.

    Parameters
    ----------
    plant
        Whose robot it is.
    level
        How many.
    unit_of_noise
        Size of one unit of noise on each component of the observation: its standard deviation, where that is known.
    """
    cells = [Cell(NOMINAL, 1.0, "", ())]
    cells += [Cell("action delay", n, "control steps", (ActionDelay(n),)) for n in _DELAYS[level]]
    if level == "full":
        cells.append(Cell("jittering delay", 2.0, "control steps", (ActionDelay(0, jitter=2),)))
    scale = tuple(float(unit) for unit in unit_of_noise)
    unit = "standard deviations" if scale else "units"
    cells += [Cell("observation noise", s, unit, (ObservationNoise(s, scale=scale),)) for s in _NOISES[level]]
    env = plant.make([0], 0.0)
    model: Any = env.model
    env.close()
    # A linear system has no parameters of a body.
    if not hasattr(model, "body_mass"):
        return tuple(cells)
    for test, factors in _SCALES[level].items():
        cells += _scaled(test, factors, plant, model)
    planar = plant.point.directions in ("line", "sagittal")
    azimuths = (0.0, 180.0) if planar else tuple(np.arange(0.0, 360.0, 45.0 if level == "full" else 90.0))
    cells += [
        Cell("gravity tilt", angle, f"degrees at {azimuth:g}", (GravityTilt(angle, azimuth),))
        for angle in _TILTS[level]
        for azimuth in azimuths
    ]
    factors = np.linspace(*_GRID_RANGE, _GRID_STEPS[level]) if _GRID_STEPS[level] else ()
    cells += [
        Cell(GRID, float(m), "factors", (ParameterScale("mass", float(m)), ParameterScale("friction", float(f))), f)
        for m in factors
        for f in factors
    ]
    return tuple(cells)


def _scaled(test: str, factors: Iterable[float], plant: Plant, model: Any) -> list[Cell]:
    parameter, names = ("mass", (plant.point.body,)) if test == "body mass" else (test, None)
    # A factor on what is zero changes nothing, and would only dilute the scores.
    nothing = {"damping": "dof_damping", "armature": "dof_armature"}
    if test in nothing and not np.any(getattr(model, nothing[test])):
        return []
    label = f"mass of {plant.point.body}" if test == "body mass" else test
    return [Cell(label, factor, "factor", (ParameterScale(parameter, factor, names),)) for factor in factors]
