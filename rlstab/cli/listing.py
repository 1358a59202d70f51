"""`rlstab list envs|methods|runs`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from rlstab.cli.console import note, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.errors import command


@dataclass(frozen=True)
class ListOptions:
    """List what can be trained on (envs), with what (methods), and what has been trained (runs)."""

    what: Positional[Literal["envs", "methods", "runs"]]
    """Kind of thing to list."""

    run_dir: Path = Path("runs")
    """Folder of runs, for `list runs`."""

    search: str = ""
    """Only entries whose name contains this, whatever the case."""

    all: bool = False
    """For envs: also superseded versions."""

    json: bool = False
    """Print one JSON document instead of a table."""


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(ListOptions, argv, "list")
    rows = {"envs": _envs, "methods": _methods, "runs": _runs}[options.what](options)
    rows = [row for row in rows if options.search.lower() in str(row["name"]).lower()]
    if options.json:
        print_json({options.what: rows})
        return 0
    columns = list(rows[0]) if rows else ["name"]
    numbers = [index for index, column in enumerate(columns) if rows and isinstance(rows[0][column], int | float)]
    print_table("", columns, (list(row.values()) for row in rows), numbers=numbers)
    if options.what == "envs":
        note(
            "environments of other packages: --env module:Id imports the module first; "
            f"your own: {command('check-env', 'module:Id')}"
        )
    elif options.what == "runs" and not rows:
        note(f"no runs in {options.run_dir}; rlstab train makes them there, --run-dir says where else to look")
    return 0


def _envs(options: ListOptions) -> list[dict[str, Any]]:
    import gymnasium

    from rlstab.envs.registry import native_ids, own_ids, runs_natively

    native = native_ids()
    newest: dict[str, int] = {}
    for spec in gymnasium.registry.values():
        stem = f"{spec.namespace or ''}/{spec.name}"
        newest[stem] = max(newest.get(stem, 0), spec.version or 0)
    rows: list[dict[str, Any]] = []
    for name in (*native, *own_ids()):
        runs = "native batch" if runs_natively(name) else "gymnasium"
        rows.append({"name": name, "runs": runs, "max_episode_steps": _time_limit(name)})
    for name, spec in sorted(gymnasium.registry.items()):
        superseded = (spec.version or 0) < newest[f"{spec.namespace or ''}/{spec.name}"]
        if name in native or spec.namespace == "rlstab" or (superseded and not options.all):
            continue
        rows.append({"name": name, "runs": "gymnasium", "max_episode_steps": spec.max_episode_steps})
    return rows


def _time_limit(name: str) -> int | None:
    import gymnasium

    spec = gymnasium.registry.get(name)
    return spec.max_episode_steps if spec is not None else None


def _methods(options: ListOptions) -> list[dict[str, Any]]:
    from rlstab.controllers import registry

    rows: list[dict[str, Any]] = []
    for info in registry.methods():
        presets = [name for name in info.presets() if name != "defaults"]
        row = {"name": info.name, "actions": ", ".join(info.actions), "summary": info.summary}
        rows.append(row | {"presets": presets if options.json else len(presets)})
    return rows


def _runs(options: ListOptions) -> list[dict[str, Any]]:
    from rlstab.runs.run import list_runs

    rows: list[dict[str, Any]] = []
    for listed in list_runs(options.run_dir):
        info = listed.info
        if options.json:
            row = dataclasses.asdict(info) | {"path": str(listed.path)}
        else:
            status = f"{info.status} ({info.reason})" if info.reason else info.status
            steps = f"{info.step:,} of {info.total_steps:,}"
            row = {"name": info.name, "method": info.method, "env": info.env_id, "steps": steps, "status": status}
        rows.append(row)
    return rows
