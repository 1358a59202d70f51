"""Which methods can be trained in an environment, and what to do where none can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rlstab.controllers.registry import WHOLE_NUMBERS_REMEDY, can_act, for_any_environment, has_whole_numbers, kind_of
from rlstab.envs.check_values import Finding, error

if TYPE_CHECKING:
    from gymnasium import spaces


def able_methods(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> list[str]:
    """Names of the methods that can read the observations and act in the actions of any environment."""
    seen = kind_of(observation_space)
    return [info.name for info in for_any_environment() if seen in info.observations and can_act(info, action_space)]


def training_findings(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Iterator[Finding]:
    """Say what keeps every method from being trained; nothing where there is one that can be."""
    if able_methods(observation_space, action_space):
        return
    acting = [info.name for info in for_any_environment() if can_act(info, action_space)]
    reading = [info.name for info in for_any_environment() if kind_of(observation_space) in info.observations]
    if has_whole_numbers(action_space):
        what = f"the actions are whole numbers, {action_space}, and all methods act in real ones"
        yield error("actions-whole", what, _sentence(WHOLE_NUMBERS_REMEDY))
    elif not acting:
        what = f"no method acts in {action_space}"
        yield error("actions-unknown", what, "Make the actions one Box, Discrete, MultiDiscrete or MultiBinary")
    if not reading:
        what = f"no method reads {type(observation_space).__name__} observations"
        fix = "Make them one Box: gymnasium.wrappers.FlattenObservation does that to a Dict or Tuple of numbers"
        yield error("observations-unknown", what, fix)
    if acting and reading:
        what = (
            f"no method has both: {' and '.join(acting)} can act in {action_space}, "
            f"but only {' and '.join(reading)} can read {observation_space}"
        )
        yield error("spaces-apart", what, "Make the observations one Box")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
