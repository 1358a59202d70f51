"""The policies that commands are about: runs, exported files and other people's models."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlstab.cli.console import note
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.policies.base import Policy
    from rlstab.runs.environment import EnvSettings
    from rlstab.runs.run import Run
    from rlstab.runs.store import Which
    from rlstab.sim2real.contract import Contract


@dataclass(frozen=True)
class Subject:
    """A policy with what is needed to evaluate it."""

    path: Path
    policy: Policy
    settings: EnvSettings
    """Where it plays."""
    method: str
    """What trained it, or its class."""
    training: str
    """Which training it comes from."""
    elsewhere: bool = False
    """Whether that is another environment than that of training."""
    run: Run | None = None
    step: int | None = None
    """Of the checkpoint, where that is known."""
    rule: str = ""
    """Why this checkpoint."""

    @property
    def env_id(self) -> str:
        """The environment's id."""
        return str(self.settings.env_id)


def load_subject(
    path: Path,
    which: Which,
    *,
    env: str | None = None,
    max_episode_steps: int | None = None,
    allow_pickle: bool = False,
) -> Subject:
    """Load a policy and find where it plays.

    Parameters
    ----------
    path
        A run, an exported .onnx file, or a .zip file of Stable-Baselines3.
    which
        Checkpoint of a run.
    env
        Where it is to play; None: where it was trained.
    max_episode_steps
        Time limit of an episode; None: that of training, or the environment's own.
    allow_pickle
        Whether .zip files may be read.

    Raises
    ------
    UserError
        There is no such policy, or the environment does not fulfil its contract.
    """
    from rlstab.policies.sb3_zip import is_sb3_zip, load_sb3_zip
    from rlstab.runs.environment import EnvSettings

    if path.suffix == ".onnx":
        from rlstab.sim2real.policy_onnx import OnnxPolicy

        policy = OnnxPolicy.load(path)
        training = policy.contract.training
        trained_in = EnvSettings(training.env_id, training.max_episode_steps, training.env_kwargs)
        settings = _limited(trained_in.elsewhere(env), max_episode_steps)
        _keep_contract(policy.contract, settings)
        method = training.method or type(policy).__name__
        elsewhere = not trained_in.is_in(env)
        return Subject(path, policy, settings, method, training.run or str(path), elsewhere, step=training.steps)
    if (path.suffix == ".zip" and not path.is_dir()) or is_sb3_zip(path):
        loaded = load_sb3_zip(path, allow_pickle=allow_pickle)
        if env is None:
            raise UserError(f"{path} does not say which environment it is for: add --env ID")
        settings = _limited(EnvSettings(env), max_episode_steps)
        return Subject(path, loaded, settings, type(loaded).__name__, str(path), elsewhere=True)
    from rlstab.policies.loading import choose_checkpoint, load_policy
    from rlstab.runs.run import Run

    opened = Run.open(path)
    trained_in = EnvSettings.of_run(opened.info)
    settings = _limited(trained_in.elsewhere(env), max_episode_steps)
    # Resolved once: the run may still be training, and its best checkpoint change.
    step, rule = choose_checkpoint(opened, which)
    policy, elsewhere = load_policy(opened, step), not trained_in.is_in(env)
    return Subject(path, policy, settings, opened.info.method, opened.info.name, elsewhere, opened, step, rule)


def _limited(settings: EnvSettings, limit: int | None) -> EnvSettings:
    return settings if limit is None else dataclasses.replace(settings, max_episode_steps=limit)


def _keep_contract(contract: Contract, settings: EnvSettings) -> None:
    """Refuse an environment that does not fulfil the contract, and say what was not compared, as deployment does."""
    from rlstab.envs.registry import make_vec
    from rlstab.sim2real.layout import first_difference, layout_of, not_compared

    env = make_vec(settings.env_id, max_episode_steps=settings.max_episode_steps, env_kwargs=settings.env_kwargs)
    try:
        offered = layout_of(env)
    finally:
        env.close()
    difference = first_difference(contract.layout, offered)
    if difference:
        raise UserError(difference)
    for remark in not_compared(contract, offered):
        note(remark)
