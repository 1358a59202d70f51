"""The `rlstab` command: finds the subcommand, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from rlstab import __version__
from rlstab.errors import UserError, command, suggest


@dataclass(frozen=True)
class Command:
    """A subcommand: the module whose ``run(argv) -> exit code`` does it, and a line of help."""

    module: str
    usage: str
    summary: str


COMMANDS: dict[str, Command] = {
    "quickstart": Command("quickstart", "", "Train, evaluate, export and deploy Hopper in a few minutes"),
    "train": Command("train", "METHOD", "Train a policy, or go on with an interrupted run (--resume RUN)"),
    "evaluate": Command("evaluate", "RUN...", "Returns of trained policies, with confidence intervals; video"),
    "robustness": Command("robustness", "RUN...", "What makes policies fail: changed worlds, pushes, adversaries"),
    "certify": Command("certify", "RUN", "What can be proved of a controller with a Lyapunov function"),
    "export": Command("export", "RUN", "Write a policy as ONNX with its contract"),
    "deploy": Command("deploy", "FILE", "Run an exported policy in real time, without torch"),
    "list": Command("listing", "envs|methods|runs", "What can be trained on, with what, and what has been"),
    "doctor": Command("doctor", "", "Check this installation and say what would mend it"),
    "bench": Command("bench", "NAME", "Measure speed against other libraries on this machine"),
    "check-env": Command("check_env", "ID", "Find what is wrong with an environment of yours"),
}

EXIT_OK, EXIT_FAILURE, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130

# Small networks and small physics: a second thread in a matrix product costs more than it brings, and idle
# OpenMP threads spin on the cores that step the worlds.
_SINGLE_THREADED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; default: those of this process.

    Returns
    -------
    int
        0 on success, 1 on a failure nobody foresaw (with its traceback), 2 where the user can mend it (one line on
        stderr), 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _default_to_one_thread()
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"rlstab: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("rlstab: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or EXIT_OK
        # What Python itself does with sys.exit("message"), as a user's module may.
        print(stop.code, file=sys.stderr)
        return EXIT_FAILURE
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return EXIT_OK
        traceback.print_exc()
        print(
            "rlstab: this is a defect in rlstab, or in an environment of yours if the traceback ends there; "
            f"this checks the installation: {command('doctor')}",
            file=sys.stderr,
        )
        return EXIT_FAILURE


def _nobody_reads() -> bool:
    """Whether the reader of our output went away (`| head`): nothing is wrong then. Other pipes break too."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_help()
        return EXIT_OK
    name = arguments[0]
    if name in ("-V", "--version"):
        print(f"rlstab {__version__}")
        return EXIT_OK
    if name not in COMMANDS:
        hint = suggest(name, COMMANDS) or f"; the commands are {', '.join(COMMANDS)}"
        raise UserError(f"unknown command '{name}'{hint}")
    return importlib.import_module(f"rlstab.cli.{COMMANDS[name].module}").run(arguments[1:])


def _print_help() -> None:
    from rich.markup import escape
    from rich.table import Table

    from rlstab.cli.console import out

    console = out()
    console.print(
        f"[bold]rlstab[/bold] {__version__}: train, analyse and deploy controllers, and ask whether they hold\n"
    )
    console.print(escape("usage: rlstab COMMAND [ARGUMENTS]    rlstab COMMAND --help    rlstab --version\n"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for name, entry in COMMANDS.items():
        table.add_row(f"[cyan]{name}[/cyan] {escape(entry.usage)}", entry.summary)
    console.print(table)
    console.print(f"\nfirst steps: {command('quickstart')}    what works here: {command('doctor')}", markup=False)


def _default_to_one_thread() -> None:
    for variable in _SINGLE_THREADED:
        os.environ.setdefault(variable, "1")
    # A process that imported torch before (a notebook, a test) has read the variables already.
    torch = sys.modules.get("torch")
    if torch is not None and os.environ["OMP_NUM_THREADS"] == "1":
        torch.set_num_threads(1)
