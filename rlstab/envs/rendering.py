"""Pictures of MuJoCo models without a screen or a GPU: which OpenGL works here, and a renderer that uses it."""

from __future__ import annotations

import atexit
import copy
import functools
import importlib
import os
import subprocess
import sys
import weakref
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstab.envs.library_order import load_triton_first
from rlstab.envs.physics.model_parts import index_of
from rlstab.errors import UserError

Backend = Literal["egl", "osmesa", "glfw", "cgl"]

DEBIAN_PACKAGES = {"egl": "libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}
"""What `apt-get install` must bring for each way of rendering."""

_OFF = ("disable", "disabled", "off", "false", "0")
_PROBE_SECONDS = 60
_PROBE = """
import sys, mujoco
from mujoco.{backend} import GLContext
context = GLContext(8, 8)
context.make_current()
mujoco.MjrContext(mujoco.MjSpec().compile(), mujoco.mjtFontScale.mjFONTSCALE_50.value)
sys.stdout.write("works")
sys.stdout.flush()
# Skips the libraries' clean-up, which may complain about the order of things.
import os
os._exit(0)
"""


def choose_backend() -> Backend:
    """Find a way of rendering that works on this machine, and set ``MUJOCO_GL`` to it for other libraries.

    ``MUJOCO_GL`` decides if it is ``egl``, ``osmesa`` or ``glfw``. Otherwise EGL and then OSMesa are tried in a process
    of their own, because a failed try can't be undone, and may crash; what works is kept for the life of this process.
    Whoever draws with another library should call this first.

    Raises
    ------
    UserError
        Nothing works, with the packages to install; or ``MUJOCO_GL`` switches rendering off.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wanted in _OFF:
        message = f"rendering is switched off by MUJOCO_GL={wanted}: unset it, or set it to egl or osmesa"
        raise UserError(message)
    load_triton_first()
    if wanted in ("egl", "osmesa", "glfw"):
        return wanted
    backend = _working_backend()
    os.environ["MUJOCO_GL"] = backend
    return backend


def probe(backend: str) -> str:
    """Try one way of rendering in a process of its own: the empty string if it works, else why not."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        outcome = subprocess.run(
            [sys.executable, "-c", _PROBE.format(backend=backend)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_SECONDS} s"
    if outcome.stdout.endswith("works"):
        return ""
    return next((line.strip() for line in reversed(outcome.stderr.splitlines()) if line.strip()), "it crashed")


@functools.cache
def _working_backend() -> Backend:
    if sys.platform == "darwin":
        return "cgl"
    if sys.platform == "win32":
        return "glfw"
    candidates: tuple[Backend, ...] = ("egl", "osmesa", *(("glfw",) if os.environ.get("DISPLAY") else ()))
    reasons: list[str] = []
    for backend in candidates:
        reason = probe(backend)
        if not reason:
            return backend
        reasons.append(f"{backend}: {reason}")
    message = (
        f"nothing renders off-screen here ({'; '.join(reasons)}): on Debian or Ubuntu install either "
        f"'{DEBIAN_PACKAGES['egl']}' or '{DEBIAN_PACKAGES['osmesa']}'; without them everything but pictures works"
    )
    raise UserError(message)


class Renderer:
    """Draws a MuJoCo model at given states, seen from the side by a camera that follows it.

    Parameters
    ----------
    model : mujoco.MjModel
        The model; a copy is kept.
    width, height
        Size of the picture, pixels.
    camera
        Name of one of the model's cameras; default: one that follows ``body``.
    body
        Name of the body to follow; default: the first one that moves.
    azimuth, elevation
        Degrees; where the following camera looks.
    distance
        Metres between it and the body; default: from the model's size.
    samples
        Samples a pixel, 0 to 8: smooth edges take twice the time and more.

    Raises
    ------
    UserError
        Rendering does not work here, or the camera or body is unknown.
    """

    def __init__(
        self,
        model: Any,
        width: int = 480,
        height: int = 480,
        *,
        camera: str | None = None,
        body: str | None = None,
        azimuth: float = 90.0,
        elevation: float = -15.0,
        distance: float | None = None,
        samples: int = 0,
    ) -> None:
        import mujoco

        self.size = (width, height)
        self._mujoco = mujoco
        self._model = copy.copy(model)
        visual = self._model.vis
        visual.global_.offwidth, visual.global_.offheight = width, height
        # Without a GPU these decide how long a picture takes: half a second as models set them, a tenth like this.
        visual.quality.offsamples = samples
        visual.quality.shadowsize = min(visual.quality.shadowsize, 1024)
        self._data = mujoco.MjData(self._model)
        self._camera = mujoco.MjvCamera()
        self._followed: int | None = None
        if camera is not None:
            self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._camera.fixedcamid = index_of(model, "camera", camera)
        else:
            self._followed = _first_moving_body(model) if body is None else index_of(model, "body", body)
            mujoco.mj_forward(self._model, self._data)
            self._camera.lookat[:] = self._data.subtree_com[self._followed]
            self._camera.azimuth, self._camera.elevation = azimuth, elevation
            self._camera.distance = distance or 1.9 * _extent(self._model, self._data, self._followed)

        self._context = _make_context(width, height)
        self._drawing = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)
        self._scene = mujoco.MjvScene(self._model, maxgeom=2000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._option = mujoco.MjvOption()
        _OPEN.add(self)

    def frame(self, qpos: ArrayLike, qvel: ArrayLike | None = None) -> NDArray[np.uint8]:
        """Picture ``(height, width, 3)`` of the model at ``qpos (nq,)``, ``qvel (nv,)``.

        Raises
        ------
        UserError
            The renderer is closed.
        """
        if self._context is None:
            message = "this renderer is closed; make a new one"
            raise UserError(message)
        mujoco = self._mujoco
        self._context.make_current()
        self._data.qpos[:] = qpos
        self._data.qvel[:] = 0.0 if qvel is None else qvel
        mujoco.mj_forward(self._model, self._data)
        if self._followed is not None:
            # Only along the ground: a robot that falls is seen to fall.
            self._camera.lookat[:2] = self._data.subtree_com[self._followed, :2]
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera, everything, self._scene)
        width, height = self.size
        view = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(view, self._scene, self._drawing)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, view, self._drawing)
        # OpenGL's first row is the lowest.
        return np.ascontiguousarray(pixels[::-1])

    def close(self) -> None:
        """Free the drawing context; `frame` can't be used afterwards."""
        if self._context is None:
            return
        self._context.make_current()
        self._drawing.free()
        self._context.free()
        self._context = None
        _OPEN.discard(self)


