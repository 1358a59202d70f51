from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import rlstab
from rlstab.cli import main as cli
from rlstab.cli.main import COMMANDS, main


@pytest.fixture
def command(monkeypatch):
    """Put a function in the place of a subcommand."""

    def install(function):
        module = type(sys)("rlstab.cli._stand_in")
        module.run = function
        monkeypatch.setitem(sys.modules, "rlstab.cli._stand_in", module)
        monkeypatch.setitem(cli.COMMANDS, "stand-in", cli.Command("_stand_in", "", ""))

    return install


def raising(error):
    def run(argv):
        raise error

    return run


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_no_arguments_is_help(capsys):
    assert main([]) == 0
    assert "usage: rlstab" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"rlstab {rlstab.__version__}"


def test_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "rlstab: unknown command 'trian'; did you mean 'train'?\n"
    assert captured.out == ""


def test_user_error_is_one_line_and_exit_code_2(command, capsys):
    command(raising(rlstab.errors.UserError("first\n   second")))
    assert main(["stand-in"]) == 2
    assert capsys.readouterr().err == "rlstab: first second\n"


def test_defect_shows_a_traceback_and_a_hint(command, capsys):
    command(raising(ZeroDivisionError("oops")))
    assert main(["stand-in"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "rlstab doctor" in shown


def test_a_pipe_that_breaks_elsewhere_is_a_defect(command, capsys):
    command(raising(BrokenPipeError(32, "Broken pipe")))
    assert main(["stand-in"]) == 1
    shown = capsys.readouterr().err
    assert "BrokenPipeError" in shown
    assert "this is a defect" in shown


PRINT = "import sys; from rlstab.cli.console import out, print_json, print_table; from rlstab.cli import main as cli\n"
INSTALL = (
    "module = type(sys)('rlstab.cli._stand_in'); module.run = run; sys.modules['rlstab.cli._stand_in'] = module\n"
    "cli.COMMANDS['stand-in'] = cli.Command('_stand_in', '', '')\n"
    "raise SystemExit(cli.main(['stand-in']))\n"
)


@pytest.mark.parametrize(
    "write", ["print('x' * 10**6)", "print_json(['x' * 10**6])", "print_table('', ['a'], [['x']] * 10**4)"]
)
def test_a_reader_that_goes_away_is_no_error(write):
    code = f"{PRINT}def run(argv):\n    {write}\n    return 0\n{INSTALL}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), told) == (0, b"")


@pytest.mark.parametrize(
    ("code", "expected", "told"),
    [(None, 0, ""), (0, 0, ""), (3, 3, ""), ("no robot is connected", 1, "no robot is connected\n")],
)
def test_a_users_module_may_exit(command, capsys, code, expected, told):
    command(raising(SystemExit(code)))
    assert main(["stand-in"]) == expected
    assert capsys.readouterr().err == told


def test_interrupt_is_130(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert main(["stand-in"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_arguments_reach_the_command(command):
    seen = []
    command(lambda argv: seen.extend(argv) or 0)
    assert main(["stand-in", "a", "--b", "c"]) == 0
    assert seen == ["a", "--b", "c"]


def test_thread_variables_default_to_one_and_yield_to_the_user(command, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    seen = {}
    command(lambda argv: seen.update(os.environ) or 0)
    main(["stand-in"])
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen["MKL_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["train", "sac", "--help"], ["bench", "--help"]]
)
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import json, sys\n"
        "from rlstab.cli.main import main\n"
        f"main({arguments!r})\n"
        "heavy = {'torch', 'mujoco', 'gymnasium', 'stable_baselines3', 'pandas', 'matplotlib', 'scipy', 'numba'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_module_can_be_run():
    done = subprocess.run([sys.executable, "-m", "rlstab", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("rlstab ")
