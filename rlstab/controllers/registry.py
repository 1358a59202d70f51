"""The methods that `rlstab train` knows. Importing this module imports neither torch nor any method."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlstab.controllers.config import BaseConfig
from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    from gymnasium import spaces
    from gymnasium.vector import VectorEnv

    from rlstab.learning.learner import Learner

SpaceKind = Literal["continuous", "discrete", "multi-discrete", "multi-binary"]


@dataclass(frozen=True)
class MethodInfo:
    """One method: where its parts are, without importing them.

    ``package`` holds ``config.py`` with the dataclass ``config_name``, ``learner.py`` with
    ``make_learner(config, env=None)``, and ``presets.yaml``.
    """

    name: str
    summary: str
    package: str
    config_name: str
    actions: tuple[SpaceKind, ...]
    observations: tuple[SpaceKind, ...]
    """What its policies read; a Box counts as continuous whatever its numbers, images included."""
    zero_based: bool = False
    """Whether discrete actions must be numbered from zero."""
    native_only: bool = False
    """Whether it needs a native environment, on whose bodies it pushes."""

    def config_class(self) -> type[BaseConfig]:
        """Import the configuration dataclass (and nothing heavier)."""
        return getattr(importlib.import_module(f"{self.package}.config"), self.config_name)

    def presets(self) -> dict[str, dict[str, Any]]:
        """Read ``presets.yaml``: ``defaults``, then one entry an environment id or a preset's own name."""
        import yaml

        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise UserError(f"the package of method '{self.name}' is missing: {self.package}; reinstall rlstab")
        text = (Path(spec.origin).parent / "presets.yaml").read_text(encoding="utf-8")
        return {str(name): dict(values or {}) for name, values in (yaml.safe_load(text) or {}).items()}

    def make_learner(self, config: BaseConfig, env: VectorEnv | None = None) -> Learner:
        """Build the learner of a checked configuration, and its environment unless one is given."""
        return importlib.import_module(f"{self.package}.learner").make_learner(config, env)


WHOLE_NUMBERS_REMEDY = "declare them as Box(..., dtype=np.float32) and round them in step(), or as MultiDiscrete"


def kind_of(space: spaces.Space[Any]) -> SpaceKind | None:
    """Kind of a space; None for those that no method knows."""
    from gymnasium import spaces

    kinds: dict[type[Any], SpaceKind] = {
        spaces.Box: "continuous",
        spaces.Discrete: "discrete",
        spaces.MultiDiscrete: "multi-discrete",
        spaces.MultiBinary: "multi-binary",
    }
    return kinds.get(type(space))


def has_whole_numbers(space: spaces.Space[Any]) -> bool:
    """Whether a space is a Box of integers, in which no method can act: their actions are real numbers."""
    return kind_of(space) == "continuous" and getattr(space.dtype, "kind", "f") != "f"


def can_act(info: MethodInfo, space: spaces.Space[Any]) -> bool:
    """Whether a method can act in a space; `check_actions` says why not."""
    shifted = kind_of(space) == "discrete" and getattr(space, "start", 0) != 0
    return kind_of(space) in info.actions and not has_whole_numbers(space) and not (info.zero_based and shifted)


def check_observations(method: str, env_id: str, space: spaces.Space[Any]) -> None:
    """Refuse an observation space that a method's policies cannot read.

    Raises
    ------
    UserError
        The message names the methods that can, or what to do.
    """
    kind = kind_of(space)
    if kind in get(method).observations:
        return
    able = [other.name for other in for_any_environment() if kind in other.observations]
    remedy = f"train it with {' or '.join(able)}" if able else "flatten it with gymnasium.wrappers.FlattenObservation"
    raise UserError(f"{env_id} observes a {type(space).__name__}, which {method} does not read; {remedy}")


def check_actions(method: str, env_id: str, space: spaces.Space[Any]) -> None:
    """Refuse an action space that a method cannot act in.

    Raises
    ------
    UserError
        The message names the methods that can.
    """
    from gymnasium import spaces

    kind = kind_of(space)
    info = get(method)
    if has_whole_numbers(space):
        what = f"{method} acts in real numbers, but the actions of {env_id} are whole ones: {space}"
        raise UserError(f"{what}; {WHOLE_NUMBERS_REMEDY}")
    if info.zero_based and isinstance(space, spaces.Discrete) and space.start != 0:
        able = [other.name for other in for_any_environment() if kind in other.actions and not other.zero_based]
        raise UserError(
            f"{method} numbers its actions from 0, but those of {env_id} start at {space.start}; train it with "
            f"{' or '.join(able)}, or shift its actions with gymnasium.wrappers.TransformAction"
        )
    if kind in info.actions:
        return
    able = [other.name for other in for_any_environment() if kind in other.actions]
    remedy = f"train it with {' or '.join(able)}" if able else "wrap it so that its actions are a Box or Discrete"
    raise UserError(f"{method} needs {' or '.join(info.actions)} actions, but {env_id} has {space}; {remedy}")


@dataclass(frozen=True)
class Preset:
    """Settings found for an environment. ``name`` is the entry they came from, None where there was none."""

    name: str | None
    values: dict[str, Any]

    def apply(self, config: BaseConfig) -> BaseConfig:
        """Return ``config`` with the preset's values in place of its own."""
        return dataclasses.replace(config, **self.values)


_METHODS: dict[str, MethodInfo] = {}


def register(info: MethodInfo) -> None:
    """Make a method known under its name.

    Raises
    ------
    UserError
        The name is taken.
    """
    if info.name in _METHODS:
        raise UserError(f"a method named '{info.name}' is already registered; choose another name")
    _METHODS[info.name] = info


