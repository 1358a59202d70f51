from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.bench.common import BenchmarkResult, Measurement
from rlstab.bench.conditions import Conditions


def result(
    *measurements: Measurement, higher_is_better: bool = True, not_peers: tuple[str, ...] = ()
) -> BenchmarkResult:
    return BenchmarkResult(
        name="race",
        title="A race",
        about="Who is faster.",
        command="rlstab bench race",
        unit="laps/s",
        higher_is_better=higher_is_better,
        reference="ours",
        labels=("track", "cars"),
        measurements=measurements,
        conditions=Conditions(
            {"processor": "abacus", "cores": 2}, 2, 0.5, {"ours": {"python": "3.11"}}, {}, "2026-01-01"
        ),
        not_peers=not_peers,
    )


def test_advantage_compares_within_a_repetition() -> None:
    # The machine was ten times slower in the second repetition: the ratio within each repetition is 2 all the same.
    race = result(
        Measurement(("oval", "8"), "ours", (200.0, 20.0, 220.0)),
        Measurement(("oval", "8"), "peer", (100.0, 10.0, 110.0)),
    )
    assert race.advantage(("oval", "8"), "peer") == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(0.1, 1e6)), min_size=1, max_size=7))
def test_faster_and_slower_are_mirror_images(samples: list[tuple[float, float]]) -> None:
    case = ("oval", "8")
    first, second = zip(*samples, strict=True)
    ours, peer = Measurement(case, "ours", first), Measurement(case, "peer", second)
    rate = result(ours, peer).advantage(case, "peer")
    duration = result(ours, peer, higher_is_better=False).advantage(case, "peer")
    assert rate is not None
    assert duration is not None
    if len(samples) % 2:  # the median of an even number of ratios is a mean, which does not commute with 1/x
        assert rate == pytest.approx(1 / duration)


def test_summary_counts_only_peers_that_do_the_same_work() -> None:
    race = result(
        Measurement(("oval", "8"), "ours", (100.0,)),
        Measurement(("oval", "8"), "peer", (50.0,)),
        Measurement(("oval", "8"), "engine alone", (400.0,)),
        Measurement(("sand", "8"), "ours", (10.0,)),
        Measurement(("sand", "8"), "peer", (20.0,)),
        not_peers=("engine alone",),
    )
    summary = race.summary()
    assert (summary["ahead"], summary["level"], summary["behind"]) == (1, 0, 1)
    assert summary["ahead of those that do less, too"] == 0
    assert summary["smallest ratio"] == pytest.approx(0.5)
    assert summary["smallest ratio at"] == "sand 8 against peer"


def test_what_was_not_measured_is_said_and_has_no_ratio() -> None:
    race = result(
        Measurement(("oval", "8"), "ours", (100.0,)),
        Measurement(("sand", "8"), "ours", (100.0,)),
        Measurement(("oval", "8"), "absent", note="not installed"),
        Measurement(("sand", "8"), "absent", note="not installed"),
        Measurement(("oval", "8"), "crashing", (90.0,)),
        Measurement(("sand", "8"), "crashing", note="it died"),
    )
    assert race.missing() == ["absent: not installed (everywhere)", "crashing: it died (sand 8)"]
    assert race.advantage(("oval", "8"), "absent") is None
    page = race.to_markdown()
    assert "absent: not installed (everywhere)" in page
    assert "| oval | 100 (100 to 100) | - | 90 (90 to 90) |" in page


def test_tables_are_grouped_by_the_last_label() -> None:
    race = result(Measurement(("oval", "8"), "ours", (1.0,)), Measurement(("oval", "64"), "ours", (2.5,)))
    assert [title for title, _, _ in race.tables()] == [
        "8 cars: median (lowest to highest), laps/s",
        "64 cars: median (lowest to highest), laps/s",
    ]


def test_a_result_survives_saving(tmp_path: Path) -> None:
    race = result(Measurement(("oval", "8"), "ours", (1.0, 2.0)), Measurement(("oval", "8"), "peer", note="absent"))
    race.save(tmp_path / "race")
    assert BenchmarkResult.load(tmp_path / "race").to_dict() == race.to_dict()


def test_a_repetition_that_was_given_up_took_longer_than_any_other() -> None:
    case = ("oval", "8")
    race = result(
        Measurement(case, "ours", (10.0, 12.0, 11.0)),
        Measurement(case, "peer", (20.0, 33.0), "seed 1 did not arrive", missed=(1,)),
        Measurement(case, "lost", (40.0,), "seeds 0 and 2 did not arrive", missed=(0, 2)),
        Measurement(case, "never", (), "nobody arrived", missed=(0, 1, 2)),
        higher_is_better=False,
    )
    # Ratios within a repetition are 2, infinity and 3.
    assert race.advantage(case, "peer") == pytest.approx(3.0)
    assert race.advantage(case, "lost") == math.inf
    assert race.advantage(case, "never") == math.inf
    page = race.to_markdown()
    assert "| oval | 11 (10 to 12) | 33 (20 to given up) | given up (40 to given up) | given up |" in page
    assert "* peer: seed 1 did not arrive (everywhere)" in page
    assert race.summary()["smallest ratio"] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("peer", "standing"),
    [((9.0, 9.0), "ahead"), ((9.0, 11.0), "level"), ((11.0, 12.0), "behind"), ((9.0, 10.0), "level")],
)
def test_ahead_and_behind_need_every_repetition(peer: tuple[float, ...], standing: str) -> None:
    case = ("oval", "8")
    race = result(Measurement(case, "ours", (10.0, 10.0)), Measurement(case, "peer", peer))
    assert race.standing(case, ["peer", "absent"]) == standing


def test_repetitions_that_both_gave_up_say_nothing() -> None:
    case = ("oval", "8")
    ours, peer = Measurement(case, "ours", (10.0,), missed=(1,)), Measurement(case, "peer", (20.0,), missed=(1,))
    assert result(ours, peer, higher_is_better=False).advantage(case, "peer") == pytest.approx(2.0)
    only_ours = Measurement(case, "ours", (10.0, 10.0, 10.0))
    assert result(only_ours, only_ours, higher_is_better=False).advantage(case, "ours") == pytest.approx(1.0)


def test_results_saved_before_there_were_given_up_repetitions_load(tmp_path: Path) -> None:
    path = result(Measurement(("oval", "8"), "ours", (1.0,))).save(tmp_path / "race")
    document = json.loads(path.read_text())
    for measurement in document["fields"]["measurements"]:
        del measurement["missed"]
    del document["fields"]["conditions"]["commits"]
    path.write_text(json.dumps(document))
    loaded = BenchmarkResult.load(path)
    assert loaded.measurements[0].missed == ()
    assert loaded.conditions.commits == ()


def test_ratios_show_their_spread() -> None:
    case = ("oval", "8")
    race = result(
        Measurement(case, "ours", (10.0, 20.0, 30.0)),
        Measurement(case, "peer", (10.0, 10.0, 10.0)),
        Measurement(case, "absent", note="not installed"),
    )
    assert race.ratios(case, "peer") == [1.0, 2.0, 3.0]
    assert race.ratios(case, "absent") == []
    page = race.to_markdown()
    assert "| oval | 2.00 (1.00 to 3.00) |" in page
    assert "ahead of every peer in 0, level with the best in 1, behind in 0." in page
