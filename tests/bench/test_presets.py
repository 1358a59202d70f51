from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlstab.bench.presets import Options, PresetsResult, measure
from rlstab.errors import UserError


def returns(values: dict[str, float]) -> Any:
    return lambda report: {**report, "eval_returns": [values[report["env_id"]] + report["seed"]]}


def test_the_page_compares_means_with_published_ones(fake: Any, work: Path, tmp_path: Path) -> None:
    fake.change = returns({"Hopper-v5": 2100.0, "HalfCheetah-v5": 9000.0})
    options = Options(envs=("Hopper-v5", "HalfCheetah-v5"), seeds=2, steps=5000, jobs=1, work=work)
    result = measure(options, lambda _: None)
    assert {learner for learner, _, _ in fake.begun} == {"preset"}
    page = result.to_markdown()
    # 2100.5 is 87 % of the one and 77 % of the other.
    assert "| Hopper-v5 | 2100 [2100, 2101] | 2410 ± 10 | 0.87 | yes | 2741 ± 269 | 0.77 | no |" in page
    assert "| HalfCheetah-v5 | 9000 [9000, 9001] | 5819 ± 664 | 1.55 | yes | 2637 ± 1068 | 3.41 | yes |" in page
    assert "zoo, 1 M: on Hopper-v5, HalfCheetah-v5 (2 of 2); CleanRL, 8 M: on HalfCheetah-v5 (1 of 2)" in page
    assert "Made by `rlstab bench presets --docs --envs Hopper-v5 HalfCheetah-v5 --seeds 2 --steps 5000" in page
    assert "| preset of HalfCheetah-v5 |" in page
    assert "total_steps" not in page
    assert PresetsResult.load(result.save(tmp_path / "ppo_presets")).to_markdown() == page


def test_the_tasks_of_the_published_table_are_the_default(fake: Any, work: Path) -> None:
    measure(Options(seeds=1, jobs=1, work=work), lambda _: None)
    assert [env for _, env, _ in fake.begun] == ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5"]


def test_another_preset_is_trained_again(fake: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(envs=("Hopper-v5",), seeds=1, steps=5000, jobs=1, work=work)
    measure(options, lambda _: None)
    measure(options, lambda _: None)
    assert len(fake.begun) == 1
    from rlstab.controllers import registry

    monkeypatch.setattr(registry, "load_preset", lambda *_: registry.Preset("Hopper-v5", {"gamma": 0.5}))
    measure(options, lambda _: None)
    assert len(fake.begun) == 2


def test_tasks_without_published_returns_are_refused() -> None:
    with pytest.raises(UserError, match="no published return of Reacher-v5"):
        measure(Options(envs=("Reacher-v5",)))
