"""What is wrong with an environment, in plain words: for users who write their own."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.utils import env_checker
from gymnasium.wrappers import TimeLimit

from rlstab.envs.check_values import (
    Finding,
    equal,
    error,
    observation_findings,
    reset_findings,
    shares_memory,
    space_findings,
    step_findings,
    warning,
)
from rlstab.envs.gym_make import cause, check_known, draws_with_mujoco, make_one, resolve_id
from rlstab.envs.rendering import choose_backend
from rlstab.errors import UserError, command

__all__ = ["Finding", "check_env"]


def check_env(
    env_id: str | Callable[..., gymnasium.Env[Any, Any]],
    *,
    steps: int = 300,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    look_at_spaces: Callable[[Any, Any], Iterable[Finding]] | None = None,
) -> list[Finding]:
    """Try an environment out and say what is wrong with it.

    Random actions are taken in it, twice with the same seed, in two instances; nothing is trained.

    Parameters
    ----------
    env_id
        An id known to gymnasium, ``"module:Id"``, or a function (or class) that makes the environment.
    steps
        Steps taken in each run.
    seed
        Seed of the runs.
    env_kwargs
        Passed to the constructor.
    look_at_spaces
        Called with the observation and the action space for more findings; whoever trains knows what can be trained
        on.

    Returns
    -------
    list of Finding
        Errors first; empty if all is well. Each kind of finding comes once.

    Examples
    --------
    >>> [finding for finding in check_env("CartPole-v1", steps=50) if finding.level == "error"]
    []
    >>> print(check_env("CartPol-v1")[0])
    error: there is no environment 'CartPol-v1'; did you mean 'CartPole-v1'...
    """
    check = _Check(env_id, steps, seed, env_kwargs or {}, look_at_spaces)
    with warnings.catch_warnings():
        # What gymnasium prints in passing is either found here too, or taste.
        warnings.simplefilter("ignore")
        check.run()
    return sorted(check.findings.values(), key=lambda finding: finding.level)


_LONG_EPISODE = 1000


class _Unusable(Exception):
    """Nothing more can be tried."""


class _Check:
    def __init__(self, env_id: Any, steps: int, seed: int, env_kwargs: dict[str, Any], more_on_spaces: Any) -> None:
        self.env_id, self.steps, self.seed, self.env_kwargs = env_id, steps, seed, env_kwargs
        self.more_on_spaces = more_on_spaces
        self.ended = False
        self.findings: dict[str, Finding] = {}
        self.made: list[gymnasium.Env[Any, Any]] = []

    def run(self) -> None:
        try:
            env = self.make()
            self.look_at_spaces(env)
            self.look_at_metadata(env)
            first = self.roll(env)
            self.compare(first, self.roll(env), "the same environment")
            self.compare(first, self.roll(self.make()), "a new instance")
            if self.is_sound():
                self.ask_gymnasium()
            if self.is_sound():
                self.look_at_ends(env)
            self.draw()
        except _Unusable:
            pass
        finally:
            for env in self.made:
                try:
                    env.close()
                except Exception as problem:
                    self.add(error("close-raises", f"close() raised {cause(problem)}", "Make close() always work"))

    def is_sound(self) -> bool:
        return not any(finding.level == "error" for finding in self.findings.values())

    def add(self, finding: Finding) -> None:
        """Keep the first finding of each kind."""
        self.findings.setdefault(finding.code, finding)

    def make(self, **more: Any) -> Any:
        try:
            if isinstance(self.env_id, str):
                check_known(resolve_id(self.env_id))
        except UserError as problem:
            fix = f"See `{command('list', 'envs')}`, or write 'module:Id' for your own"
            if ":" in self.env_id:
                fix = "Importing the module must work, and must register the environment under this id"
            self.give_up("not-made", str(problem), fix)
        try:
            # Without time limit: its wrapper would stumble over what is to be found here.
            limit = -1 if isinstance(self.env_id, str) else None
            env = make_one(self.env_id, limit, {**self.env_kwargs, **more})
        except UserError as problem:
            self.give_up("not-made", str(problem), "Mend the constructor, or pass the right settings")
        except Exception as problem:
            self.give_up("not-made", f"the constructor raised {cause(problem)}", "Mend it, or pass the right settings")
        self.made.append(env)
        return env

    def give_up(self, code: str, what: str, fix: str) -> NoReturn:
        self.add(error(code, what, fix))
        raise _Unusable

    def look_at_spaces(self, env: Any) -> None:
        self.original: Any = tuple(getattr(env, name, None) for name in ("observation_space", "action_space"))
        for finding in space_findings(*self.original):
            self.add(finding)
        if "space-missing" in self.findings:
            raise _Unusable
        if self.more_on_spaces is not None:
            for finding in self.more_on_spaces(*self.original):
                self.add(finding)
        self.original = deepcopy(self.original)
        for name in ("observation_space", "action_space"):
            if getattr(env.unwrapped, name) is not getattr(env.unwrapped, name):
                what = f"{name} is made anew whenever it is asked for, so seeding it has no effect"
                self.add(warning("space-recreated", what, f"Make it once in __init__ and store it in self.{name}"))

    def look_at_metadata(self, env: Any) -> None:
        metadata: Any = getattr(env.unwrapped, "metadata", None)
        modes = metadata.get("render_modes") if isinstance(metadata, dict) else None
        if modes is None or metadata is gymnasium.Env.metadata:
            what = "the class says nothing about how it draws: metadata has no 'render_modes'"
            fix = "Add metadata = {'render_modes': ['rgb_array'], 'render_fps': 50} to the class, or an empty list"
            self.add(warning("metadata", what, fix))
        elif "rgb_array" in modes and "render_fps" not in metadata:
            what = "metadata has 'render_modes' but no 'render_fps', so videos have no speed"
            self.add(warning("render-fps", what, "Add 'render_fps': steps per second of real time"))

    def roll(self, env: Any) -> list[Any]:
        """Run once; everything returned, copied."""
        history: list[Any] = []
        actions = deepcopy(self.original[1])
        actions.seed(self.seed)
        observation = self.reset(env, history, self.seed)
        for _ in range(self.steps):
            action = actions.sample()
            given, kept = deepcopy(action), deepcopy(observation)
            result = self.call("step", env.step, action)
            for finding in step_findings(result):
                self.add(finding)
            if not isinstance(result, tuple) or len(result) != 5:
                raise _Unusable
            following, reward, terminated, truncated, _ = result
            self.look_at_observation(following, "step()")
            if not equal(given, action):
                self.add(
                    error("action-changed", "step() changes the action it is given", "Work on a copy: np.array(action)")
                )
            if shares_memory(observation, following) or not equal(observation, kept):
                what = "step() returns the same array again and writes into it: stored observations change afterwards"
                self.add(error("observation-aliased", what, "Return a copy: observation.copy()"))
            history.append(deepcopy((following, reward, terminated, truncated)))
            observation = following
            if np.any(terminated) or np.any(truncated):
                self.ended = True
                observation = self.reset(env, history, None)
        if not equal(self.original, (env.observation_space, env.action_space)):
            self.add(error("space-changed", "the spaces change during an episode", "Leave them as __init__ made them"))
        return history

    def reset(self, env: Any, history: list[Any], seed: int | None) -> Any:
        parameters = inspect.signature(env.unwrapped.reset).parameters
        takes_all = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
        for name in ("seed", "options"):
            if name not in parameters and not takes_all:
                what = f"reset() does not take '{name}'"
                fix = "Declare it as reset(self, *, seed=None, options=None) and begin it with super().reset(seed=seed)"
                self.add(error(f"reset-{name}", what, fix))
        if "reset-seed" in self.findings:
            raise _Unusable
        code = "reset" if seed is not None else "reset-after-end"
        result = self.call(code, env.reset, **({"seed": seed} if seed is not None else {}))
        for finding in reset_findings(result):
            self.add(finding)
        if not isinstance(result, tuple) or len(result) != 2:
            raise _Unusable
        self.look_at_observation(result[0], "reset()")
        history.append(deepcopy(result[0]))
        return result[0]

    def call(self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except Exception as problem:
            if name == "reset-after-end":
                what = f"reset() raised {cause(problem)} after an episode had ended"
                fix = "reset() must bring everything back to a fresh start, whatever happened before"
            else:
                what, fix = f"{name}() raised {cause(problem)}", "Mend it; the place in your code is named"
            return self.give_up(f"{name}-raises", what, fix)

    def look_at_observation(self, observation: Any, source: str) -> None:
        for finding in observation_findings(self.original[0], observation, source):
            self.add(finding)

    def look_at_ends(self, env: Any) -> None:
        if self.ended or self.time_limit(env) is not None:
            return
        self.reset(env, [], self.seed)
        for _ in range(_LONG_EPISODE):
            _, _, terminated, truncated, _ = self.call("step", env.step, self.original[1].sample())
            if terminated or truncated:
                return
        what = (
            f"no episode ended within {_LONG_EPISODE} steps, and there is no max_episode_steps: "
            "an evaluation needs an end"
        )
        fix = "Register it with max_episode_steps=1000, or train with --max-episode-steps 1000"
        self.add(warning("never-ends", what, fix))

    def time_limit(self, env: Any) -> int | None:
        """The registered one, which was left out here, or that of a wrapper."""
        if isinstance(self.env_id, str):
            return gymnasium.spec(resolve_id(self.env_id).rpartition(":")[2]).max_episode_steps
        while isinstance(env, gymnasium.Wrapper):
            if isinstance(env, TimeLimit):
                return env._max_episode_steps
            env = env.env
        return None

    def compare(self, first: list[Any], second: list[Any], where: str) -> None:
        for index, (one, other) in enumerate(zip(first, second, strict=False)):
            if equal(one, other):
                continue
            if index == 0:
                what = f"reset(seed={self.seed}) begins differently the second time ({where})"
            else:
                what = f"with the same seed and actions, step {index} differs the second time ({where})"
            fix = (
                "Call super().reset(seed=seed) and draw all random numbers from self.np_random; "
                "let nothing survive reset()"
            )
            self.add(error("not-deterministic", what, fix))
            return

    def ask_gymnasium(self) -> None:
        try:
            env_checker.check_env(self.make().unwrapped, skip_render_check=True, skip_close_check=True)
        except _Unusable:
            raise
        except Exception as problem:
            what = f"gymnasium's own checker says: {' '.join(str(problem).split())}"
            self.add(error("gymnasium", what, "See gymnasium's page on making your own environment"))

    def draw(self) -> None:
        metadata: Any = getattr(self.made[0].unwrapped, "metadata", None)
        modes = metadata.get("render_modes") if isinstance(metadata, dict) else None
        if "rgb_array" not in (modes or ()):
            return
        try:
            if draws_with_mujoco(self.made[0]):
                choose_backend()
        except UserError as problem:
            self.add(warning("render-unavailable", f"pictures could not be tried: {problem}", "Training works without"))
            return
        try:
            env = self.make(render_mode="rgb_array")
            env.reset(seed=self.seed)
            picture = env.render()
        except _Unusable:
            problem = self.findings.pop("not-made")
            fix = "Let __init__ take render_mode=None and keep it in self.render_mode"
            self.add(error("render-mode", f"metadata promises 'rgb_array', but {problem.what}", fix))
            return
        except Exception as problem:
            fix = "Mend render(), or install what it needs; training works without"
            self.add(warning("render-raises", f"render() raised {cause(problem)}", fix))
            return
        if not (isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3):
            seen = getattr(picture, "shape", type(picture).__name__)
            fix = "Return an array (height, width, 3) of uint8"
            self.add(error("render-type", f"render() with 'rgb_array' returned {seen}", fix))
