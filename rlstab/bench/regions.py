"""`rlstab bench regions`: areas from which controllers are proved to hold, beside those of the literature."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from rlstab.bench import runs
from rlstab.bench.conditions import Conditions, command_line
from rlstab.bench.regions_result import CASES, Region, RegionsStudy
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.runs.run import Run

Kind: TypeAlias = Literal["preset", "network", "quadratic"]


@dataclass(frozen=True)
class Options:
    """What to train and prove."""

    seeds: int = 3
    """Trainings of each kind for each plant, with seeds 0, 1, ..."""
    kinds: tuple[Kind, ...] = ("preset",)
    """preset: that of each plant; network: a neural Lyapunov function for all; quadratic: a quadratic form for all."""
    cases: tuple[str, ...] = tuple(case.env_id.removeprefix("rlstab/") for case in CASES)
    """Environments of the plants."""
    budget_s: float = 60.0
    """Wall time of each proof."""
    work: Path = Path("runs/regions")
    """Folder of the runs; those that are finished are used again, the others gone on with."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> RegionsStudy:
    """Train what is not in the work folder yet, and prove all of it.

    Raises
    ------
    UserError
        A number is out of range, a case is unknown, or a training fails.
    """
    known = {case.env_id.removeprefix("rlstab/"): case for case in CASES}
    unknown = [name for name in options.cases if name.removeprefix("rlstab/") not in known]
    if unknown:
        raise UserError(f"no case '{unknown[0]}'; there are {', '.join(known)}")
    if options.seeds < 1 or not options.kinds or not options.cases:
        raise UserError("seeds must be at least 1, and there must be a kind and a case")
    options.work.mkdir(parents=True, exist_ok=True)
    conditions = Conditions.now(1)
    found: list[Region] = []
    for name in options.cases:
        env_id = known[name.removeprefix("rlstab/")].env_id
        for kind in options.kinds:
            for seed in range(options.seeds):
                region = _measure(env_id, kind, seed, options)
                found.append(region)
                on_progress(f"{env_id} {kind} seed {seed}: {region.status}, area {region.area:.4g}")
    return RegionsStudy(
        name="regions",
        title="Proved regions of attraction",
        command=command_line("regions", options),
        regions=found,
        conditions=conditions,
        settings={
            "seeds of the trainings": ", ".join(map(str, range(options.seeds))),
            "wall time of a proof at most": f"{options.budget_s:g} s",
            "kappa": "0.001",
        },
    )


def _measure(env_id: str, kind: str, seed: int, options: Options) -> Region:
    from rlstab.runs.run import Run

    path = options.work / f"{env_id.removeprefix('rlstab/')}-{kind}-seed{seed}"
    flags = {"env": env_id, "seed": seed} | ({} if kind == "preset" else {"preset": kind})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    fresh = not path.exists()
    runs.train(path, "lyapunov", flags, f"{env_id} {kind} seed {seed}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return certify_run(Run.open(path), seed, options.budget_s, processor if fresh else None)


def certify_run(run: Run, seed: int, budget_s: float, train_cpu_s: float | None) -> Region:
    """Prove a finished run's region.

    Parameters
    ----------
    run
        Of `rlstab train lyapunov`.
    seed
        For the table.
    budget_s
        Wall time.
    train_cpu_s
        Processor time that its training took; None where nobody looked.
    """
    from rlstab.analysis.certificates.certifier import Request
    from rlstab.controllers.certifiers import certifier_of
    from rlstab.policies.loading import load_policy
    from rlstab.runs.environment import EnvSettings

    certifier = certifier_of(load_policy(run), EnvSettings.of_run(run.info))
    start, processor = time.perf_counter(), time.process_time()
    report = certifier.certify(Request(seconds=budget_s), _silent)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    proof = getattr(report, "certificate", None)
    if proof is not None:
        proof.save(run.folder("certificates") / f"step{run.checkpoints.steps()[-1]}-{proof.grade}.json")
    return Region(
        env_id=run.info.env_id,
        lyapunov=str(run.info.config["lyapunov"]),
        seed=seed,
        status=str(getattr(report, "status", "unknown")),
        area=0.0 if proof is None else proof.volume[0],
        inner_area=0.0 if proof is None else proof.inner_volume[1],
        converges=proof is not None and proof.converges,
        rho=0.0 if proof is None else proof.rho,
        c1=0.0 if proof is None else proof.c1,
        boxes=0 if proof is None else proof.boxes,
        prove_s=seconds,
        prove_cpu_s=processor,
        train_s=float(run.read_metrics()["time/elapsed_s"].to_numpy()[-1]),
        train_cpu_s=train_cpu_s,
    )


def _silent(line: str) -> None:
    del line
