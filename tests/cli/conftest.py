from __future__ import annotations

import functools
import json

import pytest

from rlstab.analysis import stats
from rlstab.cli.main import main

TRAIN = ["train", "ppo", "--env", "InvertedPendulum-v5", "--preset", "none", "--num-envs", "2", "--n-steps", "64"]
TRAIN += ["--batch-size", "32", "--n-epochs", "2", "--hidden-sizes", "8"]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    """Intervals are the library's business; here they only cost time."""
    monkeypatch.setattr(stats, "aggregate", functools.partial(stats.aggregate, resamples=20))


@pytest.fixture(scope="session")
def tiny():
    """Arguments of a training that takes seconds."""
    return list(TRAIN)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of a few seconds; tests read it and add results, but do not change it."""
    root = tmp_path_factory.mktemp("trained")
    assert (
        main([*TRAIN, "--total-steps", "512", "--checkpoint-every", "256", "--run-dir", str(root), "--name", "run"])
        == 0
    )
    return root / "run"


@pytest.fixture
def call(capsys):
    """Run a command; gives exit code, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def call_json(call):
    """Run a command with --json; gives exit code and the document."""

    def run(*arguments):
        code, out, err = call(*arguments, "--json")
        assert out, err
        return code, json.loads(out)

    return run


@pytest.fixture
def refused(call):
    """Run a command that must fail with one line on stderr and exit code 2; gives the line."""

    def run(*arguments):
        code, out, err = call(*arguments)
        lines = [line for line in err.splitlines() if line.startswith("rlstab: ")]
        assert code == 2
        assert len(lines) == 1
        assert "Traceback" not in err
        assert out == ""
        return lines[0]

    return run
