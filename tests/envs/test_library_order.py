from __future__ import annotations

import subprocess
import sys

import pytest

from rlstab.envs import library_order
from rlstab.envs.rendering import choose_backend
from rlstab.errors import UserError


def test_training_is_possible_after_the_first_picture():
    try:
        choose_backend()
    except UserError as error:
        pytest.skip(str(error))
    code = (
        "import sys\n"
        "from rlstab.envs.rendering import Renderer\n"
        "import mujoco\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size=\"1\"/></worldbody></mujoco>')\n"
        "renderer = Renderer(model, 16, 16)\n"
        "renderer.frame(model.qpos0)\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "torch.optim.Adam(torch.nn.Linear(1, 1).parameters())\n"
        "renderer.frame(model.qpos0)\n"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.parametrize(("variable", "expected"), [("OSMesa", 1), ("egl", 0), ("", 0)])
def test_only_osmesa_is_loaded_by_importing_mujoco(monkeypatch, variable, expected):
    loads = []
    monkeypatch.setattr(library_order, "load_triton_first", lambda: loads.append(1))
    monkeypatch.setenv("MUJOCO_GL", variable)
    library_order.prepare_import_of_mujoco()
    assert len(loads) == expected


def test_a_missing_triton_is_no_trouble(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    library_order.load_triton_first()
