# pyright: basic
"""What the compiler makes of each kernel that is shipped: registers, spills, shared memory, instructions. Needs no GPU.

``python -m rlstab.kernels.sigmoid_attention.static_report`` compiles every shipped configuration and fails if one
breaks a bound: a spilled register, a matrix product that misses the tensor cores, more special-function operations a
score than the sigmoid needs, more shared memory than a multiprocessor has. Given a baseline, it also fails if a
configuration has become worse than it was with the same version of Triton.

Operations are counted in the loops of the machine code, not in the whole program: a compiler may take the first turn of
a loop out of it, which changes nothing in how often a score is evaluated.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

try:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
except ImportError:
    if __name__ == "__main__":
        sys.exit("the report compiles kernels with Triton, which is not installed here: pip install triton (Linux)")
    raise

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import static_baseline, tiles
from rlstab.kernels.sigmoid_attention.disassembly import disassembled, special_loops
from rlstab.kernels.sigmoid_attention.static_configurations import (
    ARCHITECTURES,
    DESKTOP,
    KERNELS,
    Configuration,
    constants_of,
    shipped,
)

REGISTERS = 65_536
"""Registers of a multiprocessor."""
SPILLED_BESIDE_LOOPS, REGISTERS_LEFT = 16, 128
"""Bytes a thread that a kernel may put aside in memory while it loops, if it uses no more registers than this.

Assemblers do that of their own accord, to let more programs run at a time: seen in float32 for 32 to 128 dimensions,
where 64 to 128 of 255 registers are used, and with Triton 3.6 for Blackwell in bfloat16 with 128; eight bytes, with
Triton 3.8 sixteen. It takes a few stores before the loops and loads after them. Everything else that spills is a broken
bound.
"""
INSTRUCTIONS_AN_ACCESS = 1000
"""Instructions of loops for which one access to what was put aside is allowed there, too.

Triton 3.6 makes two in 3070, of one kernel for Blackwell with every option in float32.
"""
BLACKWELL = 100
TENSOR_CORE_ROWS = 64
"""Rows from which Hopper's group-wide products are used."""

WARPS_OF_A_GROUP = 4
SPECIALISED_WARPS = 12
"""Of a warp-specialised program: a group that fetches and two that compute, each half of the rows."""

# An H100, a multiprocessor and clock.
TENSOR_OPERATIONS, SPECIAL_OPERATIONS, ISSUED_OPERATIONS = 4096, 16, 128
MULTIPROCESSORS, CLOCK_HZ = 132, 1.83e9

_TYPES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
_PRODUCTS = {"forward": 2, "specialised forward": 2, "query gradient": 3, "key gradient": 4, "fused gradients": 5}
_LOCAL = ("LDL", "STL")
_FLOATS = ("scale", "constant", "grad_scale")
_INTEGER_POINTERS = ("row_start", "row_end", "kv_lens")
_FLOAT_POINTERS = ("bias", "slopes", "part_ptr", "dq_sum_ptr", "dbias_ptr", "dslopes_ptr")


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
    local_in_loops: int
    shared: int
    """Bytes a block."""
    warps: int
    scores: int
    """Scores of a tile that one thread evaluates."""
    special_a_loop: list[int]
    """Special-function operations in one turn of each loop over tiles."""
    special_outside: int
    """Those outside of loops: all of a short window's, or a first turn that the compiler put before a loop."""
    reciprocals: int
    """Those of all that divide."""
    instructions_a_loop: list[int]
    group_products: int
    warp_products: int
    async_copies: int
    tile_copies: int
    """Those of whole tiles, by a single thread (TMA)."""
    tile_sums: int
    """Tiles that are added to memory in the same way."""
    instructions: int


def compile_one(configuration: Configuration, architecture: int) -> Figures:
    """Compile a configuration and read what came of it.

    Raises
    ------
    UserError
        The compiler refuses it, or its tools are missing.
    """
    kernel = KERNELS[configuration.kernel]
    source = _source(kernel, configuration)
    options = {"num_warps": configuration.tiling.num_warps, "num_stages": configuration.tiling.num_stages}
    try:
        compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    except Exception as error:  # Compilers raise whatever their passes do.
        raise UserError(f"{configuration.name()} does not compile for sm_{architecture}: {error!r}") from error
    usage, instructions = disassembled(compiled.asm["cubin"])
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise UserError(f"cuobjdump does not say what {configuration.name()} uses")

    def count(*operations: str) -> int:
        return sum(instruction.operation.startswith(operations) for instruction in instructions)

    ptx = compiled.asm["ptx"]
    tiling = configuration.tiling
    loops = special_loops(instructions)
    special = [sum(instruction.is_special for instruction in body) for body in loops]
    return Figures(
        name=configuration.name(),
        architecture=architecture,
        registers=int(found[1]),
        stack=int(found[2]),
        local_accesses=count(*_LOCAL),
        local_in_loops=sum(instruction.operation.startswith(_LOCAL) for body in loops for instruction in body),
        shared=int(compiled.metadata.shared),
        warps=int(compiled.metadata.num_warps),
        scores=tiling.rows * tiling.keys // (32 * _computing_warps(configuration)),
        special_a_loop=special,
        special_outside=count("MUFU") - sum(special),
        reciprocals=count("MUFU.RCP"),
        instructions_a_loop=[len(body) for body in loops],
        group_products=len(re.findall(r"wgmma\.mma_async|tcgen05\.mma", ptx)),
        warp_products=len(re.findall(r"mma\.sync", ptx)),
        async_copies=len(re.findall(r"cp\.async", ptx)),
        tile_copies=len(re.findall(r"cp\.async\.bulk\.tensor", ptx)),
        tile_sums=len(re.findall(r"cp\.reduce\.async\.bulk\.tensor", ptx)),
        instructions=len(instructions),
    )


