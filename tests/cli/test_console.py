from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlstab.cli import console
from rlstab.cli.console import EpisodesView, only_results_on_stdout, plain, print_json, print_table


@dataclass
class Point:
    x: float
    names: tuple[str, ...]


def test_plain_reduces_to_json():
    document = {"a": np.float32(1.5), "b": np.arange(2), "c": Path("x"), "d": Point(math.nan, ("y",)), 5: math.inf}
    assert plain(document) == {"a": 1.5, "b": [0, 1], "c": "x", "d": {"x": None, "names": ["y"]}, "5": None}


def test_progress_of_episodes_is_shown_now_and_then(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    view = EpisodesView(5.0)
    for now in (101.0, 105.5, 106.0, 111.0):
        view(2, 20, int(100 * now))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"2 of 20 episodes done, the others at step {step}" for step in ("10,550", "11,100")]


def test_print_json_is_one_document(capsys):
    print_json({"x": np.int64(3)})
    assert json.loads(capsys.readouterr().out) == {"x": 3}


def test_chatter_goes_to_stderr(capsys):
    with only_results_on_stdout(True):
        print("chatter")
        sys.stdout.write("more\n")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "chatter\nmore\n"


def test_table_shows_markup_as_it_is(capsys):
    print_table("", ["name", "value"], [("pip install 'rlstab[viz]'", 1.0), ("x", None)], numbers=[1])
    assert "rlstab[viz]" in capsys.readouterr().out


def test_titles_and_headings_are_no_markup_either(capsys):
    print_table("[extra] of 'rlstab[viz]'", ["[name]", "[red]value"], [("x", 1.0)])
    shown = capsys.readouterr().out
    for text in ("[extra] of 'rlstab[viz]'", "[name]", "[red]value"):
        assert text in shown
