"""`rlstab train METHOD`, and `rlstab train --resume RUN`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rlstab.cli.console import note, only_results_on_stdout, out, print_json, print_table
from rlstab.cli.parsing import asks_for_help, parse, parse_parts, value_of
from rlstab.cli.progress import ProgressView, clock
from rlstab.controllers import registry
from rlstab.controllers.config import BaseConfig
from rlstab.controllers.runs import begin, go_on
from rlstab.errors import UserError, command
from rlstab.runs.config import validate
from rlstab.runs.environment import has_version

if TYPE_CHECKING:
    from rlstab.learning.training import TrainingSummary
    from rlstab.runs.run import Run


@dataclass(frozen=True)
class TrainOptions:
    """Where the run goes."""

    run_dir: Path = Path("runs")
    """Folder of runs."""

    name: str | None = None
    """Name of the run's folder. None: made from method, environment, seed and time."""

    preset: str | None = None
    """Settings to start from: a preset's name, or "none" for plain defaults. None: those of the environment."""

    json: bool = False
    """Print one JSON document on stdout at the end; progress goes to stderr."""


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with an interrupted run: as if it had never stopped, with native environments on a CPU.

    With --total-steps it is trained further. A schedule over the whole training (a learning rate that falls linearly,
    the exploration of DQN) is then laid over the new length, so that the run differs from one of that length.
    """

    resume: Path
    """Folder of the run."""

    total_steps: int | None = field(default=None, metadata={"min": 1})
    """New length of the whole training, in environment steps. None: as before."""

    json: bool = False
    """Print one JSON document on stdout at the end; progress goes to stderr."""


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code, 130 when training was interrupted."""
    if value_of("--resume", argv) is not None or "--resume" in argv:
        return _resume(argv)
    if not argv or argv[0].startswith("-"):
        if asks_for_help(argv):
            return _print_methods()
        names = ", ".join(info.name for info in registry.methods())
        raise UserError(f"which method? rlstab train METHOD [FLAGS], where METHOD is one of {names}")
    return _start(argv[0], argv[1:])


def read_flags(method: str, argv: Sequence[str]) -> tuple[TrainOptions, BaseConfig, registry.Preset]:
    """Resolve flags over the preset over the defaults, and check every value.

    Parameters
    ----------
    method
        A registered method.
    argv
        Its flags.

    Raises
    ------
    UserError
        Unknown method, preset or flag, or a value of the wrong type or out of range.
    """
    config_class = registry.get(method).config_class()
    defaults = config_class()
    env = _full_id(value_of("--env", argv) or defaults.env)
    preset = registry.load_preset(method, env, value_of("--preset", argv))
    defaults = preset.apply(dataclasses.replace(defaults, env=env))
    origin = f"those of the preset {preset.name}" if preset.name else "plain defaults"
    description = f"{registry.get(method).summary}. Settings below are {origin}; flags override them."
    options, config = parse_parts({"run": TrainOptions, method: defaults}, argv, f"train {method}", description)
    config = dataclasses.replace(config, env=_full_id(config.env))
    validate(options)
    validate(config)
    return options, config, preset


def _full_id(env_id: str) -> str:
    if has_version(env_id):
        return env_id
    from rlstab.envs.gym_make import resolve_id

    return resolve_id(env_id)


def _start(method: str, argv: list[str]) -> int:
    from rlstab.runs.run import check_name

    options, config, preset = read_flags(method, argv)
    if options.name is not None:
        check_name(options.name)
    if options.name is not None and (options.run_dir / options.name).exists():
        folder = options.run_dir / options.name
        raise UserError(
            f"the run {folder} exists; choose another --name, or go on with it: {command('train', '--resume', folder)}"
        )
    _tell_preset(method, config.env, preset, options.preset)
    typed = ["rlstab", "train", method, *argv]
    with only_results_on_stdout(options.json), ProgressView() as view:
        made, summary = begin(
            method, config, options.run_dir, name=options.name, command=typed, on_progress=view, tell=note
        )
    return _report(made, summary, options.json)


def _resume(argv: list[str]) -> int:
    from rlstab.runs.run import Run

    method = argv[0] if argv and not argv[0].startswith("-") else None
    options = parse(ResumeOptions, argv[1:] if method else argv, "train --resume RUN")
    validate(options)
    opened = Run.open(options.resume)
    if method not in (None, opened.info.method):
        raise UserError(
            f"{opened.path} is a run of {opened.info.method}, not {method}; leave the method out when resuming"
        )
    with only_results_on_stdout(options.json), ProgressView() as view:
        summary = go_on(opened, options.total_steps, on_progress=view, tell=note)
    return _report(opened, summary, options.json)


def _report(trained: Run, summary: TrainingSummary, as_json: bool) -> int:
    interrupted = summary.status == "interrupted"
    if as_json:
        document = dataclasses.asdict(summary)
        info = trained.info
        print_json({"run": trained.path, "method": info.method, "env": info.env_id, "seed": info.seed} | document)
    for warning in summary.warnings:
        note(warning)
    if interrupted:
        print(f"rlstab: {summary.message}", file=sys.stderr)
        return 130
    if not as_json:
        reached = (
            "" if summary.return_mean is None else f", mean return {summary.return_mean:,.1f} over its last episodes"
        )
        console = out()
        console.print(f"trained {summary.step:,} steps in {clock(summary.elapsed_s)}{reached}", markup=False)
        console.print(f"run: {trained.path}", markup=False)
        verbs = ["evaluate", "export"]
        from rlstab.controllers.certifiers import CERTIFIERS

        # Methods are named as the kind of their policies where there is something to certify.
        if trained.info.method in CERTIFIERS:
            verbs.insert(0, "certify")
        following = "\n      ".join(command(verb, trained.path) for verb in verbs)
        console.print(f"next: {following}", markup=False)
    return 0


def _tell_preset(method: str, env: str, preset: registry.Preset, asked: str | None) -> None:
    if asked == "none":
        note("plain defaults, as --preset none asks")
    elif not preset.values:
        note(f"no preset of {method} for {env}: plain defaults")
    else:
        settings = ", ".join(f"{name} {value}" for name, value in preset.values.items())
        note(f"preset {method}/{preset.name or 'defaults'}: {settings}; flags override it")


def _print_methods() -> int:
    console = out()
    console.print(
        "usage: rlstab train METHOD [FLAGS]    rlstab train METHOD --help    rlstab train --resume RUN\n", markup=False
    )
    rows = [(info.name, ", ".join(info.actions), info.summary) for info in registry.methods()]
    print_table("", ("method", "actions", "summary"), rows)
    console.print(f"for example: {command('train', 'ppo', '--env', 'Hopper-v5', '--seed', 0)}", markup=False)
    return 0
