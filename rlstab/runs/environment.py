"""The environment a run was trained in, and which of its settings hold in another one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from rlstab.runs.info import RunInfo

_PREFIX = "rlstab/"


@dataclass(frozen=True)
class EnvSettings:
    """An environment with what was set about it."""

    env_id: str | Callable[[], Any]
    """Its id, or a function that makes it."""
    max_episode_steps: int | None = None
    """Time limit in control steps; None: the environment's own."""
    env_kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    """Constructor arguments."""

    def __post_init__(self) -> None:
        # They may come from JSON, where `to_json` wrote infinity as a word.
        object.__setattr__(self, "env_kwargs", _with_infinities(self.env_kwargs))

    @classmethod
    def of_run(cls, info: RunInfo) -> EnvSettings:
        """Those a run was trained with."""
        config = info.config
        return cls(info.env_id, config.get("max_episode_steps"), dict(config.get("env_kwargs") or {}))

    def elsewhere(self, env_id: str | Callable[[], Any] | None) -> EnvSettings:
        """Settings to use in an environment.

        Parameters
        ----------
        env_id
            Where to go; None: stay.

        Returns
        -------
        EnvSettings
            The same ones where the environment is the same, whether native or not (``rlstab/Hopper-v5`` is
            ``Hopper-v5``, and so is ``Hopper`` as long as that is the latest version); another environment has its own
            time limit and knows nothing of the arguments.
        """
        if env_id is None:
            return self
        # The name as it was asked for: it may insist on the native environment.
        return replace(self, env_id=env_id) if self.is_in(env_id) else EnvSettings(env_id)

    def is_in(self, env_id: str | Callable[[], Any] | None) -> bool:
        """Whether an environment is this one; None is."""
        if env_id is None:
            return True
        if isinstance(env_id, str) and isinstance(self.env_id, str):
            asked, own = (latest_version(name.removeprefix(_PREFIX)) for name in (env_id, self.env_id))
            return asked == own
        return env_id == self.env_id


def has_version(env_id: str) -> bool:
    """Whether an id ends in a version, as in ``Hopper-v5``."""
    return re.search(r"-v\d+$", env_id) is not None


def latest_version(env_id: str) -> str:
    """Name the version that an id without one stands for: the latest that is registered, as in `gymnasium.make`.

    Ids that have a version, or are registered without one, or not at all, are given back.

    Examples
    --------
    >>> latest_version("Hopper"), latest_version("Hopper-v4"), latest_version("Nothing")
    ('Hopper-v5', 'Hopper-v4', 'Nothing')
    """
    if has_version(env_id):
        return env_id
    # Not at the top: an id with a version, as nearly all have, needs no registry to be looked up in.
    import gymnasium
    from gymnasium.envs.registration import find_highest_version, parse_env_id

    name = env_id.rpartition(":")[2]
    if name in gymnasium.registry:
        return env_id
    try:
        namespace, base, _ = parse_env_id(name)
    except gymnasium.error.Error:
        return env_id
    version = find_highest_version(namespace, base)
    return env_id if version is None else f"{env_id}-v{version}"


def _with_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_infinities(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        items = cast("list[Any] | tuple[Any, ...]", value)
        return type(items)(_with_infinities(item) for item in items)
    return float(value) if value in ("inf", "-inf") else value
