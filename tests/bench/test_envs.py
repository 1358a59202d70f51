from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box

from rlstab.bench import env_worker, envs
from rlstab.bench.env_worker import EPISODE_STEPS, LEAST_STEPS
from rlstab.bench.envs import Options, Worker, WorkerError, measure
from rlstab.envs.registry import make_vec, native_ids
from rlstab.errors import UserError


def test_every_implementation_that_can_run_is_timed_and_the_others_are_explained(tmp_path: Path) -> None:
    options = Options(
        tasks=("InvertedPendulum-v5",),
        worlds=(3,),
        implementations=("rlstab", "gymnasium Async", "EnvPool", "mujoco.rollout (physics)", "rlstab (physics)"),
        repetitions=2,
        seconds=0.01,
        threads=1,
        peer_python=tmp_path / "python",
        max_processes=2,
    )
    lines: list[str] = []
    result = measure(options, lines.append)
    case = ("InvertedPendulum-v5", "3")
    for name in ("rlstab", "mujoco.rollout (physics)", "rlstab (physics)"):
        measurement = result.find(case, name)
        assert measurement is not None, result.missing()
        assert len(measurement.samples) == 2
        assert min(measurement.samples) > 0
    missing = "\n".join(result.missing())
    assert "gymnasium Async: would start more than 2 processes" in missing
    assert "EnvPool" in missing
    assert "cannot be started" in missing
    assert str(tmp_path) not in result.command
    assert len(lines) == 1


def test_a_task_of_our_own_stands_beside_those_that_step_its_model_and_has_a_page_of_its_own() -> None:
    task = "rlstab/Go1Velocity-v0"
    options = Options(
        tasks=(task,),
        worlds=(3,),
        implementations=("rlstab", "gymnasium Async", "EnvPool", "mujoco.rollout (physics)", "rlstab (physics)"),
        max_processes=2,
        repetitions=1,
        seconds=0.01,
        threads=1,
    )
    result = measure(options, lambda _: None)
    absent = ("gymnasium Async", "EnvPool")
    assert result.missing() == [f"{name}: has no such task (everywhere)" for name in absent]
    assert all(result.find((task, "3"), name) for name in options.implementations if name not in absent)
    assert result.name == "envs_go1velocity_v0"
    assert "ahead" not in result.summary()
    assert "of this package alone" in result.about


def test_physics_of_our_own_task_begins_as_its_episodes_do() -> None:
    model, frame_skip, space, starts = env_worker._physics("rlstab/Go1Velocity-v0", 2)
    batch: Any = make_vec("rlstab/Go1Velocity-v0", num_threads=1)
    assert space == batch.single_action_space
    assert frame_skip * model.opt.timestep == batch.dt
    np.testing.assert_allclose([qpos[2] for qpos, _ in starts], batch.task.kit.height, atol=0.05)
    assert not np.array_equal(starts[0][0], starts[1][0])


def test_the_page_of_all_tasks_is_said_to_be_of_the_family() -> None:
    assert "the nine MuJoCo tasks" in envs._about(tuple(EPISODE_STEPS))
    assert "of Hopper-v5\n" in envs._about(("Hopper-v5",))


def test_a_failure_of_one_implementation_is_an_answer() -> None:
    worker = Worker.start("gymnasium Sync")
    try:
        with pytest.raises(WorkerError, match="NoSuchTask"):
            worker.ask(do="build", task="NoSuchTask-v0", worlds=1, threads=1)
        with pytest.raises(WorkerError, match="no case is built"):
            worker.ask(do="run", seconds=0.01)
        worker.ask(do="build", task="InvertedPendulum-v5", worlds=2, threads=1)
        run = worker.ask(do="run", seconds=0.0)
        assert run["steps"] == 2 * LEAST_STEPS
    finally:
        worker.stop()


def test_a_worker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker.start("gymnasium Sync")
    try:
        worker.ask(do="build", task="InvertedPendulum-v5", worlds=1, threads=1)
        monkeypatch.setattr(envs, "_PATIENCE_S", 0.05)
        with pytest.raises(WorkerError, match=r"did not answer within 0\.05 s"):
            worker.ask(do="run", seconds=3600)
        with pytest.raises(WorkerError, match="its process died"):
            worker.ask(do="run", seconds=0.01)
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(tasks=("Hoper-v5",)), "did you mean 'Hopper-v5'"),
        (Options(tasks=()), "at least one task"),
        (Options(implementations=("EnvPol",)), "did you mean 'EnvPool'"),
        (Options(repetitions=0), "greater than 0"),
        (Options(worlds=(8, 0)), "greater than 0"),
        (Options(seconds=0.0), "greater than 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(options: Options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure(options)


@pytest.mark.parametrize("task", ["InvertedPendulum-v5", "HalfCheetah-v5"])
def test_timing_begins_where_the_episodes_no_longer_run_together(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []
    built = (steps.append, Box(-1, 1, (1,)), lambda: None)
    monkeypatch.setitem(env_worker.IMPLEMENTATIONS, "counted", (lambda *_: built, "numpy", ()))
    case = env_worker._Case("counted", task, 2, 1)
    assert len(steps) == min(200, EPISODE_STEPS[task])
    assert len(np.unique([action[0] for action in steps])) == min(len(steps), 32)
    assert case.run(0.0)["steps"] == 2 * LEAST_STEPS


def test_the_peers_environments_are_not_slowed_by_gymnasiums_checker() -> None:
    for build in (env_worker.gymnasium_sync, env_worker.sb3_dummy):
        step, _, close = build("InvertedPendulum-v5", 1, 1)
        assert "PassiveEnvChecker" not in str(step.__self__.envs[0])  # type: ignore[attr-defined]
        close()


def test_all_native_environments_are_measured() -> None:
    assert set(native_ids()) == set(EPISODE_STEPS)
