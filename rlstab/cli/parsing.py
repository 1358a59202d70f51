"""Typed command-line flags through tyro, with mistakes reported in one line like every other one."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from rlstab.errors import UserError
from rlstab.errors import command as command_line
from rlstab.runs.config import validate

Options = TypeVar("Options")


def parse(
    options: type[Options],
    argv: Sequence[str],
    command: str,
    default: Options | None = None,
    description: str | None = None,
) -> Options:
    """Read flags into a dataclass.

    Parameters
    ----------
    options
        Dataclass; the docstring under a field is its help.
    argv
        Arguments after the command's name.
    command
        What the user typed, such as ``train ppo``; for the usage line.
    default
        Values of the flags that are not given, where they differ from the dataclass's own.
    description
        Text at the top of the help; default: the dataclass's docstring.

    Raises
    ------
    UserError
        A flag is unknown, misses its value or has one of the wrong type or out of its range.
    SystemExit
        Help was asked for, and printed.
    """
    parsed = _parse(options, argv, command, default, description)
    _check(parsed)
    return parsed


def _parse(
    options: type[Options], argv: Sequence[str], command: str, default: Options | None, description: str | None
) -> Options:
    # Imported here: `rlstab --help` does not need it.
    import tyro

    extra: dict[str, Any] = {} if default is None else {"default": default}
    program = f"rlstab {command}"
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _whole_numbers():
            return tyro.cli(options, args=_spell_as_declared(argv), prog=program, description=description, **extra)
    except SystemExit as stop:
        if not stop.code:
            raise
        see_help = command_line(*command.split(), "--help")
        raise UserError(_one_line(complaint.getvalue(), program, see_help)) from None


def parse_parts(
    parts: Mapping[str, Any], argv: Sequence[str], command: str, description: str | None = None
) -> list[Any]:
    """Read flags into several dataclasses at once, without prefixes; their fields must have different names.

    Parameters
    ----------
    parts
        Title of a group of flags in the help -> dataclass, or an instance of one for other defaults.
    argv, command, description
        See `parse`.

    Returns
    -------
    list
        An instance for every part, in order.
    """
    from tyro.conf import OmitArgPrefixes

    fields: list[Any] = []
    for title, part in parts.items():
        default = part() if isinstance(part, type) else part
        marked: Any = OmitArgPrefixes[type(default)]
        fields.append((title, marked, dataclasses.field(default=default)))
    combined = dataclasses.make_dataclass("Flags", fields, frozen=True)
    parsed = _parse(combined, argv, command, None, description)
    filled = [getattr(parsed, title) for title in parts]
    for part in filled:
        _check(part)
    return filled


def _check(options: Any) -> None:
    """Check every value's range, as `rlstab.runs.config.validate`, which names fields; people typed flags."""
    try:
        validate(options)
    except UserError as error:
        place = rf"^{re.escape(type(options).__name__)}\.(\w+)"
        flagged = re.sub(place, lambda found: "--" + found[1].replace("_", "-"), str(error))
        raise UserError(flagged) from None


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Look up the value of ``--flag VALUE`` or ``--flag=VALUE`` before the real parsing; None where it is absent."""
    found = None
    for index, argument in enumerate(argv):
        if argument == flag and index + 1 < len(argv):
            found = argv[index + 1]
        elif argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
    return found


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether ``-h`` or ``--help`` is among the arguments."""
    return "-h" in argv or "--help" in argv


def _whole_numbers() -> Any:
    """Tyro with integers that may be written as people write large ones: 1e6, 1_000_000."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def _(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
        if type_info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda texts: whole_number(texts[0]),
            is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def whole_number(text: str) -> int:
    """Read ``"1000000"``, ``"1_000_000"`` or ``"1e6"``.

    Raises
    ------
    ValueError
        It is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        number = Decimal(text) if re.fullmatch(r"[+-]?\d+(\.\d*)?[eE]\+?\d{1,2}", text) else Decimal("nan")
        if not number.is_finite() or number != number.to_integral_value():
            raise ValueError(f"{text!r} is not a whole number") from None
        return int(number)


def _spell_as_declared(argv: Sequence[str]) -> list[str]:
    # Underscores and hyphens are the same in a flag's name (--total_steps), but not in its value.
    spelled = []
    for argument in argv:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            argument = name.replace("_", "-") + equals + value
        spelled.append(argument)
    return spelled


def _one_line(box: str, program: str, see_help: str) -> str:
    """Condense the box tyro draws around a complaint: its first section, and the flags it suggests."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    sections: list[list[str]] = [[]]
    for line in plain.splitlines():
        content = line.strip("│| ").rstrip()
        if set(content) <= set("─-╭╮╰╯ ") or line.startswith(("╭", "╰")):
            sections.append([])
        elif content:
            sections[-1].append(content)
    sections = [section for section in sections if section]
    if "╭" not in plain:
        # Where the terminal's encoding lacks box characters, the title is a section of its own.
        sections = sections[1:]
    if not sections:
        return f"the arguments of `{program}` are not understood; see {see_help}"
    message = " ".join(sections[0]).rstrip(".!")
    message = message[0].lower() + message[1:]
    near = [
        word
        for section in sections[1:]
        if section[0].lower().startswith("perhaps you meant")
        for word in re.findall(r"(?<!\S)--[\w-]+", " ".join(section))
    ]
    hint = f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    return f"{message}{hint or ';'} see {see_help}"
