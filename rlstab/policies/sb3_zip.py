"""Policies from Stable-Baselines3's own ``.zip`` files, which hold pickles and are therefore read only when told to."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstab.errors import UserError

if TYPE_CHECKING:
    import torch

    from rlstab.policies.base import Policy


def is_sb3_zip(path: Path) -> bool:
    """Whether a file looks like what Stable-Baselines3's ``save`` writes; nothing in it is executed."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"data", "policy.pth"} <= set(archive.namelist())


def load_sb3_zip(path: Path | str, *, allow_pickle: bool = False, device: torch.device | str = "cpu") -> Policy:
    """Load the policy of a model saved by Stable-Baselines3 or sb3-contrib, whatever its algorithm.

    Parameters
    ----------
    path
        The ``.zip`` file.
    allow_pickle
        Agree to run the code in the file: its settings are pickled, and unpickling executes whatever its author, or
        whoever changed it since, put there, with your rights.
    device
        Where the network goes.

    Raises
    ------
    UserError
        Not agreed to, not such a file, or made with packages or versions that are not here.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}; give the .zip file that Stable-Baselines3's save wrote")
    if not is_sb3_zip(path):
        lacking = "it lacks 'data' and 'policy.pth'" if zipfile.is_zipfile(path) else "it is no zip archive"
        raise UserError(
            f"{path} is not a model saved by Stable-Baselines3: {lacking}; give the .zip that its save wrote"
        )
    if not allow_pickle:
        raise UserError(
            f"{path} holds pickles: reading it runs whatever code its author put in, with your rights; if you made it "
            "or trust whoever did, repeat with --allow-pickle (allow_pickle=True)"
        )
    from stable_baselines3.common.save_util import load_from_zip_file

    try:
        data, parameters, _ = load_from_zip_file(path, device=device)
        assert data is not None
        arguments: dict[str, Any] = dict(data.get("policy_kwargs") or {})
        policy: Any = data["policy_class"](
            data["observation_space"], data["action_space"], _no_learning_rate, **arguments
        )
        policy.load_state_dict(parameters["policy"])
    except Exception as error:  # Unpickling raises whatever the pickled classes raise.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be read ({reason}): install the packages and versions it was made with"
        ) from error
    return policy.to(device)


def _no_learning_rate(progress_remaining: float) -> float:
    return 0.0
