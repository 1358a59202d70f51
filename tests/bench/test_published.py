from __future__ import annotations

from rlstab.bench.published import CLEANRL, PUBLISHED, ZOO, Published


def test_every_task_has_both_sources() -> None:
    assert all(sources.keys() == {ZOO, CLEANRL} for sources in PUBLISHED.values())


def test_within_a_fraction_or_better() -> None:
    published = Published(1000.0, 5.0)
    assert published.reached_by(850.0)
    assert published.reached_by(5000.0)
    assert not published.reached_by(849.0)
    assert str(published) == "1000 ± 5"
