"""From saved weights to a policy, without unpickling anything."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from rlstab.policies.base import TorchPolicy
    from rlstab.runs.run import Run

# Kind written in the checkpoint -> class with `from_state`. A new kind of network adds its line here.
KINDS = {
    "actor_critic": "rlstab.policies.actor_critic:ActorCriticPolicy",
    "lyapunov": "rlstab.policies.lyapunov_policy:LyapunovPolicy",
    "roa": "rlstab.policies.roa.policy:RoaPolicy",
    "sb3": "rlstab.policies.sb3:SB3Policy",
    "transformer": "rlstab.policies.transformer.policy:TransformerPolicy",
}


BEST = "best by training return"
"""Rule by which a checkpoint is chosen if nothing else is asked for."""


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


class Chosen(NamedTuple):
    """A checkpoint of a run, named once and for all: a run that still trains gets new ones."""

    step: int
    """Environment steps it was trained for."""
    rule: str
    """Why this one, in words."""


def choose_checkpoint(run: Run, which: str | int = "best") -> Chosen:
    """Find the checkpoint that a name stands for now.

    Parameters
    ----------
    run
        The run.
    which
        As for `load_policy`.

    Raises
    ------
    UserError
        There is no such checkpoint.
    """
    from rlstab.runs.checkpoint import read_info
    from rlstab.runs.store import which_checkpoint

    chosen = which_checkpoint(which)
    info = read_info(run.checkpoints.find(chosen))
    if chosen == "best":
        return Chosen(info.step, "the newest: none has a training return" if info.score is None else BEST)
    return Chosen(info.step, "the newest" if chosen == "last" else "chosen by its step")


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
        The folder is not a run, has no such checkpoint, or the checkpoint is damaged; or it is a file of
        Stable-Baselines3, which `rlstab.policies.sb3_zip.load_sb3_zip` reads.
    """
    from pathlib import Path

    from rlstab.policies.sb3_zip import is_sb3_zip
    from rlstab.runs.checkpoint import read_checkpoint
    from rlstab.runs.run import Run

    if not isinstance(run, Run) and is_sb3_zip(Path(run)):
        raise UserError(
            f"{run} is a model of Stable-Baselines3, not a run: load it with "
            "rlstab.policies.sb3_zip.load_sb3_zip(path, allow_pickle=True) if you trust whoever made it"
        )
    opened = run if isinstance(run, Run) else Run.open(Path(run))
    checkpoint = read_checkpoint(opened.checkpoints.find(which), branch="policy")
    return policy_from_state(checkpoint.state["policy"], device)
