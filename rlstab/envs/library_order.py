"""The order in which two native libraries must be loaded."""

from __future__ import annotations

import contextlib
import importlib
import os


def load_triton_first() -> None:
    """Load the compiler that torch's optimisers and exporter import, before OpenGL's.

    Mesa draws with an LLVM of its own and makes its symbols global. Triton, loaded afterwards, binds to them and ends
    the process: training or exporting after the first picture would be a segmentation fault.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")


def prepare_import_of_mujoco() -> None:
    """Do so now if importing MuJoCo will load Mesa, as it does where ``MUJOCO_GL`` is ``osmesa``."""
    if os.environ.get("MUJOCO_GL", "").lower().strip() == "osmesa":
        load_triton_first()