def methods() -> tuple[MethodInfo, ...]:
    """Every registered method, in order of registration."""
    return tuple(_METHODS.values())


def for_any_environment() -> tuple[MethodInfo, ...]:
    """Methods that train in other people's environments too."""
    return tuple(info for info in methods() if not info.native_only)


def get(name: str) -> MethodInfo:
    """Find a method by name.

    Raises
    ------
    UserError
        There is none; the message names the nearest.
    """
    if name not in _METHODS:
        hint = suggest(name, _METHODS) or f"; the methods are {', '.join(_METHODS)}"
        raise UserError(f"unknown method '{name}'{hint}")
    return _METHODS[name]


def load_preset(method: str, env_id: str, name: str | None = None) -> Preset:
    """Find the settings a method recommends for an environment.

    Parameters
    ----------
    method
        A registered method.
    env_id
        Environment id; the prefix ``rlstab/`` makes no difference.
    name
        A preset by its own name, such as ``quickstart``, instead of the environment's. ``none`` gives the method's
        plain defaults.

    Returns
    -------
    Preset
        The method's ``defaults`` overridden by the entry. A named preset may hold ``env`` too.

    Raises
    ------
    UserError
        No preset has that name, or the file names a field that the configuration lacks.
    """
    info = get(method)
    if name == "none":
        return Preset(None, {})
    table = info.presets()
    key = name if name is not None else env_id.removeprefix("rlstab/")
    if name is not None and name not in table:
        raise UserError(f"'{method}' has no preset '{name}'{suggest(name, table)}; it has {', '.join(table)}, and none")
    values = table.get("defaults", {}) | (table.get(key, {}) if key != "defaults" else {})
    # YAML has no tuples, and a frozen configuration should not hold a list.
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    unknown = set(values) - {entry.name for entry in dataclasses.fields(info.config_class())}
    if unknown:
        raise UserError(f"presets.yaml of '{method}' sets what {info.config_name} lacks: {', '.join(sorted(unknown))}")
    return Preset(key if key in table else None, values)


register(
    MethodInfo(
        name="ppo",
        summary="Proximal policy optimisation, on-policy; the default choice for fast simulators",
        package="rlstab.controllers.baselines.ppo",
        config_name="PPOConfig",
        actions=("continuous", "discrete", "multi-discrete", "multi-binary"),
        observations=("continuous", "discrete"),
    )
)
register(
    MethodInfo(
        name="sac",
        summary="Soft actor-critic, off-policy, maximum entropy; few environment steps, many updates",
        package="rlstab.controllers.baselines.sac",
        config_name="SACConfig",
        actions=("continuous",),
        observations=("continuous", "discrete", "multi-discrete", "multi-binary"),
    )
)
register(
    MethodInfo(
        name="td3",
        summary="Twin delayed deterministic policy gradient, off-policy",
        package="rlstab.controllers.baselines.td3",
        config_name="TD3Config",
        actions=("continuous",),
        observations=("continuous", "discrete", "multi-discrete", "multi-binary"),
    )
)
register(
    MethodInfo(
        name="dqn",
        summary="Deep Q-network, off-policy, for discrete actions",
        package="rlstab.controllers.baselines.dqn",
        config_name="DQNConfig",
        actions=("discrete",),
        observations=("continuous", "discrete", "multi-discrete", "multi-binary"),
        zero_based=True,
    )
)
register(
    MethodInfo(
        name="transformer_ppo",
        summary="PPO with a transformer that remembers the newest steps; for tasks that need a memory",
        package="rlstab.controllers.transformer_ppo",
        config_name="TransformerPPOConfig",
        actions=("continuous", "discrete", "multi-discrete", "multi-binary"),
        observations=("continuous", "discrete"),
    )
)
register(
    MethodInfo(
        name="hinf",
        summary="PPO against a learned disturber under an H-infinity constraint; for controllers that hold when pushed",
        package="rlstab.controllers.hinf",
        config_name="HInfConfig",
        actions=("continuous",),
        observations=("continuous",),
        native_only=True,
    )
)
register(
    MethodInfo(
        name="rarl",
        summary="PPO against a learned disturber that earns the cost alone, without a constraint (RARL-like)",
        package="rlstab.controllers.rarl",
        config_name="RARLConfig",
        actions=("continuous",),
        observations=("continuous",),
        native_only=True,
    )
)
register(
    MethodInfo(
        name="random_force",
        summary="PPO under forces of random direction that last; the baseline of learned disturbers",
        package="rlstab.controllers.random_force",
        config_name="RandomForceConfig",
        actions=("continuous",),
        observations=("continuous",),
        native_only=True,
    )
)
register(
    MethodInfo(
        name="sa_ppo",
        summary="PPO that answers nearby observations alike; for controllers that hold when sensors err",
        package="rlstab.controllers.sa_ppo",
        config_name="SAPPOConfig",
        actions=("continuous", "discrete", "multi-discrete", "multi-binary"),
        observations=("continuous",),
    )
)
register(
    MethodInfo(
        name="lyapunov",
        summary="Controller and Lyapunov function for a plant's equations; for regions that `rlstab certify` proves",
        package="rlstab.controllers.lyapunov",
        config_name="LyapunovConfig",
        actions=("continuous",),
        observations=("continuous",),
        native_only=True,
    )
)
register(
    MethodInfo(
        name="roa",
        summary="Lyapunov functions for the modes of a hybrid system, and a planner over their regions of attraction",
        package="rlstab.controllers.roa",
        config_name="RoaConfig",
        actions=("continuous",),
        observations=("continuous",),
        native_only=True,
    )
)
