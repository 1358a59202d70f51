"""A free box without gravity, as a task: what a disturbance does to it can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.disturbance import Disturbance
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.physics.mujoco_engine import MujocoPhysics
from rlstab.envs.task import ObservationTerm, Task

MODEL = """
<mujoco>
  <option timestep="0.002" gravity="0 0 {gravity}" integrator="Euler"/>
  <worldbody>
    <body name="box">
      <freejoint/>
      <geom name="skin" type="box" size="0.1 0.2 0.3" mass="2" contype="0" conaffinity="0"/>
      <body name="arm" pos="0 0 0.3">
        <joint name="elbow" type="hinge" axis="0 1 0" damping="0.5"/>
        <geom name="bone" type="capsule" fromto="0 0 0 0 0 0.2" size="0.02" mass="0.001" contype="0" conaffinity="0"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="muscle" joint="elbow" ctrlrange="-1 1" gear="0.0001"/>
  </actuator>
</mujoco>
"""

QUARTER_TURN_ABOUT_Z = (0.5**0.5, 0.0, 0.0, 0.5**0.5)


@dataclass(frozen=True)
class FreeBox(Task):
    id: ClassVar[str] = "FreeBox-v0"
    frame_skip: ClassVar[int] = 5
    file: Path = Path()

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> MujocoPhysics:
        return MujocoPhysics(self.file, num_envs, fields, num_threads)

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        return (ObservationTerm("qpos", model.nq), ObservationTerm("qvel", model.nv))

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        qpos = model.qpos0.copy()
        qpos[:3] = rng.standard_normal(3)
        qpos[3:7] = QUARTER_TURN_ABOUT_Z
        return qpos, np.zeros(model.nv)

    def observe(self, state: PhysicsState) -> FloatArray:
        return np.hstack([state.qpos, state.qvel])

    def measure(self, state: PhysicsState) -> FloatArray:
        return state.qpos[:, 0].copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        return {"progress": state.qpos[:, 0] - before}, np.zeros(len(before), bool)


MakeBox = Callable[..., BatchEnv]


@pytest.fixture
def make_box(tmp_path: Path) -> MakeBox:
    """Make a batch of boxes under disturbances; control period 0.01 s."""

    def make(disturbances: Sequence[Disturbance] = (), num_envs: int = 3, *, gravity: float = 0.0, **settings: Any):
        path = tmp_path / "box.xml"
        path.write_text(MODEL.format(gravity=gravity))
        return BatchEnv(FreeBox(file=path), num_envs, disturbances=disturbances, num_threads=1, **settings)

    return make
