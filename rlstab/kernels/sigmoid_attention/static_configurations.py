# pyright: basic
"""Configurations of the kernels that are shipped, and the constants that each is compiled for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from rlstab.kernels.sigmoid_attention import (
    decode_kernel,
    fused_backward,
    launch_decode,
    one_tile,
    specialised,
    tiled,
    tiled_backward,
    tiles,
)
from rlstab.kernels.sigmoid_attention.tiles import BIAS_CONSTANT, BIAS_COUNT, BIAS_HEAD, BIAS_ROW, Tiling

ARCHITECTURES = (80, 90, 100)
DESKTOP = (89, 120)
"""GPUs with little shared memory, that multiply as those of 80 do: only what takes most is compiled for them."""
KERNELS: dict[str, Any] = {
    "short forward": one_tile.forward_kernel,
    "short backward": one_tile.backward_kernel,
    "forward": tiled.forward_kernel,
    "specialised forward": specialised.forward_kernel,
    "query gradient": tiled_backward.query_gradient_kernel,
    "key gradient": tiled_backward.key_gradient_kernel,
    "fused gradients": fused_backward.gradient_kernel,
    "decode": decode_kernel.step_kernel,
    "decode part": decode_kernel.step_kernel,
    "decode sum": decode_kernel.sum_kernel,
}
_HEAD_DIMS = (16, 32, 64, 128, 256)
_ANY_LENGTH: dict[str, Callable[[int, torch.dtype, int, int], Tiling]] = {
    "forward": tiles.forward_tiling,
    "query gradient": tiles.query_gradient_tiling,
    "key gradient": tiles.key_gradient_tiling,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "grouped": {"GROUP": 4},
    "head bias": {"BIAS": BIAS_HEAD, "BIAS_GRAD": True},
    "alibi": {"ALIBI": True, "SLOPES_GRAD": True},
    "all": {
        "GROUP": 4,
        "ALIBI": True,
        "HAS_LENS": True,
        "BIAS": BIAS_ROW,
        "BIAS_GRAD": True,
        "SLOPES_GRAD": True,
    },
}
"""Of calls, beside their masks; a kernel takes from them what it has."""
_COMPILED_WITH: dict[str, tuple[str, ...]] = {
    "short forward": ("", "all"),
    "short backward": ("", "grouped", "head bias", "alibi", "all"),
    "forward": ("", "all"),
    "query gradient": ("", "head bias", "all"),
    "key gradient": ("", "grouped", "all"),
    "fused gradients": ("", "grouped", "all"),
    "specialised forward": ("", "grouped"),
    "decode": ("", "all"),
    "decode part": ("",),
}
"""Those that matter to each kernel: each that takes registers on its own, and all together."""
_DIMS_WITH_ALL = {torch.bfloat16: (32, 64, 128, 256), torch.float32: (32, 64, 128)}
_DIMS_WITH_ONE = {torch.bfloat16: (64, 128), torch.float32: (64,)}
"""Head dimensions that are compiled with all options together, and with one at a time."""
_DECODE_WINDOW = 128
_UNIT_STRIDES = ("stride_kcd", "stride_vcd", "stride_count")
"""Of a cache as it is made. Launching a kernel, Triton compiles it for a number that is one."""


@dataclass(frozen=True)
class Configuration:
    """One kernel as it is launched for some class of calls."""

    kernel: str
    head_dim: int
    dtype: torch.dtype
    masks: str
    """``dense``: none, with a constant bias; ``plain``: causal; ``window``: also a window; ``episodes``: also episode
    starts and a bias by count."""
    tiling: Tiling
    mode: str
    precision: str = "ieee"
    """Of products of float32."""
    options: str = ""
    """A name of ``_OPTIONS``."""
    others: tuple[tuple[str, Any], ...] = ()
    """Constants of the kernel that are other than what all this says."""

    def name(self) -> str:
        """What it is called in reports."""
        dtype = str(self.dtype).removeprefix("torch.")
        shape = f"{self.tiling.rows}x{self.tiling.keys}"
        name = f"{self.kernel} d{self.head_dim} {dtype} {self.masks} {shape} {self.tiling.num_warps} warps {self.mode}"
        return f"{name} {self.options}".rstrip()


def shipped(architecture: int) -> Iterator[Configuration]:
    """What `tiles` chooses for the head dimensions that policies have.

    Without options all of it; with options what takes most registers: the longest windows, and episodes for masks.
    """
    if architecture in DESKTOP:
        for head_dim in (128, 256):
            for options in ("", "all"):
                yield from _any_length(head_dim, torch.bfloat16, "newton", architecture, options)
        return
    for dtype, mode in ((torch.bfloat16, "newton"), (torch.float32, "exact"), (torch.float16, "newton")):
        if dtype == torch.float16:
            # Code for both half precisions differs in the type of products only.
            if architecture == tiles.HOPPER:
                yield from _of_dimension(64, dtype, mode, architecture, "")
            continue
        for head_dim in _HEAD_DIMS:
            for options in _OPTIONS:
                if not options or head_dim in (_DIMS_WITH_ALL if options == "all" else _DIMS_WITH_ONE)[dtype]:
                    yield from _of_dimension(head_dim, dtype, mode, architecture, options)
        tiling = Tiling(1, launch_decode._SUM_BLOCK, launch_decode._SUM_WARPS, num_stages=3)
        yield Configuration("decode sum", 16, dtype, "episodes", tiling, mode)


def _of_dimension(
    head_dim: int, dtype: torch.dtype, mode: str, architecture: int, options: str
) -> Iterator[Configuration]:
    yield from _short(head_dim, dtype, mode, architecture, options)
    yield from _any_length(head_dim, dtype, mode, architecture, options)
    if architecture == tiles.HOPPER and dtype != torch.float32 and head_dim in tiles.TILE_COPY_DIMS:
        yield from _copying(head_dim, dtype, mode, options)
    for kernel in ("decode", "decode part"):
        for group in (4,) if options or kernel == "decode part" else (1, 4):
            if options in _COMPILED_WITH[kernel]:
                yield Configuration(kernel, head_dim, dtype, "episodes", _decode_tiling(group), mode, options=options)


def _short(head_dim: int, dtype: torch.dtype, mode: str, architecture: int, options: str) -> Iterator[Configuration]:
    group = _OPTIONS[options].get("GROUP", 1)
    for kernel in ("short forward", "short backward"):
        backward = kernel == "short backward"
        longest = tiles.longest_one_tile(head_dim, dtype)
        if backward and group > 1:
            longest = min(longest, tiles.longest_of_group(head_dim, dtype, architecture))
        for length in (longest,) if options else (16, 32, 64, 128):
            if not 0 < length <= longest or options not in _COMPILED_WITH[kernel]:
                continue
            tiling = tiles.one_tile(length, length, head_dim, architecture)
            if backward:
                tiling = tiles.one_tile_gradients(length, length, head_dim, dtype, architecture, group)
            yield Configuration(kernel, head_dim, dtype, "episodes", tiling, mode, options=options)


def _any_length(
    head_dim: int, dtype: torch.dtype, mode: str, architecture: int, options: str
) -> Iterator[Configuration]:
    for kernel, choose in _ANY_LENGTH.items():
        if options in _COMPILED_WITH[kernel]:
            tiling = choose(head_dim, dtype, architecture, tiles.SHARED_MEMORY[architecture])
            # Without episodes there is a loop less: the same code otherwise.
            both = dtype != torch.float32 and not options and architecture not in DESKTOP
            for masks in ("plain", "episodes") if both else ("episodes",):
                yield Configuration(kernel, head_dim, dtype, masks, tiling, mode, options=options)


def _copying(head_dim: int, dtype: torch.dtype, mode: str, options: str) -> Iterator[Configuration]:
    """Of the kernels that copy whole tiles."""
    for kernel, tiling, without_episodes in (
        ("fused gradients", tiles.fused_tiling(head_dim), ("dense", "plain")),
        ("specialised forward", tiles.specialised_tiling(head_dim), ("dense", "plain", "window")),
    ):
        if options in _COMPILED_WITH[kernel]:
            last = "episodes" if kernel == "fused gradients" else "window"
            for masks in (last,) if options else dict.fromkeys((*without_episodes, last)):
                yield Configuration(kernel, head_dim, dtype, masks, tiling, mode, options=options)


def _decode_tiling(group: int) -> Tiling:
    # Its launch leaves the stages to Triton, which takes three.
    return Tiling(group, launch_decode._KEYS_A_TILE, launch_decode._NUM_WARPS, num_stages=3)


def constants_of(configuration: Configuration) -> dict[str, Any]:
    """What a configuration's kernel is compiled for, by name."""
    kernel, tiling, masks = KERNELS[configuration.kernel], configuration.tiling, configuration.masks
    constants: dict[str, Any] = {
        "GROUP": 1,
        "DIM": configuration.head_dim,
        "VALUE_DIM": configuration.head_dim,
        "BLOCK_M": tiling.rows,
        "BLOCK_N": tiling.keys,
        "BLOCK_D": configuration.head_dim,
        "BLOCK_V": configuration.head_dim,
        "CAUSAL": masks != "dense",
        "HAS_WINDOW": masks in ("window", "episodes"),
        "HAS_START": masks == "episodes",
        "HAS_LENS": False,
        "BIAS": BIAS_COUNT if masks == "episodes" else BIAS_CONSTANT,
        "ALIBI": False,
        "MODE": configuration.mode,
        "PRECISION": configuration.precision,
        "INTERPRET": False,
    }
    constants |= {"BIAS_GRAD": False, "SLOPES_GRAD": False} | _OPTIONS[configuration.options]
    if configuration.kernel.startswith("decode"):
        constants |= {"PARTS": configuration.kernel == "decode part", "BLOCK": tiling.keys}
        constants |= {"GROUP": tiling.rows, "BLOCK_G": tiling.rows, "WINDOW": _DECODE_WINDOW}
        constants |= dict.fromkeys(_UNIT_STRIDES, 1)
    constants |= dict(configuration.others)
    return {name: value for name, value in constants.items() if name in kernel.arg_names}
