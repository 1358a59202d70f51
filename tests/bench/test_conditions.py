from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlstab.bench.conditions import Conditions, command_line, describe_commit


@dataclass(frozen=True)
class Options:
    tasks: tuple[str, ...] = ("A", "B")
    count: int = 5
    until: float = 2000.0
    fast: bool = False
    thorough: bool = True
    work: Path = Path("runs/race")
    peer_python: Path | None = None


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (Options(), ""),
        (Options(count=3), " --count 3"),
        (Options(until=0.0), " --until 0"),
        (Options(until=0.25), " --until 0.25"),
        (Options(tasks=("A", "gymnasium Async")), " --tasks A 'gymnasium Async'"),
        (Options(fast=True, thorough=False), " --fast --no-thorough"),
        (Options(work=Path("/home/me/race"), peer_python=Path("/home/me/python")), " --work WORK --peer-python PYTHON"),
    ],
)
def test_the_command_has_the_flags_that_differ_and_no_folder_of_this_machine(options: Options, flags: str) -> None:
    assert command_line("race", options) == f"rlstab bench race --docs{flags}"


def test_the_section_says_where_when_and_with_what() -> None:
    conditions = Conditions(
        {"processor": "abacus", "cores": 2, "system": "stone"},
        2,
        0.5,
        {"ours": {"python": "3.11"}, "theirs": {"python": "3.11"}, "old": {"python": "3.8"}},
        {"commit": "0123456789abcdef", "dirty": True},
        "2026-01-01",
    )
    lines = conditions.section({"laps": 3})
    assert "| processor | abacus, 2 cores usable |" in lines
    assert "| commit | 0123456789ab with changes |" in lines
    assert "| laps | 3 |" in lines
    assert "| ours, theirs | python 3.11 |" in lines
    assert "| old | python 3.8 |" in lines
    kept = dataclasses.replace(conditions, commits=("aaa (2 of 3 trainings)", "bbb (1 of 3 trainings)"))
    assert "| commit | aaa (2 of 3 trainings), bbb (1 of 3 trainings) |" in kept.section({})


def test_a_source_in_no_repository_is_unknown() -> None:
    assert describe_commit({}) == "unknown"
