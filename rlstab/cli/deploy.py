"""`rlstab deploy FILE`: an exported policy in its control loop. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from rlstab.cli.console import note, only_results_on_stdout, out, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.errors import UserError
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.sim2real.contract import Contract
    from rlstab.sim2real.recorder import Recorder


@dataclass(frozen=True)
class DeployOptions:
    """Check an exported policy against its contract, and let it control a backend at the task's rate."""

    file: Positional[Path]
    """What `rlstab export` wrote (.onnx)."""

    backend: str | None = None
    """mujoco (native environments) or gymnasium (any other). None: the one that fits the environment."""

    env: str | None = None
    """Environment to run in. None: that of training; one that does not fit the contract is refused."""

    seed: int = field(default=EVALUATION_SEED, metadata={"min": 0})
    """Base seed: episode i starts exactly as episode i of `rlstab evaluate` with this seed (and this default)."""

    episodes: int = field(default=1, metadata={"min": 1})
    """Episodes, one after the other."""

    gap: str = ""
    """How this simulator differs from that of training (mujoco backend): gain=0.8,latency=1,mass=0.5:2."""

    record: Path | None = None
    """Write every tick (times, observations, actions) to this file, also of a deployment that fails (.npz)."""

    realtime: bool = True
    """Keep the control period. Without it the loop runs as fast as it can; the returns are the same."""

    duration: float | None = field(default=None, metadata={"above": 0.0, "unit": "s"})
    """Cut each episode after this many seconds of control. None: until it ends."""

    dry_run: bool = False
    """Do every check without moving anything."""

    json: bool = False
    """Print one JSON document instead of tables."""


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code, 130 after Ctrl-C (with the results until then).

    Raises
    ------
    UserError
        The file or its contract is at fault, the run met one, or the log cannot be written.
    """
    options = parse(DeployOptions, argv, "deploy")
    return _check(options) if options.dry_run else _deploy(options)


def _check(options: DeployOptions) -> int:
    from rlstab.envs.disturbance.serialization import parse as parse_disturbances
    from rlstab.sim2real.deploy import check

    _require_log(options.record)
    told: list[str] = []
    with only_results_on_stdout(options.json):
        contract = check(
            options.file,
            options.backend,
            env_id=options.env,
            duration=options.duration,
            realtime=options.realtime,
            disturbances=parse_disturbances(options.gap),
            tell=told.append,
        )
    for remark in told:
        note(remark)
    training, layout = contract.training, contract.layout
    if options.json:
        print_json(
            {"policy": options.file, "ok": True, "env": training.env_id, "sha256": contract.sha256, "notices": told}
        )
        return 0
    rate = f" at {1 / layout.control_dt:.1f} Hz" if layout.control_dt else ""
    out().print(f"{options.file} keeps its contract: {training.method} for {training.env_id}{rate}", markup=False)
    return 0


def _deploy(options: DeployOptions) -> int:
    from rlstab.envs.disturbance.serialization import parse as parse_disturbances
    from rlstab.sim2real.artefact import read_artefact
    from rlstab.sim2real.deploy import deploy
    from rlstab.sim2real.recorder import Recorder
    from rlstab.sim2real.runtime import Episode

    def report(index: int, episode: Episode) -> None:
        total = "" if episode.total_reward is None else f", return {episode.total_reward:.1f}"
        note(f"episode {index + 1}/{options.episodes}: {episode.length} steps{total}, {episode.ended}")

    record = options.record
    _require_log(record)
    recorder = None if record is None else Recorder()
    unwritten: UserError | None = None
    with only_results_on_stdout(options.json):
        contract = read_artefact(options.file).contract
        try:
            result = deploy(
                options.file,
                options.backend,
                env_id=options.env,
                seed=options.seed,
                episodes=options.episodes,
                duration=options.duration,
                realtime=options.realtime,
                disturbances=parse_disturbances(options.gap),
                recorder=recorder,
                on_episode=report,
                tell=note,
            )
        except BaseException:
            lost = _save(recorder, record, contract)
            if lost is not None:
                # Only one error ends the command, and it is the first.
                note(f"not recorded: {lost}")
            raise
        unwritten = _save(recorder, record, contract)
    if options.json:
        print_json(result.to_dict())
    else:
        header, *rows = result.rows()
        print_table(f"{result.policy} on {result.env_id} ({result.backend})", header, rows, numbers=(1, 2))
        header, *rows = result.latency.rows()
        pace = "paced" if result.realtime else "not paced"
        print_table(f"latency, {pace}; overruns: {result.latency.overruns}", header, rows, numbers=(1, 2, 3, 4))
        if result.mean_return is not None:
            cut = sum(ended in ("duration", "interrupted") for ended in result.ended)
            whole = len(result.returns) - cut
            left_out = f"; {cut} that did not end by themselves left out" if cut else ""
            out().print(f"mean return {result.mean_return:.1f} over {whole} episode(s){left_out}")
    if unwritten is not None:
        raise unwritten
    return 130 if result.interrupted else 0


def _require_log(path: Path | None) -> None:
    """Refuse a log that could not be written, before anything moves.

    Raises
    ------
    UserError
        It is a folder, its folder is not there, or it is not named as what it is.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"cannot record to {path}: it is a folder; give a file in it, such as {path / 'log.npz'}")
    if path.suffix != ".npz":
        raise UserError(
            f"cannot record to {path}: the log is numpy's .npz; name it so, as in {path.with_suffix('.npz')}"
        )
    if not path.parent.is_dir():
        raise UserError(f"cannot record to {path}: there is no folder {path.parent}; make it first")


def _save(recorder: Recorder | None, path: Path | None, contract: Contract) -> UserError | None:
    """Write the log and say so; the error if the disk refuses, so that results can be printed before it is raised."""
    if recorder is None or path is None or not len(recorder):
        return None
    try:
        note(f"wrote {recorder.save(path, contract)}")
    except UserError as error:
        return error
    return None
