"""`rlstab bench NAME`: speed measured on this machine, against peers in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from rlstab.bench import registry
from rlstab.bench.pages import results_folder, write_docs
from rlstab.cli.console import note, only_results_on_stdout, out, print_json, print_table
from rlstab.cli.parsing import asks_for_help, parse_parts
from rlstab.errors import UserError


@dataclass(frozen=True)
class BenchOptions:
    """What to do with the measurements."""

    saved: Annotated[Path | None, arg(name="from")] = None
    """Measure nothing, show these numbers: the NAME.json of an earlier measurement. None: measure."""

    out: Path | None = None
    """Folder for the results page and its numbers (NAME.md, NAME.json). None: only print."""

    docs: bool = False
    """Write the results page of the documentation; needs a checkout."""

    json: bool = False
    """Print one JSON document instead of tables."""


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    if not argv or argv[0].startswith("-"):
        return _no_name(argv)
    benchmark = registry.get(argv[0])
    options, flags = parse_parts(
        {"output": BenchOptions, "measurement": benchmark.options()}, argv[1:], f"bench {benchmark.name}"
    )
    folder = None
    if options.docs or options.out is not None:
        # Before hours of measuring.
        folder = results_folder(options.out)
    unwritten: UserError | None = None
    with only_results_on_stdout(options.json):
        result = benchmark.measure(flags, note) if options.saved is None else _load(benchmark, options.saved, flags)
        if folder is not None:
            try:
                note(f"wrote {write_docs(result, folder)}")
            except UserError as error:
                unwritten = error
    _show(result, options.json)
    if unwritten is not None:
        raise unwritten
    return 0


def _show(result: Any, as_json: bool) -> None:
    if as_json:
        print_json(result.to_dict())
        return
    for title, columns, rows in result.tables():
        print_table(title, columns, rows, numbers=range(len(result.labels[:-1]) or 1, len(columns)))
    for reason in result.missing():
        note(f"not measured: {reason}")
    for name, value in result.summary().items():
        out().print(f"{name}: {f'{value:.4g}' if isinstance(value, float) else value}", markup=False)


def _load(benchmark: registry.Benchmark, path: Path, flags: Any) -> Any:
    if flags != type(flags)():
        raise UserError("--from shows numbers that are there already: leave out the flags of the measurement")
    return benchmark.load(path)


def _no_name(argv: list[str]) -> int:
    if not asks_for_help(argv):
        names = ", ".join(registry.BENCHMARKS)
        raise UserError(f"which benchmark? rlstab bench NAME, where NAME is one of {names}")
    out().print("usage: rlstab bench NAME [FLAGS]    rlstab bench NAME --help\n", markup=False)
    rows = [(benchmark.name, benchmark.summary) for benchmark in registry.BENCHMARKS.values()]
    print_table("", ("name", "measures"), rows)
    return 0