def _computing_warps(configuration: Configuration) -> int:
    specialises = configuration.kernel.startswith("specialised")
    return SPECIALISED_WARPS - WARPS_OF_A_GROUP if specialises else configuration.tiling.num_warps


def broken_bounds(figures: Figures, configuration: Configuration) -> list[str]:
    """Say which bounds a configuration breaks."""
    problems = []
    if figures.stack > _allowed_spill(figures):
        problems.append(f"spills registers ({figures.stack} bytes a thread)")
    if figures.shared > tiles.SHARED_MEMORY[figures.architecture]:
        problems.append(f"needs {figures.shared} bytes of shared memory")
    if figures.registers * 32 * figures.warps > REGISTERS:
        problems.append(f"needs {figures.registers} registers in {32 * figures.warps} threads")
    problems += _broken_copies(figures, configuration)
    # The one row of a step is too few for matrix units, and all threads that share a sum compute its score.
    return (
        problems if configuration.kernel.startswith("decode") else problems + _broken_products(figures, configuration)
    )


def _broken_copies(figures: Figures, configuration: Configuration) -> list[str]:
    """Whether kernels that copy whole tiles do."""
    problems: list[str] = []
    specialised_warps, fused = configuration.kernel.startswith("specialised"), configuration.kernel.startswith("fused")
    if specialised_warps and figures.warps != SPECIALISED_WARPS:
        problems.append(f"runs {figures.warps} warps: they were not specialised, {SPECIALISED_WARPS} would be")
    if (specialised_warps or fused) and not figures.tile_copies:
        problems.append("fetches no whole tiles (TMA)")
    if fused and not figures.tile_sums:
        problems.append("adds no whole tiles to memory (TMA)")
    return problems


def _allowed_spill(figures: Figures) -> int:
    """Bytes a thread that may be put aside: by choice, and taken up again after the loops."""
    rare = figures.local_in_loops * INSTRUCTIONS_AN_ACCESS <= sum(figures.instructions_a_loop)
    beside = bool(figures.special_a_loop) and rare
    return SPILLED_BESIDE_LOOPS if beside and figures.registers <= REGISTERS_LEFT else 0


def _broken_products(figures: Figures, configuration: Configuration) -> list[str]:
    """Whether tensor cores make the products, and each loop no more than its special-function operations a score."""
    problems = []
    if configuration.dtype != torch.float32:
        if tiles.makes_group_products(figures.architecture) and _wide(configuration) and not figures.group_products:
            problems.append("makes its products without the tensor cores' group instructions")
        if not figures.group_products and not figures.warp_products:
            problems.append("makes its products without tensor cores")
    loops = _loops_over_scores(configuration)
    if len(figures.special_a_loop) != loops:
        problems.append(f"has {len(figures.special_a_loop)} loops over scores instead of {loops}")
    allowed = figures.scores * (2 if configuration.mode == "exact" else 1)
    worst = max(figures.special_a_loop, default=0)
    if worst > allowed:
        problems.append(f"takes {worst} special-function operations for {figures.scores} scores in a loop")
    # To overlap products with weights, Triton takes the first turn of a loop out of it from Blackwell on.
    peels = figures.architecture >= BLACKWELL and tiles.makes_group_products(figures.architecture)
    peeled = loops if peels else 0
    outside = allowed * (peeled if loops else 1)
    if figures.special_outside > outside:
        problems.append(f"takes {figures.special_outside} special-function operations outside of loops")
    if configuration.mode == "newton" and figures.reciprocals:
        problems.append("divides by a special-function operation")
    return problems


def _loops_over_scores(configuration: Configuration) -> int:
    """One for each kind of tile, or for each half of the rows; of a single tile one over heads, or none."""
    constants = constants_of(configuration)
    if configuration.kernel.startswith("short"):
        return int(configuration.kernel == "short backward" and constants["GROUP"] > 1)
    if configuration.kernel.startswith("fused"):
        return 1
    if configuration.kernel.startswith("specialised"):
        return 2
    begins, ends = constants["HAS_WINDOW"] or constants["HAS_START"], constants["CAUSAL"]
    if configuration.kernel == "key gradient":
        begins, ends = ends, begins
    return 1 + bool(begins) + bool(ends or constants["HAS_LENS"])


