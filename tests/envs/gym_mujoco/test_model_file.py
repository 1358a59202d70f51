"""Body numbers read off MJCF files are MuJoCo's."""

from __future__ import annotations

from pathlib import Path

import mujoco
import pytest

from rlstab.envs.gym_mujoco.model_file import assets_folder, body_index
from rlstab.envs.tasks import TASKS
from rlstab.errors import UserError

NESTED = """<mujoco>
<worldbody>
  <body name="a"><geom size="1"/>
    <body name="b"><geom size="1"/></body>
    <frame><body name="c"><geom size="1"/></body></frame>
  </body>
</worldbody>
<worldbody><body name="d"><geom size="1"/></body></worldbody>
</mujoco>"""


@pytest.mark.parametrize("id", TASKS)
def test_shipped_models(id: str) -> None:
    path = TASKS[id]().model_path()
    model = mujoco.MjModel.from_xml_path(str(path))
    for index in range(model.nbody):
        assert body_index(path, index) == index
        if name := model.body(index).name:
            assert body_index(path, name) == index


def test_nested_frames_and_several_worldbodies(tmp_path: Path) -> None:
    path = tmp_path / "nested.xml"
    path.write_text(NESTED)
    model = mujoco.MjModel.from_xml_path(str(path))
    for index in range(model.nbody):
        assert body_index(path, model.body(index).name) == index


def test_unknown_bodies_are_named_with_the_nearest() -> None:
    path = assets_folder() / "ant.xml"
    with pytest.raises(UserError, match="no body 'torsoo'; did you mean 'torso'"):
        body_index(path, "torsoo")
    with pytest.raises(UserError, match=r"bodies 0 to 13 .*, so not 14"):
        body_index(path, 14)
    with pytest.raises(UserError, match="so not -1"):
        body_index(path, -1)


def test_generated_bodies_have_no_names_here(tmp_path: Path) -> None:
    path = tmp_path / "generated.xml"
    path.write_text("<mujoco><worldbody><replicate count='3'><body name='leg'/></replicate></worldbody></mujoco>")
    with pytest.raises(UserError, match="give its index"):
        body_index(path, "leg")
    assert body_index(path, 3) == 3


@pytest.mark.parametrize("content", [None, "<mujoco><worldbody>"])
def test_unreadable_files(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "broken.xml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="can't be read"):
        body_index(path, "torso")
