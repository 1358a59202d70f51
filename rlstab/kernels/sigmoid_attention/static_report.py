# pyright: basic
"""What the compiler makes of each kernel that is shipped: registers, spills, shared memory, instructions. Needs no GPU.

``python -m rlstab.kernels.sigmoid_attention.static_report`` compiles every shipped configuration and fails if one
breaks a bound: a spilled register, a matrix product that misses the tensor cores, a second special-function operation a
score, more shared memory than a multiprocessor has.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import one_tile, tiled, tiled_backward, tiles
from rlstab.kernels.sigmoid_attention.tiles import BIAS_CONSTANT, BIAS_COUNT, Tiling

ARCHITECTURES = (80, 90, 100)
SHARED_MEMORY = {80: 166_912, 90: 232_448, 100: 232_448}
"""Bytes of shared memory that one block can use, by compute capability."""
REGISTERS = 65_536
"""Registers of a multiprocessor."""
TENSOR_CORE_ROWS = 64
"""Rows from which Hopper's group-wide products are used."""

WARPS_OF_A_GROUP = 4

_TYPES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
_KERNELS: dict[str, Any] = {
    "short forward": one_tile.forward_kernel,
    "short backward": one_tile.backward_kernel,
    "forward": tiled.forward_kernel,
    "query gradient": tiled_backward.query_gradient_kernel,
    "key gradient": tiled_backward.key_gradient_kernel,
}
_WITH_PART_GRADIENTS = ("short backward", "query gradient")
_FLOATS = ("scale", "constant", "grad_scale")
_INTEGER_POINTERS = ("row_start", "row_end", "kv_lens")
_FLOAT_POINTERS = ("bias", "slopes", "dbias_ptr", "dslopes_ptr")


@dataclass(frozen=True)
class Configuration:
    """One kernel as it is launched for some class of calls."""

    kernel: str
    head_dim: int
    dtype: torch.dtype
    masks: str
    """``plain``: causal with a constant bias; ``episodes``: also a window, episode starts and a bias by count."""
    tiling: Tiling
    mode: str

    def name(self) -> str:
        """What it is called in reports."""
        dtype = str(self.dtype).removeprefix("torch.")
        shape = f"{self.tiling.rows}x{self.tiling.keys}"
        return f"{self.kernel} d{self.head_dim} {dtype} {self.masks} {shape} {self.tiling.num_warps} warps {self.mode}"


@dataclass(frozen=True)
class Figures:
    """What the compiler made of a configuration."""

    name: str
    architecture: int
    registers: int
    stack: int
    """Bytes a thread; above zero, registers were spilled."""
    local_accesses: int
    """Loads and stores of spilled registers."""
    shared: int
    """Bytes a block."""
    warps: int
    exponentials: int
    reciprocals: int
    tangents: int
    scores_a_thread: int
    """Scores that one thread evaluates in all copies of the loop."""
    group_products: int
    warp_products: int
    async_copies: int
    instructions: int


def shipped(architecture: int) -> Iterator[Configuration]:
    """Every configuration that `tiles` can choose for the head dimensions that policies have."""
    for dtype, mode in ((torch.bfloat16, "newton"), (torch.float32, "exact")):
        for head_dim in (16, 32, 64, 128, 256):
            for length in (16, 32, 64, 128):
                if length > tiles.longest_one_tile(head_dim, dtype):
                    continue
                for kernel in ("short forward", "short backward"):
                    tiling = tiles.one_tile(length, length, head_dim, architecture)
                    yield Configuration(kernel, head_dim, dtype, "episodes", tiling, mode)
            for kernel, choose in (
                ("forward", tiles.forward_tiling),
                ("query gradient", tiles.query_gradient_tiling),
                ("key gradient", tiles.key_gradient_tiling),
            ):
                for masks in ("plain", "episodes"):
                    yield Configuration(kernel, head_dim, dtype, masks, choose(head_dim, dtype, architecture), mode)


def compile_one(configuration: Configuration, architecture: int) -> Figures:
    """Compile a configuration and read what came of it.

    Raises
    ------
    UserError
        The compiler refuses it, or its tools are missing.
    """
    kernel = _KERNELS[configuration.kernel]
    source = _source(kernel, configuration)
    options = {"num_warps": configuration.tiling.num_warps, "num_stages": configuration.tiling.num_stages}
    try:
        compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    except Exception as error:  # Compilers raise whatever their passes do.
        raise UserError(f"{configuration.name()} does not compile for sm_{architecture}: {error!r}") from error
    usage, assembly = _disassembled(compiled.asm["cubin"])
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise UserError(f"cuobjdump does not say what {configuration.name()} uses")

    def count(pattern: str) -> int:
        return len(re.findall(pattern, assembly))

    ptx = compiled.asm["ptx"]
    tiling = configuration.tiling
    copies = 1 if configuration.kernel.startswith("short") else 2 if configuration.masks == "plain" else 3
    return Figures(
        name=configuration.name(),
        architecture=architecture,
        registers=int(found[1]),
        stack=int(found[2]),
        local_accesses=count(r"\b(?:LDL|STL)\b"),
        shared=int(compiled.metadata.shared),
        warps=int(compiled.metadata.num_warps),
        exponentials=count(r"MUFU\.EX2"),
        reciprocals=count(r"MUFU\.RCP"),
        tangents=count(r"MUFU\.TANH"),
        scores_a_thread=copies * tiling.rows * tiling.keys // (32 * tiling.num_warps),
        group_products=len(re.findall(r"wgmma\.mma_async|tcgen05\.mma", ptx)),
        warp_products=len(re.findall(r"mma\.sync", ptx)),
        async_copies=len(re.findall(r"cp\.async", ptx)),
        instructions=count(r"/\*[0-9a-f]{4,}\*/"),
    )


