from __future__ import annotations

import math

from rlstab.cli.progress import ProgressView, clock, describe
from rlstab.learning.training import Progress


def progress(step, metrics):
    return Progress(step, 100, 12.0, 1.0, 75.0, metrics)


def test_describe_has_rate_return_and_time_left():
    assert describe(progress(1, {"rollout/return_mean": 1234.56})) == "12 steps/s  return 1,234.6  1:15 left"
    assert "return" not in describe(progress(1, {}))


def test_clock():
    assert clock(0.2) == "0:00"
    assert clock(3600) == "1:00:00"
    assert clock(math.inf) == "?"


def test_plain_lines_where_there_is_no_terminal(capsys):
    with ProgressView() as view:
        for step in (10, 20, 100):
            view(progress(step, {}))
    captured = capsys.readouterr()
    assert captured.out == ""
    # The first, and the last; what comes sooner than the next line is due is left out.
    assert [line.split()[1] for line in captured.err.splitlines()] == ["10/100", "100/100"]
