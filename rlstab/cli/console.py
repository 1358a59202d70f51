"""Where output goes: results to stdout (a table, or one JSON document), everything else to stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO, runtime_checkable

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 160


@runtime_checkable
class SupportsToList(Protocol):
    """What numpy's arrays and scalars have; importing numpy for a type check would slow every command down."""

    def tolist(self) -> Any:
        """Plain Python values."""
        ...


def out() -> Console:
    """Console for results. Made at each call, so that it follows a redirected `sys.stdout`."""
    return _console(sys.stdout)


def err() -> Console:
    """Console for progress and notices."""
    return _console(sys.stderr)


def note(text: str) -> None:
    """Tell the user something that is not a result; markup is not interpreted."""
    err().print(text, style="dim", markup=False)


class EpisodesView:
    """Says now and then, on stderr, how far an evaluation is; pass it as ``on_step``.

    Parameters
    ----------
    seconds
        Between two lines, and before the first: what is done sooner needs none.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def __call__(self, done: int, total: int, step: int) -> None:
        """Show ``done`` of ``total`` episodes, and the ``step`` of those that run."""
        if done < total and time.monotonic() >= self._due:
            note(f"{done} of {total} episodes done, the others at step {step:,}")
            self._due = time.monotonic() + self._seconds


def print_json(document: Any) -> None:
    """Write one JSON document to stdout. Numbers that JSON lacks (NaN, infinity) become null."""
    sys.stdout.write(json.dumps(plain(document), indent=2, allow_nan=False) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()
) -> None:
    """Print rows under headings; ``numbers`` are the indices of the right-aligned columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Whatever is written here is data, not rich markup: "[extra]" must come out as it is.
    table = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out().print(table)


@contextlib.contextmanager
def only_results_on_stdout(active: bool) -> Iterator[None]:
    """While active, whatever libraries print goes to stderr, so that stdout stays one JSON document."""
    if not active:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def plain(value: Any) -> Any:
    """Reduce numpy values, paths, tuples and dataclasses to what JSON has."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, SupportsToList):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Iterable):
        return [plain(entry) for entry in value]
    return str(value)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            # Rich would exit with 1; `rlstab.cli.main` knows what to make of it. (This is called where it is handled.)
            raise

    # A file or pipe has no width to fit into: nothing is folded there.
    width = None if stream.isatty() else _PIPE_WIDTH
    return Quiet(file=stream, highlight=False, width=width, soft_wrap=width is not None)


def _cell(value: object) -> Any:
    from rich.text import Text

    if isinstance(value, float):
        return Text(f"{value:.4g}" if abs(value) < 100 else f"{value:,.1f}")
    return Text("" if value is None else str(value))