def broken_bounds(figures: Figures, configuration: Configuration) -> list[str]:
    """Say which bounds a configuration breaks."""
    problems = []
    if figures.stack or figures.local_accesses:
        problems.append(f"spills registers ({figures.stack} bytes a thread)")
    if figures.shared > SHARED_MEMORY[figures.architecture]:
        problems.append(f"needs {figures.shared} bytes of shared memory")
    if figures.registers * 32 * figures.warps > REGISTERS:
        problems.append(f"needs {figures.registers} registers in {32 * figures.warps} threads")
    if configuration.dtype != torch.float32:
        if figures.architecture >= tiles.HOPPER and _wide(configuration) and not figures.group_products:
            problems.append("makes its products without the tensor cores' group instructions")
        if not figures.group_products and not figures.warp_products:
            problems.append("makes its products without tensor cores")
    special = figures.exponentials + figures.tangents
    if configuration.mode == "newton" and special > figures.scores_a_thread:
        problems.append(f"takes {special} special-function operations for {figures.scores_a_thread} scores")
    if configuration.mode == "newton" and figures.reciprocals:
        problems.append("divides by a special-function operation")
    return problems


def _wide(configuration: Configuration) -> bool:
    """Whether the rows of its largest product are enough for group-wide instructions."""
    tiling = configuration.tiling
    rows = tiling.keys if configuration.kernel in ("key gradient", "short backward") else tiling.rows
    return rows >= TENSOR_CORE_ROWS and tiling.num_warps >= WARPS_OF_A_GROUP


def _source(kernel: Any, configuration: Configuration) -> ASTSource:
    tiling, plain = configuration.tiling, configuration.masks == "plain"
    constants: dict[str, Any] = {
        "GROUP": 1,
        "DIM": configuration.head_dim,
        "VALUE_DIM": configuration.head_dim,
        "BLOCK_M": tiling.rows,
        "BLOCK_N": tiling.keys,
        "BLOCK_D": configuration.head_dim,
        "BLOCK_V": configuration.head_dim,
        "CAUSAL": True,
        "HAS_WINDOW": not plain,
        "HAS_START": not plain,
        "HAS_LENS": False,
        "BIAS": BIAS_CONSTANT if plain else BIAS_COUNT,
        "ALIBI": False,
        "MODE": configuration.mode,
        "PRECISION": "tf32x3" if configuration.dtype == torch.float32 else "ieee",
        "INTERPRET": False,
    }
    if configuration.kernel in _WITH_PART_GRADIENTS:
        constants |= {"BIAS_GRAD": False, "SLOPES_GRAD": False}
    signature, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        signature[name] = _type_of(name, constants, configuration.dtype)
        # Tensors and rows begin at multiples of 16 bytes, as allocators and layouts of heads make them.
        if signature[name].startswith("*") or name.startswith("stride"):
            attributes[(index,)] = [["tt.divisibility", 16]]
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)


def _type_of(name: str, constants: dict[str, Any], dtype: torch.dtype) -> str:
    if name in constants:
        return "constexpr"
    if name in _FLOAT_POINTERS:
        return "*fp32"
    if name in _INTEGER_POINTERS:
        return "*i32"
    if name.endswith("_ptr"):
        return _TYPES[dtype]
    return "fp32" if name in _FLOATS else "i32"


def _disassembled(binary: bytes) -> tuple[str, str]:
    """Resource usage and instructions of a compiled kernel, by the tool that comes with Triton."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        raise UserError(f"there is no {tool}: this Triton carries no disassembler")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        texts = [
            subprocess.run([str(tool), flag, file.name], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        ]
    return texts[0], texts[1]


def _judge(job: tuple[Configuration, int]) -> tuple[dict[str, Any], list[str]]:
    configuration, architecture = job
    try:
        figures = compile_one(configuration, architecture)
    except UserError as error:
        return {"name": configuration.name(), "architecture": architecture}, [str(error)]
    return dataclasses.asdict(figures), broken_bounds(figures, configuration)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile what is asked for, print a line a configuration, and say whether all bounds hold (exit status)."""
    parser = argparse.ArgumentParser(description="Compiles the shipped kernels without a GPU and holds them to bounds.")
    parser.add_argument("--architectures", type=int, nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--only", default="", help="only configurations whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    jobs = [
        (configuration, architecture)
        for architecture in given.architectures
        for configuration in shipped(architecture)
        if given.only in configuration.name()
    ]
    if not jobs:
        print(f"no shipped configuration is called {given.only!r}", file=sys.stderr)
        return 2
    rows, broken = [], 0
    with concurrent.futures.ProcessPoolExecutor(given.jobs) as pool:
        for (configuration, architecture), (figures, problems) in zip(jobs, pool.map(_judge, jobs), strict=True):
            rows.append({**figures, "broken": problems})
            broken += bool(problems)
            registers = figures.get("registers", "-")
            verdict = "; ".join(problems) or "ok"
            print(f"sm_{architecture} {configuration.name()}: {registers} registers, {verdict}", flush=True)
    print(f"{len(rows) - broken} passed, {broken} failed (triton {triton.__version__})")
    if given.json is not None:
        document = {"triton": triton.__version__, "configurations": rows}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
