"""What the configuration of every method has in common. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Fields every method has; a method's own configuration is a frozen dataclass that derives from this one.

    The docstring under a field is its help text. ``metadata`` holds what `rlstab.runs.config.validate` enforces
    (``min`` and ``max``, inclusive; ``above`` and ``below``, exclusive; ``infinite`` where infinity has a meaning), and
    ``unit`` and ``source`` for readers.
    """

    env: str = "Hopper-v5"
    """Environment: an id from `rlstab list envs`, or "module:Id" to import your own module first."""

    seed: int = field(default=0, metadata={"min": 0, "max": 2**31 - 1})
    """Seed of the networks, the exploration and the environments."""

    total_steps: int = field(default=1_000_000, metadata={"min": 1, "unit": "environment steps"})
    """Length of training, in environment steps summed over all worlds."""

    num_envs: int = field(default=1, metadata={"min": 1, "max": 65_536, "unit": "worlds"})
    """Worlds stepped together."""

    num_threads: int | None = field(default=None, metadata={"min": 1, "max": 1024})
    """CPU threads that step the worlds of a native environment. None: as many as there are CPUs."""

    worker_processes: bool = False
    """Give each world of a foreign environment a process of its own; pays where a step takes over a millisecond."""

    env_kwargs: dict[str, bool | int | float | str] = field(default_factory=dict, metadata={"infinite": True})
    """Constructor arguments of the environment, as pairs: --env-kwargs ctrl_cost_weight 0.01."""

    max_episode_steps: int | None = field(default=None, metadata={"min": 1, "unit": "environment steps"})
    """Time limit of an episode. None: the environment's own."""

    disturbances: str = ""
    """What the world does to the robot during training, for native environments: name=value or name=low:high, drawn
    anew for each episode, separated by commas. Names: mass, friction, gain, ... (scale factors), latency and
    observation_delay (control steps), noise (observation units), tilt (degrees)."""

    device: str = "cpu"
    """Torch device of the networks: cpu, cuda, cuda:N, or auto (a GPU if there is one)."""

    checkpoint_every: int = field(default=100_000, metadata={"min": 1, "unit": "environment steps"})
    """Environment steps between two checkpoints."""

    keep: int = field(default=3, metadata={"min": 1, "max": 1_000_000, "unit": "checkpoints"})
    """Checkpoints kept: the newest so many, and the best by training return."""
