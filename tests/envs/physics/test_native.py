"""The thread pool's life: left behind, forked, misused, ended."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import mujoco
import numpy as np
import pytest

from rlstab.envs.physics import native
from rlstab.envs.physics.mujoco_engine import MujocoPhysics
from rlstab.errors import UserError

FALLING = """
<mujoco>
  {size}
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <replicate count="{count}" offset="0 0 .21"><body pos="0 0 .1"><freejoint/><geom size=".1"/></body></replicate>
  </worldbody>
</mujoco>
"""


def physics(num_envs=4, num_threads=3, count=1):
    return MujocoPhysics(
        mujoco.MjModel.from_xml_string(FALLING.format(size="", count=count)), num_envs, (), num_threads
    )


def pool_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("rlstab-world-pool")]


def test_threads_end_with_the_engine():
    gc.collect()  # Engines that other tests left behind.
    before = len(pool_threads())
    engine = physics()
    assert len(pool_threads()) == before + 2
    engine.close()
    engine.close()
    assert len(pool_threads()) == before
    engine = physics()
    del engine
    gc.collect()
    assert len(pool_threads()) == before


def test_stepping_goes_on_without_workers_after_closing():
    engine = physics()
    engine.close()
    engine.step(np.zeros((4, 0)), 5)
    np.testing.assert_allclose(engine.time, 0.01)


def test_two_threads_on_one_engine_are_told():
    engine = physics(num_envs=64, count=20)
    errors = []

    def step():
        try:
            for _ in range(20):
                engine.step(np.zeros((64, 0)), 20)
        except RuntimeError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=step) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors
    assert "two threads" in errors[0]
    engine.step(np.zeros((64, 0)), 1)  # The guard is released again.


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_steps_alone():
    engine = physics()
    engine.step(np.zeros((4, 0)), 1)
    child = os.fork()
    if child == 0:
        engine.step(np.zeros((4, 0)), 1)
        os._exit(0 if np.allclose(engine.time, 0.004) else 1)
    assert os.waitpid(child, 0)[1] == 0
    engine.step(np.zeros((4, 0)), 1)
    np.testing.assert_allclose(engine.time, 0.004)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_interpreter_ends_quietly_with_live_workers():
    code = (
        "import numpy as np\n"
        "from rlstab.envs import make_vec\n"
        "env = make_vec('InvertedPendulum-v5', 8, num_threads=3)\n"
        "env.reset(seed=0); env.step(np.zeros((8, 1)))\n"
    )
    done = run_python(code)
    assert done.returncode == 0
    assert done.stderr == ""


def test_model_that_cannot_be_stepped_is_refused_when_it_is_made():
    model = mujoco.MjModel.from_xml_string(FALLING.format(size='<size memory="16K"/>', count=10))
    with pytest.raises(UserError, match="MuJoCo can't step this model"):
        MujocoPhysics(model, 1)


def test_running_out_of_memory_while_stepping_says_so():
    """Spheres in mid-air need no contacts at first; when they land the arena is too small."""
    xml = FALLING.format(size='<size memory="20K"/>', count=10).replace('pos="0 0 .1"', 'pos="0 0 3"')
    code = (
        "import mujoco, numpy as np\n"
        "from rlstab.envs.physics.mujoco_engine import MujocoPhysics\n"
        f"engine = MujocoPhysics(mujoco.MjModel.from_xml_string({xml!r}), 1)\n"
        "engine.step(np.zeros((1, 0)), 5000)\n"
    )
    done = run_python(code)
    assert done.returncode == 2, done.stderr
    assert "rlstab: MuJoCo stopped while stepping" in done.stderr
    assert "Traceback" not in done.stderr


def diverging(num_envs: int = 2) -> MujocoPhysics:
    engine = physics(num_envs)
    qpos = np.tile(engine.model.qpos0, (num_envs, 1))
    engine.reset(np.arange(num_envs), qpos, np.full((num_envs, engine.model.nv), 1e30))
    return engine


def test_a_diverging_world_leaves_no_log_in_the_working_directory():
    engine = diverging()
    engine.step(np.zeros((2, 0)), 20)
    assert not np.isfinite(engine.qvel).all() or np.abs(engine.qvel).max() > 1e10
    assert not Path("MUJOCO_LOG.TXT").exists()


def test_outside_of_the_engine_mujoco_warns_as_ever():
    engine = diverging()
    engine.step(np.zeros((2, 0)), 1)
    data = mujoco.MjData(engine.model)
    data.qvel[:] = 1e30
    mujoco.mj_step(engine.model, data)
    assert Path("MUJOCO_LOG.TXT").exists()


def test_machine_code_is_compiled_anew_where_no_folder_can_keep_it(monkeypatch):
    def njit(**settings):
        if settings.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, settings)

    monkeypatch.setattr(native, "njit", njit)
    assert native._compiled(abs) == (abs, {"nogil": True})