def bound_tflops(figures: Figures, configuration: Configuration) -> float | None:
    """No H100 runs the loop without masks faster, in floating-point operations that it makes, memory aside.

    The slowest of three pipes, were they to overlap perfectly: tensor cores, special functions, issue of instructions.
    None for what isn't bound by a loop, and for other GPUs.
    """
    if figures.architecture != tiles.HOPPER or configuration.dtype == torch.float32:
        return None
    if configuration.kernel not in _PRODUCTS or not figures.instructions_a_loop:
        return None
    operations = 2.0 * _PRODUCTS[configuration.kernel] * configuration.head_dim
    a_score = min(zip(figures.instructions_a_loop, figures.special_a_loop, strict=True))
    clocks = max(
        operations / TENSOR_OPERATIONS,
        a_score[1] / figures.scores / SPECIAL_OPERATIONS,
        a_score[0] / figures.scores / ISSUED_OPERATIONS,
    )
    return operations / clocks * MULTIPROCESSORS * CLOCK_HZ / 1e12


def _wide(configuration: Configuration) -> bool:
    """Whether the rows of its largest product are enough for group-wide instructions."""
    tiling = configuration.tiling
    rows = tiling.keys if configuration.kernel in ("key gradient", "fused gradients", "short backward") else tiling.rows
    return rows >= TENSOR_CORE_ROWS and tiling.num_warps >= WARPS_OF_A_GROUP


def _source(kernel: Any, configuration: Configuration) -> ASTSource:
    constants = constants_of(configuration)
    signature, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        dtype = configuration.dtype
        if configuration.kernel == "decode part" and name == "out_ptr":
            dtype = torch.float32  # Sums of parts are added before they are rounded.
        signature[name] = _type_of(name, constants, dtype)
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
    if name == "count_ptr":
        return "*i64"
    if name.endswith(("_ptr", "_cache")):
        return _TYPES[dtype]
    return "fp32" if name in _FLOATS else "i32"


def _judge(job: tuple[Configuration, int]) -> tuple[dict[str, Any], list[str]]:
    configuration, architecture = job
    try:
        figures = compile_one(configuration, architecture)
    except UserError as error:
        return {"name": configuration.name(), "architecture": architecture}, [str(error)]
    row = {**dataclasses.asdict(figures), "bound_tflops": bound_tflops(figures, configuration)}
    return row, broken_bounds(figures, configuration)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile what is asked for, print a line a configuration, and say whether all bounds hold (exit status)."""
    parser = argparse.ArgumentParser(description="Compiles the shipped kernels without a GPU and holds them to bounds.")
    every = (*ARCHITECTURES, *DESKTOP)
    parser.add_argument("--architectures", type=int, nargs="+", default=every, choices=every)
    parser.add_argument("--only", default="", help="only configurations whose line contains this")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--quiet", action="store_true", help="print what is broken and the last line only")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--baseline", type=Path, help="file of figures to be compared with")
    parser.add_argument("--write-baseline", action="store_true", help="put the figures into that file instead")
    given = parser.parse_args(arguments)
    if given.write_baseline and given.baseline is None:
        parser.error("--write-baseline needs --baseline FILE")
    jobs = [
        (configuration, architecture)
        for architecture in given.architectures
        for configuration in shipped(architecture)
        if given.only in f"sm_{architecture} {configuration.name()}"
    ]
    if not jobs:
        print(f"no shipped configuration is called {given.only!r}", file=sys.stderr)
        return 2
    baseline_file: Path | None = given.baseline
    baseline = None
    if baseline_file is not None and not given.write_baseline:
        try:
            baseline = static_baseline.read(baseline_file)
        except UserError as error:
            parser.error(str(error))
    rows, broken = [], 0
    with concurrent.futures.ProcessPoolExecutor(given.jobs) as pool:
        for (configuration, architecture), (figures, problems) in zip(jobs, pool.map(_judge, jobs), strict=True):
            if baseline is not None and "registers" in figures:
                problems += static_baseline.regressions(figures, baseline, triton.__version__)
            rows.append({**figures, "broken": problems})
            broken += bool(problems)
            if problems or not given.quiet:
                print(_line(configuration, architecture, figures, problems), flush=True)
    print(f"compiled kernels: {len(rows) - broken} hold their bounds, {broken} do not (triton {triton.__version__})")
    if baseline_file is not None and given.write_baseline:
        static_baseline.write(baseline_file, [row for row in rows if "registers" in row], triton.__version__)
    if given.json is not None:
        document = {"triton": triton.__version__, "configurations": rows}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if broken else 0


def _line(configuration: Configuration, architecture: int, figures: dict[str, Any], problems: list[str]) -> str:
    bound = figures.get("bound_tflops")
    told = f"{figures.get('registers', '-')} registers, " + ("" if bound is None else f"at most {bound:.0f} TFLOP/s, ")
    return f"sm_{architecture} {configuration.name()}: {told}{'; '.join(problems) or 'ok'}"


if __name__ == "__main__":
    sys.exit(main())