_OPEN: weakref.WeakSet[Renderer] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # While the interpreter still stands: OpenGL contexts freed during its end complain.
    for renderer in list(_OPEN):
        renderer.close()


def _make_context(width: int, height: int) -> Any:
    backend = choose_backend()
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        context.make_current()
    except Exception as error:
        # What the OpenGL libraries raise ranges from ImportError over AttributeError to their own.
        packages = DEBIAN_PACKAGES.get(backend)
        remedy = f"; on Debian or Ubuntu: apt-get install {packages}" if packages else ""
        message = f"rendering with MUJOCO_GL={backend} does not work here ({' '.join(str(error).split())}){remedy}"
        raise UserError(message) from error
    # Registered after the library's own clean-up, so that it runs before it.
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    return context


def _first_moving_body(model: Any) -> int:
    moving = np.flatnonzero(np.asarray(model.body_jntnum) > 0)
    return int(moving[0]) if len(moving) else 0


def _extent(model: Any, data: Any, body: int) -> float:
    """Size of what hangs on ``body``, metres: twice the reach of its geoms from their common centre of mass."""
    within = np.asarray(model.body_rootid) == model.body_rootid[body]
    geoms = within[np.asarray(model.geom_bodyid)] & (np.asarray(model.geom_bodyid) > 0)
    if not geoms.any():
        return float(model.stat.extent)
    reach = np.linalg.norm(data.geom_xpos[geoms] - data.subtree_com[body], axis=1) + model.geom_rbound[geoms]
    return 2.0 * float(reach.max())
