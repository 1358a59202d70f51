"""`rlstab bench envs`: environment steps a second, against every library that runs the same tasks on a CPU."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rlstab.bench import env_worker
from rlstab.bench.common import BenchmarkResult, Measurement
from rlstab.bench.conditions import Conditions, command_line
from rlstab.bench.study import page_name
from rlstab.errors import UserError, suggest
from rlstab.runs.provenance import usable_cores

OURS = "rlstab"
_PATIENCE_S = 300
_OFTEN_ELSEWHERE = ("EnvPool", "mjbatch (physics)")
_PROCESS_PER_WORLD = ("gymnasium Async", "SB3 Subproc")
_PHYSICS_ONLY = tuple(name for name in env_worker.IMPLEMENTATIONS if name.endswith("(physics)"))

ABOUT = """
Environment steps a second (all worlds together, after frame skip) of {tasks}
under uniformly random actions, resets included. Every implementation runs in a process of its own; those with threads
have the same number (below), the serial ones have one, Async and Subproc a process a world. Before it is timed, each
takes as many steps as an episode of random actions lasts (200 at most), so that all are timed in the same mixture of
states; a repetition lasts as long and as many steps as said below. The repetitions of a case are interleaved and start
with another implementation each time, so that a slow moment of the machine hits all of them. Ratios are taken within a
repetition.

