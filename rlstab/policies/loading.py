"""From saved weights to a policy, without unpickling anything."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from rlstab.policies.base import TorchPolicy
    from rlstab.runs.run import Run

# Kind written in the checkpoint -> class with `from_state`. A new kind of network adds its line here.
KINDS = {
    "actor_critic": "rlstab.policies.actor_critic:ActorCriticPolicy",
    "sb3": "rlstab.policies.sb3:SB3Policy",
}


def policy_from_state(state: dict[str, Any], device: torch.device | str = "cpu") -> TorchPolicy:
    """Rebuild a policy from `TorchPolicy.state_dict`.

    Raises
    ------
    UserError
        The kind is unknown: another version wrote it.
    """
    kind = state.get("kind", "")
    if kind not in KINDS:
        message = f"unknown kind of policy '{kind}'{suggest(kind, KINDS)}: the file was written by another version"
        raise UserError(message)
    module, _, name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name).from_state(state, device=device)


def load_policy(run: Run | Path | str, which: str | int = "best", device: torch.device | str = "cpu") -> TorchPolicy:
    """Load the policy of a run.

    Parameters
    ----------
    run
        A run or its folder.
    which
        ``"best"`` by training return, ``"last"``, or a step number.
    device
        Where to put the network.

    Raises
    ------
    UserError
        The folder is not a run, has no such checkpoint, or the checkpoint is damaged.
    """
    from pathlib import Path

    from rlstab.runs.checkpoint import read_checkpoint
    from rlstab.runs.run import Run

    opened = run if isinstance(run, Run) else Run.open(Path(run))
    checkpoint = read_checkpoint(opened.checkpoints.find(which), branch="policy")
    return policy_from_state(checkpoint.state["policy"], device)
