"""How much memory a transformer will take at least, told from its configuration before any of it is taken."""

from __future__ import annotations

from pathlib import Path

import torch

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.module_checks import head_dimension
from rlstab.policies.transformer.config import TransformerConfig

_BYTES = 4
"""Of a number: everything is in single precision."""
_GIB = 2**30


def num_weights(config: TransformerConfig) -> int:
    """Count the parameters of one `Transformer`; those of sigma-reparametrisation, one a matrix, are left out."""
    width, dim = config.width, config.width // config.num_heads
    kv_width = (config.kv_heads or config.num_heads) * dim
    attention = 2 * width * width + 2 * width * kv_width + (4 * dim if config.qk_norm else 0)
    if config.attention == "sigmoid" and config.score_bias == "head":
        attention += config.num_heads
    hidden = config.mlp_ratio * width
    perceptron = 2 * width * hidden + hidden + width
    norms = 2 * width * (3 if config.output_norm else 2)
    join = 0 if config.layer_scale is None else width
    if config.residual == "gru":
        join += 6 * width * width + width
    return config.num_layers * (attention + perceptron + norms + 2 * join) + 2 * width


def check_weights(config: TransformerConfig, device: torch.device, copies: int = 1) -> None:
    """Refuse a transformer whose weights do not fit into the memory that is free.

    Parameters
    ----------
    config
        Its shape.
    device
        Where it is to be.
    copies
        How many numbers each weight needs: four while training, with a gradient and the optimiser's two averages.

    Raises
    ------
    UserError
        Sizes that do not go together, or are too large.
    """
    head_dimension(config.width, config.num_heads, config.kv_heads, None, config.positions)
    number, sizes = _transformers(config) * num_weights(config), f"width {config.width}, num_layers {config.num_layers}"
    _refuse_beyond(
        copies * _BYTES * number,
        device,
        f"the {number:,} weights of {sizes} and mlp_ratio {config.mlp_ratio}",
        "choose a smaller width or fewer num_layers",
    )


def check_window(config: TransformerConfig, device: torch.device, num_envs: int) -> None:
    """Refuse a window whose keys, values and tokens do not fit into the memory that is free.

    Parameters
    ----------
    config
        Shape of the transformer.
    device
        Where it is to be.
    num_envs
        Worlds that act, each with a window in every layer.

    Raises
    ------
    UserError
        It is too large.
    """
    dim = config.width // config.num_heads
    kv_width = (config.kv_heads or config.num_heads) * dim
    caches = 2 * config.num_layers * config.window * kv_width
    tokens = config.num_layers * (config.window - 1) * config.width
    _refuse_beyond(
        _BYTES * num_envs * _transformers(config) * (caches + tokens),
        device,
        f"the steps of window {config.window}, num_layers {config.num_layers} and {num_envs} worlds",
        "choose a smaller window, fewer num_layers or fewer num_envs",
    )


def _transformers(config: TransformerConfig) -> int:
    return 2 if config.separate_critic else 1


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device, ``None`` where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [_field(Path("/proc/meminfo"), "MemAvailable:")]
    # A container may have less than its machine.
    group = Path("/sys/fs/cgroup")
    most, used = (_number(group / name) for name in ("memory.max", "memory.current"))
    if most is not None and used is not None:
        # What only caches files is given back.
        limits.append(most - used + (_field(group / "memory.stat", "inactive_file", 1) or 0))
    return min((limit for limit in limits if limit is not None), default=None)


def _refuse_beyond(needed: int, device: torch.device, what: str, advice: str) -> None:
    free = free_memory(device)
    if free is not None and needed > free:
        raise UserError(
            f"{what} take at least {needed / _GIB:,.1f} GiB of memory, {free / _GIB:,.1f} GiB are free: {advice}"
        )


def _field(path: Path, name: str, unit: int = 1024) -> int | None:
    """A number from a file of names and numbers; `unit` is that of the number, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.split()[:1] == [name])
    return next((unit * int(number) for number in found), None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # No limit is called "max".
        return None