EnvPool and gymnasium's vector environments spend a step on each reset, which counts as one of theirs; rlstab and SB3
reset within the step that ends an episode. Columns marked *physics* compute no observation, reward or termination, and
reset worlds by a clock, as often as random actions end episodes; they are upper bounds, not environments. SB3's worker
processes are started by fork.
"""
_FAMILY = "the nine MuJoCo tasks of gymnasium's v5 family"
_OWN = """
{tasks}: of this package alone. Other libraries do not have it; *physics* steps the same model from the same starts.
"""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    tasks: tuple[str, ...] = tuple(env_worker.EPISODE_STEPS)
    """Environments to step: gymnasium's, or rlstab/Go1Velocity-v0."""
    worlds: tuple[int, ...] = (8, 64, 512)
    """Numbers of worlds stepped together."""
    implementations: tuple[str, ...] = tuple(env_worker.IMPLEMENTATIONS)
    """What to compare."""
    repetitions: int = 7
    """How often each implementation is timed in each case."""
    seconds: float = 0.5
    """Least duration of one repetition, s."""
    threads: int = field(default_factory=usable_cores)
    """Threads of every implementation that has threads. The default is the number of usable cores."""
    peer_python: Path | None = None
    """Interpreter of the virtual environment in which EnvPool and mjbatch are installed, if it is not this one. For
    rlstab/Go1Velocity-v0 rlstab has to be installed there, too."""
    max_processes: int = 64
    """Leave out implementations that would start more worker processes than this."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> BenchmarkResult:
    """Time every implementation in every case.

    Parameters
    ----------
    options
        What to measure.
    on_progress
        Called with a line of text for each case.

    Raises
    ------
    UserError
        An option names an unknown task or implementation, or a number is out of range.
    """
    _check(options)
    conditions = Conditions.now(options.threads)
    workers, absent = _start_workers(options)
    try:
        versions = {name: worker.versions for name, worker in workers.items()}
        measurements: list[Measurement] = []
        for task in options.tasks:
            for worlds in options.worlds:
                measured = _measure_case(task, worlds, workers, absent, options)
                measurements += measured
                on_progress(_progress_line(task, worlds, measured))
    finally:
        for worker in workers.values():
            worker.stop()
    name = page_name("envs", options.tasks, tuple(env_worker.EPISODE_STEPS))
    return BenchmarkResult(
        name=name,
        title="Environment steps a second" + ("" if name == "envs" else f": {', '.join(options.tasks)}"),
        about=_about(options.tasks),
        command=command_line("envs", options),
        unit="environment steps/s",
        higher_is_better=True,
        reference=OURS,
        labels=("environment", "worlds"),
        measurements=tuple(measurements),
        conditions=Conditions(**{**vars(conditions), "versions": versions}),
        settings={
            "repetitions": options.repetitions,
            "seconds a repetition, at least": options.seconds,
            "batch steps a repetition, at least": env_worker.LEAST_STEPS,
        },
        not_peers=_PHYSICS_ONLY,
    )


def _about(tasks: Sequence[str]) -> str:
    """Say what is measured; tasks that others do not have are named."""
    own = [task for task in tasks if task in env_worker.OWN_EPISODE_STEPS]
    what = _FAMILY if tuple(tasks) == tuple(env_worker.EPISODE_STEPS) else ", ".join(tasks)
    return ABOUT.format(tasks=what) + (_OWN.format(tasks=", ".join(own)) if own else "")


class Worker:
    """A process that runs `rlstab.bench.env_worker` for one implementation."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.versions: dict[str, str] = self.ask(do="versions")["versions"]

    @classmethod
    def start(cls, implementation: str, python: Path | None = None) -> Self:
        """Start it under ``python``; default: this interpreter.

        Raises
        ------
        WorkerError
            The interpreter cannot be started or lacks the library.
        """
        # A peer's interpreter knows no rlstab: it runs the file itself, isolated, so that the modules beside it do
        # not shadow its own.
        arguments = [str(python), "-I", env_worker.__file__] if python else [sys.executable, "-m", env_worker.__name__]
        try:
            process = subprocess.Popen(
                [*arguments, implementation],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise WorkerError(f"{python} cannot be started: {error.strerror}") from error
        try:
            return cls(process)
        except WorkerError:
            process.kill()
            process.communicate()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises
        ------
        WorkerError
            The answer is an error, or the process has died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError("its process died") from error
        if not select.select([self._process.stdout], [], [], _PATIENCE_S)[0]:
            self._process.kill()
            raise WorkerError(f"it did not answer within {_PATIENCE_S} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"its process died (exit status {self._process.wait()})")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def stop(self) -> None:
        """End the process, by force if it does not end by itself."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


class WorkerError(Exception):
    """An implementation cannot run; the message says why."""


def _start_workers(options: Options) -> tuple[dict[str, Worker], dict[str, str]]:
    workers: dict[str, Worker] = {}
    absent: dict[str, str] = {}
    for name in options.implementations:
        try:
            workers[name] = Worker.start(name, options.peer_python if name in _OFTEN_ELSEWHERE else None)
        except WorkerError as error:
            missing = str(error).startswith(("ModuleNotFoundError", "PackageNotFoundError"))
            absent[name] = "not installed here; see --peer-python" if missing else str(error)
    return workers, absent


def _measure_case(
    task: str, worlds: int, workers: dict[str, Worker], absent: dict[str, str], options: Options
) -> list[Measurement]:
    case = (task, str(worlds))
    without = set(options.implementations) - {OURS, *_PHYSICS_ONLY} if task in env_worker.OWN_EPISODE_STEPS else set()
    reasons = absent | dict.fromkeys(without, "has no such task")
    ready: dict[str, Worker] = {}
    for name, worker in workers.items():
        if name in without:
            continue
        if name in _PROCESS_PER_WORLD and worlds > options.max_processes:
            reasons[name] = f"would start more than {options.max_processes} processes, one a world"
            continue
        try:
            worker.ask(do="build", task=task, worlds=worlds, threads=options.threads)
            # Whatever is slow the first time (threads that wake, pages that are touched) belongs to no repetition.
            worker.ask(do="run", seconds=options.seconds)
            ready[name] = worker
        except WorkerError as error:
            reasons[name] = str(error)
    samples: dict[str, list[float]] = {name: [] for name in ready}
    for repetition in range(options.repetitions):
        names = list(ready)
        first = repetition % max(1, len(names))
        for name in names[first:] + names[:first]:
            try:
                run = ready[name].ask(do="run", seconds=options.seconds)
                samples[name].append(run["steps"] / run["seconds"])
            except WorkerError as error:
                reasons[name] = str(error)
                del ready[name]
    for name, worker in ready.items():
        try:
            worker.ask(do="close")
        except WorkerError as error:
            reasons[name] = str(error)
    return [
        Measurement(case, name, note=reasons[name])
        if name in reasons
        else Measurement(case, name, tuple(round(sample, 1) for sample in samples[name]))
        for name in options.implementations
    ]


def _progress_line(task: str, worlds: int, measured: list[Measurement]) -> str:
    numbers = (f"{part.implementation} {part.median:,.0f}" for part in measured if part.samples)
    return f"{task}, {worlds} worlds: {', '.join(numbers)}"


def _check(options: Options) -> None:
    for what, given, known in (
        ("task", options.tasks, env_worker.EPISODE_STEPS | env_worker.OWN_EPISODE_STEPS),
        ("implementation", options.implementations, env_worker.IMPLEMENTATIONS),
    ):
        for name in given:
            if name not in known:
                raise UserError(f"no {what} '{name}'{suggest(name, known) or '; there are ' + ', '.join(known)}")
        if not given:
            raise UserError(f"name at least one {what}: {', '.join(known)}")
    if not options.worlds or min((options.repetitions, options.threads, *options.worlds)) < 1 or options.seconds <= 0:
        raise UserError("worlds, repetitions, threads and seconds must be greater than 0")
