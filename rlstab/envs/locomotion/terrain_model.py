"""A terrain as geoms of a MuJoCo model."""

from __future__ import annotations

import mujoco

from rlstab.envs.locomotion.model import FOOT_FRICTION, GROUND_BIT
from rlstab.envs.locomotion.terrain import BORDER, Terrain

_DEPTH = 1.0
"""Thickness below the lowest surface, m."""
_COLOURS = ((0.42, 0.46, 0.44, 1.0), (0.36, 0.41, 0.45, 1.0))


def add_terrain(spec: mujoco.MjSpec, terrain: Terrain) -> None:
    """Add one height field over all tiles, the boxes that stand on it, and a level border around it."""
    _add_field(spec, terrain)
    for level, kind, box in terrain.boxes():
        x, y, _ = terrain.centre(level, kind)
        low = min(box.top, float(terrain.field_heights.min())) - 0.1
        geom = _solid(
            spec,
            (x + box.x0, x + box.x1),
            (y + box.y0, y + box.y1),
            (low, box.top),
            _COLOURS[round(10 * box.top / 0.5) % 2],
        )
        friction = terrain.tiles[level][kind].friction
        if friction is not None:
            # Of two geoms the more slippery would lose; the higher priority decides alone.
            geom.priority = 1
            geom.friction = (friction, *FOOT_FRICTION[1:])
    x, y = (extent / 2.0 for extent in terrain.shape)
    for across, along in (
        ((-x - BORDER, x + BORDER), (y, y + BORDER)),
        ((-x - BORDER, x + BORDER), (-y - BORDER, -y)),
        ((x, x + BORDER), (-y, y)),
        ((-x - BORDER, -x), (-y, y)),
    ):
        _solid(spec, across, along, (-_DEPTH, 0.0), _COLOURS[0])


def _add_field(spec: mujoco.MjSpec, terrain: Terrain) -> None:
    heights = terrain.field_heights
    low, high = float(heights.min()), float(heights.max())
    # MuJoCo scales the samples to 0..1 itself, so the geom has to undo just that.
    spec.add_hfield(
        name="terrain",
        size=[terrain.shape[0] / 2.0, terrain.shape[1] / 2.0, max(high - low, 1e-3), _DEPTH],
        nrow=heights.shape[0],
        ncol=heights.shape[1],
        userdata=((heights - low) / max(high - low, 1e-3)).ravel(),
    )
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_HFIELD,
        hfieldname="terrain",
        pos=[0.0, 0.0, low],
        contype=GROUND_BIT,
        conaffinity=0,
        friction=FOOT_FRICTION,
        rgba=_COLOURS[0],
    )


def _solid(
    spec: mujoco.MjSpec,
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    rgba: tuple[float, float, float, float],
) -> mujoco.MjsGeom:
    return spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[sum(side) / 2.0 for side in (x, y, z)],
        size=[(side[1] - side[0]) / 2.0 for side in (x, y, z)],
        contype=GROUND_BIT,
        conaffinity=0,
        friction=FOOT_FRICTION,
        rgba=rgba,
    )
