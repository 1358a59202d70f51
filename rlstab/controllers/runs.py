"""Runs from a method's name: make one and train it, or go on with one. What the command line and notebooks call."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstab.controllers import registry
from rlstab.controllers.config import BaseConfig
from rlstab.errors import UserError
from rlstab.runs.config import from_json, to_json, validate

if TYPE_CHECKING:
    from rlstab.learning.learner import Learner
    from rlstab.learning.training import Progress, TrainingSummary
    from rlstab.runs.run import Run

Tell = Callable[[str], None]
"""Takes a line for the user that is not a result."""


def configure(method: str, env: str | None = None, *, preset: str | None = None, **settings: Any) -> BaseConfig:
    """Resolve settings over the preset over the defaults, and check every value.

    Parameters
    ----------
    method
        A registered method.
    env
        Environment; default: that of the preset, or else the method's own. An id without a version, as ``Hopper``, is
        completed with the latest one.
    preset
        A preset's name, or ``"none"`` for plain defaults; default: that of the environment.
    settings
        Fields of the method's configuration.

    Raises
    ------
    UserError
        Unknown method, preset or setting, or a value of the wrong type or out of range.

    Examples
    --------
    >>> configure("sac", "Swimmer-v5", learning_starts=500).gamma
    0.9999
    """
    from rlstab.envs.gym_make import resolve_id

    config_class = registry.get(method).config_class()
    plain = config_class()
    env = None if env is None else resolve_id(env)
    values = registry.load_preset(method, env or plain.env, preset).values
    chosen = {**values, **({} if env is None else {"env": env}), **settings}
    return from_json(config_class, to_json(plain) | {name: _plain(value) for name, value in chosen.items()})


def begin(
    method: str,
    config: BaseConfig,
    folder: str | Path = "runs",
    *,
    name: str | None = None,
    command: Sequence[str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    tell: Tell = print,
) -> tuple[Run, TrainingSummary]:
    """Make a run and train it.

    Parameters
    ----------
    method, config
        What to train; see `configure`.
    folder, name
        Folder of runs, and the run's own name in it or None for one that is made up.
    command
        What the user typed, for the record; default: how this process was started.
    on_progress
        Called after each unit of work.
    tell
        Called with what the user should know meanwhile.

    Returns
    -------
    Run, TrainingSummary
        Also after an interruption; `go_on` then continues.

    Raises
    ------
    UserError
        Something about the environment, the device or the folder is wrong; or training failed.
    """
    from rlstab.envs.gym_make import resolve_id
    from rlstab.runs.run import Run, check_name

    # Before the run's folder: what is wrong with the settings, the environment or the device leaves nothing behind.
    if name is not None:
        check_name(name)
    validate(config)
    config = dataclasses.replace(config, env=resolve_id(config.env))
    learner = registry.get(method).make_learner(config)
    try:
        run = Run.create(
            Path(folder),
            method=method,
            env_id=config.env,
            config=to_json(config),
            seed=config.seed,
            command=list(sys.orig_argv if command is None else command),
            name=name,
            total_steps=config.total_steps,
            **_computed_on(config),
        )
        tell(f"run {run.path}")
        return run, _train(learner, run, config, on_progress)
    finally:
        learner.close()


def go_on(
    run: Run,
    total_steps: int | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    tell: Tell = print,
) -> TrainingSummary:
    """Train a run that was interrupted, or has more to do.

    Parameters
    ----------
    run
        The run.
    total_steps
        New length of the whole training; None: as before. With a schedule over the whole training (a learning rate
        that falls linearly, the exploration of DQN) a run that is extended is not what one of that length would have
        been from the start.
    on_progress, tell
        See `begin`.

    Raises
    ------
    UserError
        There is nothing left to do, no checkpoint is intact, another process writes the run, or training failed.
    """
    from rlstab.learning.training import resume

    # Held from the first look to the last checkpoint: nobody else may train the run in between.
    with run.lock():
        run.reload()
        method = registry.get(run.info.method)
        before = from_json(method.config_class(), run.info.config)
        config = before if total_steps is None else dataclasses.replace(before, total_steps=total_steps)
        validate(config)
        if is_complete(run, config.total_steps):
            done = run.checkpoints.steps()[-1]
            raise UserError(f"{run.path} has done its {done} steps; to train further, give a larger --total-steps")
        _tell_versions(run.info.versions, tell)
        learner = method.make_learner(config)
        try:
            for message in resume(learner, run).messages:
                tell(message)
            if config.total_steps != before.total_steps:
                _tell_schedules(before, config, tell)
            run.update(config=to_json(config), total_steps=config.total_steps, **_computed_on(config))
            return _train(learner, run, config, on_progress)
        finally:
            learner.close()


def is_complete(run: Run, total_steps: int | None = None) -> bool:
    """Whether a run has concluded, with all its steps, in a checkpoint that is intact.

    A run that was killed after its last checkpoint has not concluded yet, and one whose last checkpoint was damaged
    since must be trained again from the one before.

    Parameters
    ----------
    run
        The run.
    total_steps
        Length of the whole training; None: as configured.
    """
    from rlstab.runs.checkpoint import is_intact

    newest = run.checkpoints.latest()
    if newest is None or run.info.status != "finished":
        return False
    wanted = run.info.total_steps if total_steps is None else total_steps
    return run.checkpoints.steps()[-1] >= wanted and is_intact(newest)


def _train(
    learner: Learner, run: Run, config: BaseConfig, on_progress: Callable[[Progress], None] | None
) -> TrainingSummary:
    from rlstab.learning.training import train

    run.checkpoints.keep_last = config.keep
    return train(
        learner,
        run,
        total_steps=config.total_steps,
        checkpoint_every=config.checkpoint_every,
        on_progress=on_progress,
    )


def _computed_on(config: BaseConfig) -> dict[str, Any]:
    import torch

    from rlstab.policies.tensors import pick_device

    return {"device": str(pick_device(config.device)), "torch_threads": torch.get_num_threads()}


def _tell_versions(then: dict[str, str], tell: Tell) -> None:
    from rlstab.runs.provenance import package_versions

    now = package_versions()
    changed = [f"{name} {then[name]} is now {now.get(name, 'absent')}" for name in then if now.get(name) != then[name]]
    if changed:
        tell(f"resumed with other versions, so numbers may differ from an uninterrupted run: {', '.join(changed)}")


def _tell_schedules(before: BaseConfig, after: BaseConfig, tell: Tell) -> None:
    schedules: list[str] = []
    if getattr(after, "learning_rate_schedule", "constant") != "constant":
        schedules.append("learning rate")
    if hasattr(after, "exploration_fraction"):
        schedules.append("rate of random actions")
    if schedules:
        tell(
            f"the schedule of the {' and the '.join(schedules)} was laid over {before.total_steps:,} steps and is now "
            f"laid over {after.total_steps:,}: this run will differ from one that had that length from the start"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
