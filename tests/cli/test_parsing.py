from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Literal

import pytest

from rlstab.cli.parsing import parse, parse_parts, value_of, whole_number
from rlstab.errors import UserError


@dataclass(frozen=True)
class Flags:
    """Some flags."""

    steps: int = 3
    """How many, in steps."""

    network: Literal["mlp", "cnn"] = "mlp"
    """Which."""

    rate: float | None = None
    """How fast, 1/s."""

    sizes: tuple[int, ...] = (64, 64)
    """How wide."""


@dataclass(frozen=True)
class Others:
    """Other flags."""

    name: str = "x"
    """What to call it."""


def test_values_and_defaults():
    assert parse(Flags, ["--steps", "5"], "try") == Flags(steps=5)
    assert parse(Flags, ["--sizes", "8", "9", "--rate", "None"], "try", Flags(rate=2.0)) == Flags(sizes=(8, 9))
    assert parse(Flags, ["--rate", "-1.5"], "try").rate == -1.5


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--steps", "many"], "--steps"),
        (["--step", "3"], "did you mean --steps?"),
        (["--network", "gnn"], "'mlp', 'cnn'"),
        (["--steps"], "--steps"),
        (["--rate", "quick"], "--rate"),
        (["stray"], "stray"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_mistakes_are_one_line_that_names_the_flag(argv, expected, encoding, monkeypatch):
    # The parser draws a box, or something simpler where the terminal lacks the characters.
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with pytest.raises(UserError) as caught:
        parse(Flags, argv, "try")
    message = str(caught.value)
    assert expected in message
    assert "rlstab try --help" in message
    assert "\n" not in message
    assert not set("╭│╰─") & set(message)


def test_help_shows_docs_and_defaults(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(Flags, ["--help"], "try", Flags(steps=7))
    assert not caught.value.code
    shown = capsys.readouterr().out
    assert "How many, in steps. (default: 7)" in shown


def test_parts_share_one_command_line():
    flags, others = parse_parts({"first": Flags(steps=1), "second": Others}, ["--name", "y", "--rate", "2"], "try")
    assert flags == Flags(steps=1, rate=2.0)
    assert others == Others(name="y")


@dataclass(frozen=True)
class Bounded:
    """Flags with ranges."""

    total_steps: int = field(default=5, metadata={"min": 2, "unit": "environment steps"})
    """How long."""

    hidden_sizes: tuple[int, ...] = field(default=(8,), metadata={"min": 1})
    """How wide."""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--total-steps", "1"], "--total-steps is 1, but must be at least 2 environment steps"),
        (["--hidden-sizes", "4", "0"], "--hidden-sizes[1] is 0, but must be at least 1"),
    ],
)
def test_a_value_out_of_range_is_named_by_its_flag(argv, expected):
    for read in (lambda: parse(Bounded, argv, "try"), lambda: parse_parts({"a": Others, "b": Bounded}, argv, "try")):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == expected


def test_settings_of_a_training_are_named_by_their_flags():
    from rlstab.cli.train import read_flags

    with pytest.raises(UserError, match=r"^--total-steps is -5, but must be at least 1"):
        read_flags("ppo", ["--total-steps", "-5"])


def test_value_of_takes_the_last_and_both_spellings():
    assert value_of("--env", ["--env", "a", "--env=b"]) == "b"
    assert value_of("--env", ["--environment", "a"]) is None
    assert value_of("--env", ["--env"]) is None


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("1_000", 1000), ("1e6", 10**6), ("2.5E3", 2500), ("-3", -3)])
def test_whole_numbers_as_people_write_them(text, number):
    assert whole_number(text) == number
    assert parse(Flags, ["--steps", text], "try").steps == number


@pytest.mark.parametrize("text", ["1.5", "25e-1", "1e-3", "1.25e1", "nan", "inf", "1e999", "", "six"])
def test_other_numbers_are_not_whole(text):
    with pytest.raises(ValueError, match="not a whole number"):
        whole_number(text)
    with pytest.raises(UserError, match="--steps"):
        parse(Flags, [f"--steps={text}"], "try")
