"""The native environments in gymnasium's own registry, as ``rlstab/<id>``."""

from __future__ import annotations

import gymnasium


def register() -> None:
    """Make `gymnasium.make` and `gymnasium.make_vec` know ``rlstab/<id>`` for every native environment.

    Importing `rlstab.envs` does this; ``gymnasium.make("rlstab.envs:rlstab/Hopper-v5")`` needs no import.
    """
    from rlstab.envs.gym_mujoco import TASKS

    for name in TASKS:
        env_id = f"rlstab/{name}"
        if env_id in gymnasium.registry:
            continue
        namesake = gymnasium.registry.get(name)
        gymnasium.register(
            id=env_id,
            entry_point="rlstab.envs.single:SingleEnv",
            vector_entry_point="rlstab.envs.single:make_batch",
            # Asking gymnasium spares importing the task.
            max_episode_steps=namesake.max_episode_steps if namesake else TASKS[name].max_episode_steps,
            kwargs={"task": name},
        )
