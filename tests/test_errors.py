from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rlstab.errors import command, first_line, pip_install


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment in the working directory, not activated, whose Python runs this."""
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "python").symlink_to(sys.executable)
    (scripts / "rlstab").write_text("#!/bin/sh\n")
    (scripts / "rlstab").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("PATH", "/usr/bin")
    return scripts


def test_without_activation_the_script_is_named_by_its_path(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("doctor") == ".venv/bin/rlstab doctor"
    monkeypatch.setattr(sys, "argv", [".venv/bin/rlstab", "train"])
    assert command("doctor") == ".venv/bin/rlstab doctor"
    (venv.parents[1] / "elsewhere").mkdir()
    monkeypatch.chdir(venv.parents[1] / "elsewhere")
    monkeypatch.setattr(sys, "argv", [str(venv / "rlstab"), "train"])
    assert command("doctor") == f"{venv / 'rlstab'} doctor"


def test_with_activation_the_plain_name_does(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{venv}:/usr/bin")
    assert command("evaluate", Path("runs/a b")) == "rlstab evaluate 'runs/a b'"


def test_another_installation_on_the_path_is_not_meant(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "rlstab").write_text("#!/bin/sh\n")
    (other / "rlstab").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert command("doctor") == ".venv/bin/rlstab doctor"


def test_without_a_script_python_runs_the_module(venv: Path) -> None:
    (venv / "rlstab").unlink()
    assert command("doctor") == f"{venv / 'python'} -m rlstab doctor"


def test_the_command_works_as_printed() -> None:
    done = subprocess.run([*shlex.split(command()), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rlstab ")


def test_pip_is_that_of_this_python() -> None:
    assert pip_install("-e", "/a b[dev]") == f"{shlex.quote(sys.executable)} -m pip install -e '/a b[dev]'"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one"), "one"),
        (ValueError("\n  \n  first \nsecond"), "first"),
        (ValueError(), "ValueError"),
        (KeyError(""), "''"),
        (OSError(" \n "), "OSError"),
    ],
)
def test_an_exception_says_something_in_one_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
