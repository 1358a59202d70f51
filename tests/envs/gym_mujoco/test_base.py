"""Constants of the tasks are checked, and models are found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rlstab.envs.gym_mujoco.hopper import Hopper
from rlstab.envs.tasks import TASKS
from rlstab.errors import UserError


@pytest.mark.parametrize(
    ("id", "arguments", "complaint"),
    [
        ("Hopper-v5", {"ctrl_cost_weight": "much"}, "ctrl_cost_weight must be a number, got 'much'"),
        ("Hopper-v5", {"ctrl_cost_weight": float("nan")}, "ctrl_cost_weight must be a number"),
        ("Hopper-v5", {"healthy_reward": True}, "healthy_reward must be a number, got True"),
        ("Hopper-v5", {"terminate_when_unhealthy": 1}, "terminate_when_unhealthy must be true or false"),
        ("Hopper-v5", {"healthy_z_range": 0.7}, "healthy_z_range must be two numbers"),
        ("Hopper-v5", {"healthy_z_range": (2.0, 0.7)}, "low <= high"),
        ("Hopper-v5", {"reset_noise_scale": -1.0}, "reset_noise_scale must be 0 or more"),
        ("Ant-v5", {"main_body": 1.5}, "main_body must be an index or a name"),
        ("Ant-v5", {"xml_file": 3}, "xml_file must be text"),
    ],
)
def test_wrong_constants_are_refused_in_one_line(id: str, arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        TASKS[id](**arguments)
    assert id in str(caught.value)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("id", TASKS)
def test_models_are_gymnasiums(id: str) -> None:
    path = TASKS[id]().model_path()
    assert path.is_file()
    assert "gymnasium" in path.parts


def test_own_model_file(tmp_path: Path) -> None:
    task = TASKS["Ant-v5"]
    own = tmp_path / "robot.xml"
    shutil.copy(task().model_path(), own)
    assert task(xml_file=str(own)).model_path() == own
    assert task(xml_file="./robot.xml").model_path() == Path("robot.xml")
    assert task(xml_file="~/robot.xml").model_path() == Path.home() / "robot.xml"


def test_tasks_compare_by_their_constants() -> None:
    assert Hopper() == Hopper()
    assert hash(Hopper()) == hash(Hopper())
    assert Hopper() != Hopper(healthy_reward=2.0)
