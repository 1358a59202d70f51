"""`rlstab export RUN`: a trained policy as one ONNX file with its contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from rlstab.cli.console import only_results_on_stdout, out, print_json
from rlstab.cli.parsing import parse
from rlstab.errors import command


@dataclass(frozen=True)
class ExportOptions:
    """Write a run's policy as ONNX: normaliser inside, contract embedded, checked against torch before it is kept."""

    run: Positional[Path]
    """Folder of a run."""

    out: Path | None = None
    """File to write, ending in .onnx. None: exports/policy.onnx in the run."""

    checkpoint: str = "best"
    """Which checkpoint: best (by training return), last, or a step number."""

    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(ExportOptions, argv, "export")
    from rlstab.runs.store import which_checkpoint
    from rlstab.sim2real.export import export_run

    which = which_checkpoint(options.checkpoint)
    with only_results_on_stdout(options.json):
        artefact = export_run(options.run, options.out, which)
    contract = artefact.contract
    training = contract.training
    if options.json:
        print_json(
            {
                "path": artefact.path,
                "sha256": contract.sha256,
                "env": training.env_id,
                "steps": training.steps,
                "control_dt_s": contract.layout.control_dt,
                "bytes": artefact.path.stat().st_size,
            }
        )
        return 0
    console = out()
    console.print(f"wrote {artefact.path} ({artefact.path.stat().st_size / 1024:.0f} KiB)", markup=False)
    console.print(f"{training.method} on {training.env_id}, {training.steps:,} steps; sha256 {contract.sha256[:16]}...")
    # Without a control period there is no real time to keep.
    pace = [] if contract.layout.control_dt is not None else ["--no-realtime"]
    console.print(f"run it with: {command('deploy', artefact.path, *pace)}", markup=False)
    return 0
