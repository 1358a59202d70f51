"""What can be wrong with the values that an environment returns, each said plainly and with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with an environment, or may be.

    Parameters
    ----------
    level
        ``"error"``: learning or evaluation would fail or be wrong. ``"warning"``: it may be meant.
    code
        Short name of the kind of finding, for programs.
    what
        What is wrong, with the values seen.
    fix
        What to change.
    """

    level: Literal["error", "warning"]
    code: str
    what: str
    fix: str

    def __str__(self) -> str:
        end = "" if self.what.endswith("?") else "."
        return f"{self.level}: {self.what}{end} {self.fix}."

    def to_dict(self) -> dict[str, str]:
        """Plain dictionary, for JSON."""
        return asdict(self)


def error(code: str, what: str, fix: str) -> Finding:
    """Something that must be mended."""
    return Finding("error", code, what, fix)


def warning(code: str, what: str, fix: str) -> Finding:
    """Something that should be looked at."""
    return Finding("warning", code, what, fix)


def space_findings(observation_space: Any, action_space: Any) -> Iterator[Finding]:
    """Look at the spaces themselves."""
    for name, space in (("observation_space", observation_space), ("action_space", action_space)):
        if not isinstance(space, spaces.Space):
            yield error(
                "space-missing",
                f"{name} is {'not set' if space is None else type(space).__name__}",
                f"Set self.{name} to a gymnasium.spaces.Space in __init__ (spaces of the old gym package do not count)",
            )
    if isinstance(action_space, spaces.Box):
        if not (np.all(np.isfinite(action_space.low)) and np.all(np.isfinite(action_space.high))):
            yield warning(
                "action-unbounded",
                f"action_space has infinite bounds: {action_space}",
                "Give actions finite bounds, best [-1, 1], and scale them in step()",
            )
        elif np.any(action_space.low >= action_space.high):
            yield error(
                "space-empty",
                f"some bounds of action_space leave no room: {action_space}",
                "Make low smaller than high in every component",
            )
    for leaf, path in leaves(observation_space):
        if isinstance(leaf, spaces.Box) and len(leaf.shape) == 3 and leaf.dtype != np.uint8:
            yield warning(
                "image-type",
                f"observation{path} looks like an image {leaf.shape} of {leaf.dtype}",
                "Return images as uint8 from 0 to 255, which is what image policies scale",
            )
        if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete) and np.any(np.asarray(leaf.start) != 0):
            yield warning(
                "discrete-start",
                f"observation{path} is counted from {leaf.start}",
                "Count from 0; Stable-Baselines3 does not take other starts",
            )


