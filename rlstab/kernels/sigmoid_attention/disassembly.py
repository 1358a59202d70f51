# pyright: basic
"""Instructions of compiled kernels, and which of them are repeated. Needs no GPU."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import triton

from rlstab.errors import UserError

_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P[T\d]+)\s+)?([A-Z][\w.]*)([^;]*);")
# Some versions of the tool add when an instruction waits, and for what: "&req={1} ?WAIT15_END_GROUP".
_NOTES = re.compile(r"\s*[&?]\w.*", re.DOTALL)
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
_ENDS = ("EXIT", "RET", "BRX", "JMX", "BPT")


@dataclass(frozen=True)
class Instruction:
    """A machine instruction."""

    address: int
    predicated: bool
    operation: str
    """With its modifiers, such as ``MUFU.EX2``."""
    operands: str

    @property
    def is_special(self) -> bool:
        """Whether the special-function unit makes it."""
        return self.operation.startswith("MUFU")


def disassembled(binary: bytes) -> tuple[str, list[Instruction]]:
    """Resource usage and instructions of a compiled kernel, by the tool that comes with Triton.

    Raises
    ------
    UserError
        This Triton carries no disassembler.
    """
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        raise UserError(f"there is no {tool}: this Triton carries no disassembler")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage, assembly = (
            subprocess.run([str(tool), flag, file.name], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    return usage, instructions_of(assembly)


def instructions_of(assembly: str) -> list[Instruction]:
    """Read what ``cuobjdump -sass`` writes."""
    return [
        Instruction(int(address, 16), bool(predicate), operation, _NOTES.sub("", operands).strip())
        for address, predicate, operation, operands in _LINE.findall(assembly)
    ]


def special_loops(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    """Bodies of the innermost loops that make special-function operations.

    Loops that wait for memory have none; a loop that holds such a one is a loop around it.
    """
    blocks, successors = _blocks(instructions)
    bodies = _loops(set(range(len(blocks))), successors, [any(i.is_special for i in block) for block in blocks])
    return [[instruction for block in sorted(body) for instruction in blocks[block]] for body in bodies]


def _blocks(instructions: Sequence[Instruction]) -> tuple[list[list[Instruction]], list[set[int]]]:
    """Cut a program where it branches, or is branched to; say where each block goes on."""
    starts = {instructions[0].address}
    for at, instruction in enumerate(instructions[:-1]):
        target = _target(instruction)
        if target is not None or instruction.operation.split(".")[0] in _ENDS:
            starts.add(instructions[at + 1].address)
        if target is not None:
            starts.add(target)
    blocks: list[list[Instruction]] = []
    for instruction in instructions:
        if instruction.address in starts:
            blocks.append([])
        blocks[-1].append(instruction)
    number = {block[0].address: at for at, block in enumerate(blocks)}
    successors: list[set[int]] = []
    for at, block in enumerate(blocks):
        last, following = block[-1], {at + 1} if at + 1 < len(blocks) else set()
        target = _target(last)
        if target is not None:
            always = not last.predicated and re.fullmatch(r"0x[0-9a-f]+", last.operands) is not None
            following = {number[target]} if always else following | {number[target]}
        elif last.operation.split(".")[0] in _ENDS and not last.predicated:
            following = set()
        successors.append(following)
    return blocks, successors


def _target(instruction: Instruction) -> int | None:
    """Where a branch goes. Calls come back, so they aren't branches here."""
    if instruction.operation.split(".")[0] not in ("BRA", "JMP"):
        return None
    found = _TARGET.search(instruction.operands)
    return None if found is None else int(found[1], 16)


def _loops(blocks: set[int], successors: Sequence[set[int]], special: Sequence[bool]) -> list[set[int]]:
    reached = {block: successors[block] & blocks for block in blocks}
    changed = True
    while changed:
        changed = False
        for block in blocks:
            more = reached[block].union(*(reached[after] for after in reached[block]))
            if len(more) > len(reached[block]):
                reached[block], changed = more, True
    found: list[set[int]] = []
    left = {block for block in blocks if block in reached[block]}
    while left:
        component = {block for block in reached[min(left)] if min(left) in reached[block]}
        left -= component
        if any(special[block] for block in component):
            # A loop is entered at one block. What still goes round without it are the loops inside.
            entry = next(
                (
                    b
                    for b in sorted(component)
                    if any(b in successors[o] for o in range(len(successors)) if o not in component)
                ),
                min(component),
            )
            found += _loops(component - {entry}, successors, special) or [component]
    return found
