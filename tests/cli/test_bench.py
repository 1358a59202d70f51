from __future__ import annotations

from dataclasses import dataclass

import pytest

from rlstab.bench import registry
from rlstab.bench.common import BenchmarkResult, Measurement
from rlstab.bench.conditions import Conditions


@dataclass(frozen=True)
class Options:
    """What to measure."""

    repetitions: int = 3
    """How often."""


@pytest.fixture(autouse=True)
def benchmark(monkeypatch):
    """A benchmark that takes no time."""

    def measure(self, options, on_progress):
        on_progress("half done")
        print("chatter of a library")
        samples = tuple(float(number + 1) for number in range(options.repetitions))
        slower = tuple(sample / 2 for sample in samples)
        return BenchmarkResult(
            name="nothing",
            title="Nothing",
            about="Nothing.",
            command="rlstab bench nothing",
            unit="steps/s",
            higher_is_better=True,
            reference="ours",
            labels=("task",),
            measurements=(Measurement(("A",), "ours", samples), Measurement(("A",), "theirs", slower)),
            conditions=Conditions.now(1),
        )

    monkeypatch.setitem(
        registry.BENCHMARKS, "nothing", registry.Benchmark("nothing", "rlstab.bench.common", "nothing at all")
    )
    monkeypatch.setattr(registry.Benchmark, "options", lambda self: Options)
    monkeypatch.setattr(registry.Benchmark, "measure", measure)


def test_tables_and_ratio(call):
    code, out, err = call("bench", "nothing")
    assert code == 0
    assert "2.00" in out
    assert "half done" in err


def test_json(call_json):
    _, document = call_json("bench", "nothing", "--repetitions", 2)
    assert document["measurements"][0]["samples"] == [1.0, 2.0]


def test_results_page(call, tmp_path):
    assert call("bench", "nothing", "--out", tmp_path / "results")[0] == 0
    assert (tmp_path / "results" / "nothing.md").exists()


def test_pages_come_from_saved_numbers(call, refused, tmp_path):
    assert call("bench", "nothing", "--repetitions", 2, "--out", tmp_path / "first")[0] == 0
    saved = tmp_path / "first" / "nothing.json"
    code, out, err = call("bench", "nothing", "--from", saved, "--out", tmp_path / "second")
    assert code == 0
    assert "2.00" in out
    assert "half done" not in err
    for name in ("nothing.md", "nothing.json", "index.md"):
        assert (tmp_path / "second" / name).read_text() == (tmp_path / "first" / name).read_text()
    assert "leave out the flags" in refused("bench", "nothing", "--from", saved, "--repetitions", 2)
    assert "there is no result" in refused("bench", "nothing", "--from", tmp_path / "absent.json")


def test_names(call, refused):
    assert "nothing at all" in call("bench", "--help")[1]
    assert "which benchmark?" in refused("bench")
    assert "did you mean 'nothing'" in refused("bench", "nothin")


def test_a_folder_that_cannot_be_written_is_known_before_the_measurement(call, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = call("bench", "nothing", "--out", tmp_path / "file" / "results")
    assert code == 2
    assert "cannot write results to" in err
    assert "half done" not in out + err


def test_results_are_shown_where_their_page_cannot_be_written(call, tmp_path):
    (tmp_path / "results" / "nothing.json").mkdir(parents=True)
    for flags in ((), ("--json",)):
        code, out, err = call("bench", "nothing", "--out", tmp_path / "results", *flags)
        assert code == 2
        assert ("measurements" if flags else "2.00") in out
        assert [line for line in err.splitlines() if line.startswith("rlstab: ")] == [
            line for line in err.splitlines() if f"cannot write {tmp_path / 'results' / 'nothing.json'}" in line
        ]