def leaves(space: Any, path: str = "") -> Iterator[tuple[Any, str]]:
    """Spaces inside ``space`` that hold values, with where they are."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from leaves(part, f"{path}[{name!r}]")
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from leaves(part, f"{path}[{index}]")
    else:
        yield space, path


def observation_findings(space: Any, value: Any, source: str, path: str = "") -> Iterator[Finding]:
    """Compare an observation that ``source`` (``"reset()"``) returned with its space."""
    where = f"observation{path} from {source}"
    if isinstance(space, spaces.Dict):
        keys = set(value) if isinstance(value, dict) else None
        if keys != set(space.spaces):
            seen = f"keys {sorted(map(str, keys))}" if keys is not None else f"a {type(value).__name__}"
            yield error(
                "observation-structure",
                f"{where} has {seen}, its space keys {sorted(space.spaces)}",
                "Return a dictionary with exactly the keys of the space",
            )
            return
        for name, part in space.spaces.items():
            yield from observation_findings(part, value[name], source, f"{path}[{name!r}]")
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space.spaces):
            yield error(
                "observation-structure",
                f"{where} is {_describe(value)}, its space a tuple of {len(space.spaces)}",
                "Return a tuple with one part for each of the space",
            )
            return
        for index, part in enumerate(space.spaces):
            yield from observation_findings(part, value[index], source, f"{path}[{index}]")
    elif isinstance(space, spaces.Box):
        yield from _box_findings(space, value, where)
    elif not space.contains(value):
        yield error(
            "observation-outside", f"{where} is {value!r}, which is not in {space}", "Return a member of the space"
        )


def _box_findings(space: spaces.Box, value: Any, where: str) -> Iterator[Finding]:
    if not isinstance(value, np.ndarray):
        yield error(
            "observation-type",
            f"{where} is {_describe(value)}, not an array",
            f"Return np.array(..., dtype=np.{space.dtype})",
        )
        return
    if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
        bad = np.flatnonzero(~np.isfinite(value.reshape(-1)))[:5].tolist()
        yield error(
            "observation-nan",
            f"{where} has NaN or infinity at component(s) {bad}",
            "Find the division, root or simulation that blows up; end the episode before it does",
        )
        return
    if value.shape != space.shape:
        yield error(
            "observation-shape",
            f"{where} has shape {value.shape}, its space {space.shape}",
            "Make the two agree",
        )
        return
    if value.dtype != space.dtype:
        yield error(
            "observation-dtype",
            f"{where} is {value.dtype}, its space {space.dtype}",
            f"Return observation.astype(np.{space.dtype}), or declare the space with dtype=np.{value.dtype}",
        )
        if value.dtype.kind not in "fiub":
            return
    outside = np.flatnonzero(((value < space.low) | (value > space.high)).reshape(-1))
    if len(outside):
        first = int(outside[0])
        low, high = space.low.reshape(-1)[first], space.high.reshape(-1)[first]
        yield error(
            "observation-outside",
            f"{where} leaves its space: component {first} is {value.reshape(-1)[first]:g}, bounds [{low:g}, {high:g}]",
            "Widen the bounds of observation_space (infinite ones are fine) or clip what is returned",
        )


def reset_findings(result: Any) -> Iterator[Finding]:
    """Look at the form of what ``reset`` returned."""
    if not (isinstance(result, tuple) and len(result) == 2):
        yield error(
            "reset-no-info",
            f"reset() returned {_describe(result)}, not (observation, info)",
            "End reset() with `return observation, {}`",
        )
    elif not isinstance(result[1], dict):
        yield error("info-type", f"info from reset() is {_describe(result[1])}", "Return a dictionary, {} if empty")


def step_findings(result: Any) -> Iterator[Finding]:
    """Look at the form of what ``step`` returned."""
    if isinstance(result, tuple) and len(result) == 4:
        yield error(
            "step-four-values",
            "step() returned 4 values (observation, reward, done, info), the form before 2022",
            "Split done: `return observation, reward, terminated, truncated, info`, where terminated means that the "
            "task ended (no value after it) and truncated that time ran out",
        )
        return
    if not (isinstance(result, tuple) and len(result) == 5):
        yield error(
            "step-form",
            f"step() returned {_describe(result)}",
            "Return the five values observation, reward, terminated, truncated, info",
        )
        return
    _, reward, terminated, truncated, info = result
    if isinstance(reward, bool | np.bool_) or not isinstance(reward, int | float | np.integer | np.floating):
        yield error("reward-type", f"the reward is {_describe(reward)}", "Return float(reward)")
    elif not np.isfinite(reward):
        yield error("reward-nan", f"the reward is {reward}", "Find the division or root that blows up")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            yield error(f"{name}-type", f"{name} is {_describe(flag)}", f"Return bool({name})")
    if not isinstance(info, dict):
        yield error("info-type", f"info from step() is {_describe(info)}", "Return a dictionary, {} if empty")


def shares_memory(first: Any, second: Any) -> bool:
    """Whether two observations, which may be trees, have an array in common."""
    if isinstance(first, dict) and isinstance(second, dict):
        return any(shares_memory(first[name], second[name]) for name in first.keys() & second.keys())
    if isinstance(first, tuple) and isinstance(second, tuple):
        return any(shares_memory(*pair) for pair in zip(first, second, strict=False))
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.shares_memory(first, second)
    return False


def equal(first: Any, second: Any) -> bool:
    """Whether two values, which may be trees, are the same to the last bit; NaN equals NaN."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(equal(first[name], second[name]) for name in first)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(equal(*pair) for pair in zip(first, second, strict=True))
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        numbers = np.asarray(first).dtype.kind in "fc"
        return np.array_equal(np.asarray(first), np.asarray(second), equal_nan=numbers)
    return bool(first == second) or (first != first and second != second)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    text = repr(value)
    return f"a {type(value).__name__}" + (f" ({text})" if len(text) <= 30 else "")
