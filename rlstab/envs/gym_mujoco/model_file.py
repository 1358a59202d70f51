"""The MJCF files that gymnasium ships, and what can be read off one without compiling it."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from rlstab.errors import UserError, pip_install, suggest

# Elements that add bodies of their own, so that counting <body> elements no longer gives MuJoCo's numbering.
_GENERATORS = ("include", "replicate", "attach", "composite", "flexcomp")


@lru_cache(maxsize=1)
def assets_folder() -> Path:
    """Folder of gymnasium's MJCF files, found without importing gymnasium.

    Raises
    ------
    UserError
        Gymnasium is not installed.
    """
    spec = importlib.util.find_spec("gymnasium")
    if spec is None or not spec.submodule_search_locations:
        message = f"gymnasium, which brings the MuJoCo models, is not installed: {pip_install('gymnasium[mujoco]')}"
        raise UserError(message)
    return Path(spec.submodule_search_locations[0]) / "envs" / "mujoco" / "assets"


def body_index(path: Path, body: int | str) -> int:
    """Index of a body, given by name or index, in the model at ``path``.

    Raises
    ------
    UserError
        The file can't be read, has no such body, or has parts that generate bodies, which have no names here.
    """
    names, complete = _body_names(path)
    known = ", ".join(filter(None, names))
    if isinstance(body, int):
        if not 0 <= body < len(names) and complete:
            message = f"{path.name} has bodies 0 to {len(names) - 1} ({known}), so not {body}"
            raise UserError(message)
        return body
    if not complete:
        message = f"{path.name} generates bodies, so '{body}' can't be found by name: give its index"
        raise UserError(message)
    if body not in names:
        message = f"{path.name} has no body '{body}'{suggest(body, filter(None, names)) or f'; it has {known}'}"
        raise UserError(message)
    return names.index(body)


@lru_cache(maxsize=32)
def _body_names(path: Path) -> tuple[tuple[str, ...], bool]:
    """Names in MuJoCo's order (depth first, the world being 0), and whether these are all its bodies."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        message = f"model file {path} can't be read: {error}"
        raise UserError(message) from error
    names = ["world", *(body.get("name", "") for top in root.iter("worldbody") for body in top.iter("body"))]
    return tuple(names), not any(element.tag in _GENERATORS for element in root.iter())
