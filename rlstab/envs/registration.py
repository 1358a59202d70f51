"""The native environments in gymnasium's own registry, as ``rlstab/<id>``."""

from __future__ import annotations

import gymnasium


def register() -> None:
    """Make `gymnasium.make` and `gymnasium.make_vec` know ``rlstab/<id>`` for every native environment.

    Importing `rlstab.envs` does this; ``gymnasium.make("rlstab.envs:rlstab/Hopper-v5")`` needs no import.
    """
    from rlstab.envs import memory
    from rlstab.envs.tasks import ALL_TASKS, TASKS, VARIANT_OF

    for name in ALL_TASKS:
        env_id = f"rlstab/{name}" if name in TASKS else name
        if env_id in gymnasium.registry:
            continue
        namesake = gymnasium.registry.get(VARIANT_OF.get(name, name))
        gymnasium.register(
            id=env_id,
            entry_point="rlstab.envs.single:SingleEnv",
            vector_entry_point="rlstab.envs.single:make_batch",
            # Asking gymnasium spares importing the task.
            max_episode_steps=namesake.max_episode_steps if namesake else ALL_TASKS[name].max_episode_steps,
            kwargs={"task": name},
        )
    for name in memory.TASKS:
        if name not in gymnasium.registry:
            # Episodes have an end of their own.
            gymnasium.register(
                id=name,
                entry_point="rlstab.envs.memory.single:MemoryEnv",
                vector_entry_point="rlstab.envs.memory.single:make_batch",
                kwargs={"task": name},
            )
    for name, size in memory.ROOMS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, "rlstab.envs.memory.minigrid:make_room", kwargs={"size": size})
