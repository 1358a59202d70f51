from __future__ import annotations

import pytest

from rlstab.bench import startup
from rlstab.errors import UserError


def test_time_and_memory_of_each_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        startup, "_COMMANDS", {"nothing": ["-c", "pass"], "sleep": ["-c", "import time; time.sleep(0.2)"]}
    )
    result = startup.measure(startup.Options(repetitions=1), lambda _: None)
    nothing, asleep = (measurement.median for measurement in result.measurements)
    assert nothing > 0
    assert asleep >= 0.2
    assert result.settings["peak memory of nothing, MB"] > 1


def test_a_failing_command_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_COMMANDS", {"broken": ["-c", "raise SystemExit('out of order')"]})
    with pytest.raises(UserError, match="`broken` fails: out of order"):
        startup.measure(startup.Options(repetitions=1), lambda _: None)


def test_repetitions_must_be_positive() -> None:
    with pytest.raises(UserError, match="at least 1"):
        startup.measure(startup.Options(repetitions=0))


def test_memory_is_that_of_the_command_alone() -> None:
    # However much the process that measures holds itself.
    held = bytearray(200 * 2**20)
    small = startup._peak_memory("nothing", ["-c", "pass"])
    large = startup._peak_memory("block", ["-c", "block = b'x' * (50 * 2**20)"])
    assert len(held) > 0
    assert 1 < small < 60
    assert 45 < large - small < 60
    assert startup._peak_memory("module", ["-m", "platform"]) > 1
