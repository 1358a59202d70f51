from __future__ import annotations

import random
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlstab.envs import check
from rlstab.envs.check import check_env
from rlstab.errors import UserError


class Good(gymnasium.Env):
    """A point that is pushed about: nothing is wrong with it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space: Any = spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.action_space: Any = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1, 2)
        self.count = 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.position = np.clip(self.position + 0.1 * action, -10, 10)
        self.count += 1
        distance = float(np.linalg.norm(self.position))
        return self.look(), -distance, distance > 9.0, self.count >= 20, {}

    def look(self) -> Any:
        return self.position.astype(np.float32)

    def render(self) -> Any:
        return np.zeros((16, 16, 3), np.uint8)


class NoObservationSpace(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        self.action_space = spaces.Discrete(2)


class ForeignSpace(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.observation_space = "Box(2)"


class UnboundedAction(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def step(self, action: Any) -> Any:
        return super().step(np.clip(action, -1, 1))


class FloatImage(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0.0, 1.0, (4, 4, 3), np.float32)

    def look(self) -> Any:
        return np.zeros((4, 4, 3), np.float32)


class CountedFromOne(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.observation_space = spaces.Discrete(3, start=1)

    def look(self) -> Any:
        return 2


class WrongDtype(Good):
    def look(self) -> Any:
        return self.position.astype(np.float64)


class TextDtype(Good):
    def look(self) -> Any:
        return np.array(["left", "right"])


class ObjectDtype(Good):
    def look(self) -> Any:
        return np.array([None, {}], object)


class WrongShape(Good):
    def look(self) -> Any:
        return np.zeros(3, np.float32)


class ListObservation(Good):
    def look(self) -> Any:
        return [0.0, 0.0]


class Outside(Good):
    def look(self) -> Any:
        return np.array([0.0, 11.0], np.float32)


class OutsideDiscrete(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.observation_space = spaces.Discrete(3)

    def look(self) -> Any:
        return 7


class MissingKey(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.observation_space = spaces.Dict({"here": spaces.Discrete(2), "there": spaces.Discrete(2)})

    def look(self) -> Any:
        return {"here": 0}


class NanLater(Good):
    def look(self) -> Any:
        return np.full(2, np.nan if self.count == 5 else 0.0, np.float32)


class OldStep(Good):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class ThreeValues(Good):
    def step(self, action: Any) -> Any:
        return super().step(action)[:3]


class OldReset(Good):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=seed)[0]


class InfoIsNone(Good):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=seed)[0], None


class SeedlessReset(Good):
    def reset(self, *, options: dict[str, Any] | None = None) -> Any:  # type: ignore[override]
        return super().reset()


class OptionlessReset(Good):
    def reset(self, *, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class Changed(Good):
    """Replaces one of the values that step returns."""

    place, value = 0, None

    def step(self, action: Any) -> Any:
        values = list(super().step(action))
        values[self.place] = self.value
        return tuple(values)


class ArrayReward(Changed):
    place, value = 1, np.zeros(1)


class BoolReward(Changed):
    place, value = 1, True


class NanReward(Changed):
    place, value = 1, float("nan")


class IntTerminated(Changed):
    place, value = 2, 0


class NoneTruncated(Changed):
    place, value = 3, None


class ListInfo(Changed):
    place, value = 4, []


class Aliased(Good):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.buffer = np.zeros(2, np.float32)
        return super().reset(seed=seed)

    def look(self) -> Any:
        self.buffer[:] = self.position
        return self.buffer


class IgnoresSeed(Good):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset()


class GlobalRandomness(Good):
    def step(self, action: Any) -> Any:
        return super().step(action * random.random())


class SurvivesReset(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.wear = 1.0

    def step(self, action: Any) -> Any:
        self.wear *= 0.99
        return super().step(action * self.wear)


class ChangesAction(Good):
    def step(self, action: Any) -> Any:
        action *= 0.5
        return super().step(action)


class ChangesSpace(Good):
    def step(self, action: Any) -> Any:
        if self.count == 3:
            self.action_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
        return super().step(action)


class RecreatesSpace(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)

    @property
    def action_space(self) -> Any:  # type: ignore[override]
        return spaces.Box(-1.0, 1.0, (2,), np.float32)


class RaisesAfterEnd(Good):
    ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if self.ended:
            message = "the simulator is gone"
            raise RuntimeError(message)
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        values = super().step(action)
        self.ended = values[3]
        return values


class RaisesInReset(Good):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        raise KeyError("joint")


class RaisesInStep(Good):
    def step(self, action: Any) -> Any:
        return 1 / 0


class RaisesInClose(Good):
    def close(self) -> None:
        raise RuntimeError("no window")


class RaisesInInit(Good):
    def __init__(self, render_mode: str | None = None) -> None:
        raise FileNotFoundError("robot.xml")


class NoMetadata(Good):
    metadata = gymnasium.Env.metadata


class NoFps(Good):
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012


class NoRenderMode(Good):
    def __init__(self) -> None:
        super().__init__()


class RendersNothing(Good):
    def render(self) -> Any:
        return None


class RenderFails(Good):
    def render(self) -> Any:
        raise ImportError("libGL")


class NoEnv:
    pass


BROKEN = [
    (NoObservationSpace, "space-missing", "error", "observation_space"),
    (ForeignSpace, "space-missing", "error", "str"),
    (UnboundedAction, "action-unbounded", "warning", "infinite bounds"),
    (FloatImage, "image-type", "warning", "looks like an image"),
    (CountedFromOne, "discrete-start", "warning", "counted from 1"),
    (WrongDtype, "observation-dtype", "error", "float64, its space float32"),
    (TextDtype, "observation-dtype", "error", "its space float32"),
    (ObjectDtype, "observation-dtype", "error", "object, its space float32"),
    (WrongShape, "observation-shape", "error", r"\(3,\), its space \(2,\)"),
    (ListObservation, "observation-type", "error", "list"),
    (Outside, "observation-outside", "error", "component 1 is 11"),
    (OutsideDiscrete, "observation-outside", "error", "7"),
    (MissingKey, "observation-structure", "error", "there"),
    (NanLater, "observation-nan", "error", r"component\(s\) \[0, 1\]"),
    (OldStep, "step-four-values", "error", "4 values"),
    (ThreeValues, "step-form", "error", "tuple of 3"),
    (OldReset, "reset-no-info", "error", "array of shape"),
    (InfoIsNone, "info-type", "error", "NoneType"),
    (SeedlessReset, "reset-seed", "error", "does not take 'seed'"),
    (OptionlessReset, "reset-options", "error", "does not take 'options'"),
    (ArrayReward, "reward-type", "error", "array of shape"),
    (BoolReward, "reward-type", "error", "bool"),
    (NanReward, "reward-nan", "error", "nan"),
    (IntTerminated, "terminated-type", "error", "int"),
    (NoneTruncated, "truncated-type", "error", "NoneType"),
    (ListInfo, "info-type", "error", "list"),
    (Aliased, "observation-aliased", "error", "same array"),
    (IgnoresSeed, "not-deterministic", "error", "begins differently"),
    (GlobalRandomness, "not-deterministic", "error", "step 1 differs"),
    (SurvivesReset, "not-deterministic", "error", "the same environment"),
    (ChangesAction, "action-changed", "error", "action it is given"),
    (ChangesSpace, "space-changed", "error", "spaces change"),
    (RecreatesSpace, "space-recreated", "warning", "action_space is made anew"),
    (RaisesAfterEnd, "reset-after-end-raises", "error", r"simulator is gone \(test_check.py"),
    (RaisesInReset, "reset-raises", "error", "KeyError"),
    (RaisesInStep, "step-raises", "error", r"ZeroDivisionError.*test_check.py"),
    (RaisesInClose, "close-raises", "error", "no window"),
    (RaisesInInit, "not-made", "error", "robot.xml"),
    (NoMetadata, "metadata", "warning", "render_modes"),
    (NoFps, "render-fps", "warning", "render_fps"),
    (NoRenderMode, "render-mode", "error", "render_mode"),
    (RendersNothing, "render-type", "error", "NoneType"),
    (RenderFails, "render-raises", "warning", "libGL"),
    (NoEnv, "not-made", "error", "not a gymnasium.Env"),
]


@pytest.mark.parametrize(("broken", "code", "level", "words"), BROKEN, ids=lambda item: getattr(item, "__name__", None))
def test_what_is_broken_is_found_and_nothing_else(broken, code, level, words):
    findings = check_env(broken, steps=50)
    assert [finding.code for finding in findings] == [code]
    (finding,) = findings
    assert finding.level == level
    assert re.search(words, finding.what)
    assert finding.fix
    assert "\n" not in str(finding)


def test_nothing_is_found_in_a_good_environment():
    assert check_env(Good) == []


def test_a_registered_good_environment_passes_with_its_wrappers():
    gymnasium.register("Good-v0", entry_point=Good, max_episode_steps=10)
    assert check_env("Good-v0") == []
    del gymnasium.registry["Good-v0"]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Hopper-v5", "rlstab/Hopper-v5"])
def test_known_environments_have_no_errors(env_id):
    assert [finding for finding in check_env(env_id, steps=60) if finding.level == "error"] == []


def test_missing_rendering_libraries_are_no_error(monkeypatch):
    def nothing_works() -> str:
        message = "nothing renders off-screen here"
        raise UserError(message)

    monkeypatch.setattr(check, "choose_backend", nothing_works)
    (finding,) = check_env("rlstab/InvertedPendulum-v5", steps=5)
    assert (finding.level, finding.code) == ("warning", "render-unavailable")


@pytest.mark.parametrize("metadata", ["rgb_array", ["rgb_array"]])
def test_odd_metadata_is_found_and_nothing_is_drawn(metadata):
    class Odd(Good):
        pass

    Odd.metadata = metadata
    assert [finding.code for finding in check_env(Odd, steps=5)] == ["gymnasium", "metadata"]


def test_rendering_libraries_of_mujoco_are_not_asked_for_other_pictures(monkeypatch):
    import mujoco  # noqa: F401

    monkeypatch.setattr(check, "choose_backend", lambda: pytest.fail("these pictures are not MuJoCo's"))
    assert check_env(Good, steps=5) == []


class Endless(Good):
    def step(self, action: Any) -> Any:
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, info


def test_an_episode_must_end_somehow():
    (finding,) = check_env(Endless, steps=5)
    assert (finding.level, finding.code) == ("warning", "never-ends")
    assert "no episode ended within 1000 steps, and there is no max_episode_steps" in finding.what
    gymnasium.register("Endless-v0", Endless)
    gymnasium.register("Limited-v0", Endless, max_episode_steps=70)
    assert [finding.code for finding in check_env("Endless-v0", steps=5)] == ["never-ends"]
    assert check_env("Limited-v0", steps=5) == []
    assert check_env(lambda **settings: gymnasium.wrappers.TimeLimit(Endless(**settings), 70), steps=5) == []


def test_what_mends_an_environment_that_cannot_be_made_depends_on_why(tmp_path, monkeypatch):
    (tmp_path / "arms_that_fail.py").write_text(
        "import gymnasium\n\nclass Arm(gymnasium.Env):\n    def __init__(self):\n        raise OSError('no model')\n\n"
        "gymnasium.register('FailingArm-v0', Arm)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = check_env("arms_that_fail:FailingArm-v0")
    assert finding.what.endswith("can't be made: OSError: no model (arms_that_fail.py:5)")
    assert finding.fix == "Mend the constructor, or pass the right settings"
    (finding,) = check_env("arms_that_fail:Leg-v0")
    assert finding.fix == "Importing the module must work, and must register the environment under this id"
    (finding,) = check_env("Leg-v0")
    assert finding.fix.endswith("or write 'module:Id' for your own")


def test_whoever_trains_has_a_say_about_the_spaces():
    told = check.Finding("error", "mine", "no", "yes")
    assert check_env(Good, steps=5, look_at_spaces=lambda observation, action: [told]) == [told]


def test_unknown_ids_get_near_names():
    (finding,) = check_env("rlstab/Hoper-v5")
    assert finding.code == "not-made"
    assert "did you mean 'rlstab/Hopper-v5'" in finding.what


def test_several_findings_come_once_each_errors_first():
    class Many(NoMetadata):
        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            return observation.astype(np.float64), np.zeros(1), int(terminated), truncated, info

    findings = check_env(Many)
    assert [finding.code for finding in findings] == [
        "reward-type",
        "terminated-type",
        "observation-dtype",
        "metadata",
    ]
    assert findings[0].to_dict()["level"] == "error"


def test_settings_reach_the_constructor():
    assert check_env("FrozenLake-v1", env_kwargs={"is_slippery": False}, steps=20) is not None
    (finding,) = check_env("FrozenLake-v1", env_kwargs={"slipery": False})
    assert "slipery" in finding.what
