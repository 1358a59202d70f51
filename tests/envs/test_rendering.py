from __future__ import annotations

import subprocess
import sys
from typing import Any

import mujoco
import numpy as np
import pytest

from rlstab.envs import rendering
from rlstab.envs.registry import make_vec
from rlstab.envs.rendering import Renderer, choose_backend
from rlstab.errors import UserError

SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 5"/>
    <camera name="side" pos="0 -5 1" xyaxes="1 0 0 0 0 1"/>
    <body name="ball" pos="0 0 1"><freejoint/><geom size="0.3" rgba="1 0 0 1"/></body>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def untried(monkeypatch):
    """A process in which no way of rendering was chosen yet."""
    monkeypatch.setenv("MUJOCO_GL", "")  # Set first, so that what the test leaves there is undone.
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.delenv("DISPLAY", raising=False)
    rendering._working_backend.cache_clear()
    yield monkeypatch
    rendering._working_backend.cache_clear()


@pytest.fixture(scope="module")
def works() -> None:
    try:
        choose_backend()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def scene() -> Any:
    return mujoco.MjModel.from_xml_string(SCENE)


def red_columns(frame: np.ndarray) -> np.ndarray:
    red = (frame[..., 0].astype(int) - frame[..., 1:].max(axis=-1)) > 40
    return np.flatnonzero(red.any(axis=0))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one way each")
class TestChoice:
    def test_the_first_that_works_is_taken_and_told_to_other_libraries(self, untried):
        untried.setattr(rendering, "probe", lambda backend: "" if backend == "osmesa" else "no display")
        assert choose_backend() == "osmesa"
        assert rendering.os.environ["MUJOCO_GL"] == "osmesa"

    def test_the_probe_runs_once_a_process(self, untried):
        calls = []
        untried.setattr(rendering, "probe", lambda backend: calls.append(backend) or "")
        choose_backend()
        untried.delenv("MUJOCO_GL")
        choose_backend()
        assert calls == ["egl"]

    def test_the_variable_decides_without_a_probe(self, untried):
        untried.setattr(rendering, "probe", lambda backend: pytest.fail("probed"))
        untried.setenv("MUJOCO_GL", "OSMesa")
        assert choose_backend() == "osmesa"

    def test_nothing_works_names_the_packages_in_one_line(self, untried):
        untried.setattr(rendering, "probe", lambda backend: f"no {backend} library")
        with pytest.raises(UserError, match=r"no egl library.*libegl1.*libosmesa6") as caught:
            choose_backend()
        assert "\n" not in str(caught.value)

    def test_rendering_that_is_switched_off_says_so(self, untried):
        untried.setenv("MUJOCO_GL", "off")
        with pytest.raises(UserError, match="MUJOCO_GL=off"):
            choose_backend()

    def test_a_backend_that_is_not_there_gives_its_reason(self):
        assert "nosuchbackend" in rendering.probe("nosuchbackend")


@pytest.mark.usefixtures("works")
class TestPictures:
    def test_size_and_type(self, scene):
        renderer = Renderer(scene, 64, 48)
        frame = renderer.frame(scene.qpos0)
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 0
        renderer.close()

    def test_the_camera_follows_the_body(self, scene):
        renderer = Renderer(scene, 64, 64)
        away = scene.qpos0.copy()
        away[:2] = 30.0, -20.0
        for qpos in (scene.qpos0, away):
            assert abs(red_columns(renderer.frame(qpos)).mean() - 31.5) < 2
        renderer.close()

    def test_a_falling_body_is_seen_to_fall(self, scene):
        renderer = Renderer(scene, 64, 64)
        low = scene.qpos0.copy()
        low[2] = 0.6
        rows = [red_columns(renderer.frame(qpos).transpose(1, 0, 2)).mean() for qpos in (scene.qpos0, low)]
        assert rows[1] > rows[0] + 5
        renderer.close()

    def test_a_camera_of_the_model_stays_where_it_is(self, scene):
        renderer = Renderer(scene, 64, 64, camera="side")
        right = scene.qpos0.copy()
        right[0] = 1.0
        assert red_columns(renderer.frame(right)).mean() > red_columns(renderer.frame(scene.qpos0)).mean() + 5
        renderer.close()

    def test_pictures_depend_on_the_state_alone(self, scene):
        renderer = Renderer(scene, 32, 32)
        first = renderer.frame(scene.qpos0)
        renderer.frame(scene.qpos0 + 0.5)
        np.testing.assert_array_equal(renderer.frame(scene.qpos0), first)
        renderer.close()

    def test_two_renderers_do_not_disturb_each_other(self, scene):
        first, second = Renderer(scene, 32, 32), Renderer(scene, 64, 64)
        expected = first.frame(scene.qpos0)
        second.frame(scene.qpos0)
        np.testing.assert_array_equal(first.frame(scene.qpos0), expected)
        second.close()
        np.testing.assert_array_equal(first.frame(scene.qpos0), expected)
        first.close()

    def test_unknown_names_are_refused(self, scene):
        with pytest.raises(UserError, match="did you mean 'side'"):
            Renderer(scene, 32, 32, camera="syde")
        with pytest.raises(UserError, match="did you mean 'ball'"):
            Renderer(scene, 32, 32, body="bal")

    def test_a_closed_renderer_says_so(self, scene):
        renderer = Renderer(scene, 32, 32)
        renderer.close()
        renderer.close()
        with pytest.raises(UserError, match="closed"):
            renderer.frame(scene.qpos0)

    def test_a_batch_draws_each_world(self):
        env = make_vec("Hopper-v5", 2)
        env.reset(seed=0)
        frames = env.render()
        assert frames is not None
        assert [frame.shape for frame in frames] == [(480, 480, 3)] * 2
        env.close()

    def test_an_open_renderer_leaves_no_complaints_at_the_end_of_the_process(self):
        code = (
            "from rlstab.envs.rendering import Renderer\n"
            "import mujoco\n"
            "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size=\"1\"/></worldbody></mujoco>')\n"
            "renderer = Renderer(model, 16, 16)\n"
            "renderer.frame(model.qpos0)\n"
        )
        outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (outcome.returncode, outcome.stderr) == (0, "")
