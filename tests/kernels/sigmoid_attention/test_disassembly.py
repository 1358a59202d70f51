"""Loops in machine code, as cuobjdump writes it."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from rlstab.kernels.sigmoid_attention.disassembly import instructions_of, special_loops


def program(*lines: str) -> str:
    return "\n".join(f"        /*{16 * at:04x}*/   {line} ;      /* 0x000 */" for at, line in enumerate(lines))


def special_operations(*lines: str) -> list[int]:
    loops = special_loops(instructions_of(program(*lines)))
    return [sum(instruction.is_special for instruction in body) for body in loops]


def test_a_program_without_loops() -> None:
    assert special_operations("MUFU.EX2 R1, R2", "@P0 BRA 0x30", "MUFU.RCP R1, R1", "EXIT") == []


def test_only_what_is_repeated_is_in_a_loop() -> None:
    lines = ("MUFU.EX2 R1, R2", "@!P1 BRA 0x60", "MUFU.EX2 R1, R2", "MUFU.EX2 R1, R3", "FADD R1, R1, R1")
    assert special_operations(*lines, "@P0 BRA 0x20", "MUFU.RCP R1, R1", "EXIT") == [2]


def test_a_wait_inside_is_no_loop_of_its_own() -> None:
    # The second loop only waits; it may lie behind the end, and jump back.
    lines = ("MUFU.EX2 R1, R2", "@!P0 BRA 0x50", "FADD R1, R1, R1", "@P1 BRA 0x0", "EXIT")
    assert special_operations(*lines, "SYNCS R1", "@!P0 BRA 0x50", "BRA 0x20") == [1]


def test_an_exit_far_away_that_comes_back_makes_no_loop_of_what_is_before() -> None:
    lines = ("@!P0 BRA 0x40", "MUFU.EX2 R1, R2", "MUFU.EX2 R1, R3", "EXIT", "SYNCS R1", "@!P0 BRA 0x40")
    assert special_operations(*lines, "BRA 0x10") == []


def test_the_innermost_of_nested_loops_counts() -> None:
    lines = ("MUFU.LG2 R1, R2", "FADD R1, R1, R1", "MUFU.EX2 R1, R2", "@P0 BRA 0x10", "@P1 BRA 0x0", "EXIT")
    assert special_operations(*lines) == [1]
    assert special_operations(*lines[:4], "MUFU.EX2 R4, R4", "@P2 BRA 0x40", *lines[4:]) == [1, 1]


def test_a_call_comes_back() -> None:
    lines = (
        "MUFU.EX2 R1, R2",
        "CALL.REL.NOINC 0x40",
        "@P0 BRA 0x0",
        "EXIT",
        "MUFU.RCP R1, R2",
        "RET.REL.NODEC R20 0x0",
    )
    assert special_operations(*lines) == [1]


def test_notes_on_waiting_are_no_part_of_an_instruction() -> None:
    notes = "                   &req={1}         ?WAIT15_END_GROUP"
    lines = (f"MUFU.EX2 R1, R2{notes}", f"FADD R1, R1, R1{notes}", f"@P0 BRA 0x0{notes}", "EXIT ?trans5")
    assert special_operations(*lines) == [1]
    assert [instruction.operands for instruction in instructions_of(program(*lines))][1:3] == ["R1, R1, R1", "0x0"]
