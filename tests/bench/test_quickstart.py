from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest

from rlstab.bench import quickstart
from rlstab.bench.quickstart import Options, QuickstartResult, measure
from rlstab.errors import UserError

RETURNS = [1000.0, 3000.0, 2000.0, 1600.0]


class FakeQuickstart:
    """Stands in for `rlstab quickstart`."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.failing_seed: int | None = None

    def run(self, command: list[str], **_: Any) -> types.SimpleNamespace:
        self.commands.append(command)
        seed = int(command[command.index("--seed") + 1])
        if seed == self.failing_seed:
            return types.SimpleNamespace(returncode=1, stdout="", stderr="a\nno space left\n")
        document = {
            "mean_return": RETURNS[seed],
            "deployed_mean_return": RETURNS[seed] * 1.01,
            "relative_difference": 0.01,
            "train_seconds": 90.0 + seed,
            "seconds": 120.0 + seed,
            "peak_memory_bytes": 700 * 2**20,
            "steps": 1_000_448,
        }
        return types.SimpleNamespace(returncode=0, stdout=json.dumps(document), stderr="")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeQuickstart:
    fake = FakeQuickstart()
    monkeypatch.setattr(quickstart, "subprocess", types.SimpleNamespace(run=fake.run))
    return fake


def test_the_page(fake: FakeQuickstart, tmp_path: Path) -> None:
    result = measure(Options(seeds=4, work=tmp_path / "new"), lambda _: None)
    assert [command[command.index("--out") + 1] for command in fake.commands] == [
        str(tmp_path / "new" / str(seed)) for seed in range(4)
    ]
    page = result.to_markdown()
    assert "Made by `rlstab bench quickstart --docs --seeds 4 --work WORK`." in page
    assert "| 1 | 3000 | 3030 | 1.00 | 91 | 121 | 700 |" in page
    # The middle of an even number of seeds lies between two.
    assert "| median return | 1800 |" in page
    assert "| seeds above 1500 | 3 |" in page
    assert "| environment steps | 1000448 |" in page
    assert "| rlstab | python " in page
    assert QuickstartResult.load(result.save(tmp_path / "quickstart")).to_markdown() == page


def test_what_was_saved_without_settings_loads(fake: FakeQuickstart, tmp_path: Path) -> None:
    path = measure(Options(seeds=1, work=tmp_path / "new"), lambda _: None).save(tmp_path / "quickstart")
    document = json.loads(path.read_text())
    del document["fields"]["settings"]
    path.write_text(json.dumps(document))
    assert "## Conditions" in QuickstartResult.load(path).to_markdown()


def test_a_folder_with_anything_in_it_is_refused(fake: FakeQuickstart, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    measure(Options(seeds=1, work=work), lambda _: None)
    (work / "0").mkdir()
    with pytest.raises(UserError, match=r"work is not an empty folder.*--work"):
        measure(Options(seeds=1, work=work), lambda _: None)
    assert len(fake.commands) == 1


def test_a_failing_seed_ends_the_benchmark(fake: FakeQuickstart, tmp_path: Path) -> None:
    fake.failing_seed = 1
    with pytest.raises(UserError, match="quickstart with seed 1 failed: no space left"):
        measure(Options(seeds=3, work=tmp_path / "new"), lambda _: None)


def test_seeds_must_be_positive() -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure(Options(seeds=0))
