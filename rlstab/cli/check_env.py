"""`rlstab check-env ID`: what is wrong with a user's own environment, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from rlstab.cli.console import only_results_on_stdout, out, print_json
from rlstab.cli.parsing import parse

if TYPE_CHECKING:
    from rlstab.envs.check import Finding


@dataclass(frozen=True)
class CheckEnvOptions:
    """Check an environment as training would use it: spaces, seeding, types, NaN, ends of episodes, rendering.

    Says also which methods can be trained in it. Exit code 0 when nothing would spoil a training, else 1.
    """

    env: Positional[str]
    """Environment: an id, or "module:Id" to import your own module first."""

    json: bool = False
    """Print one JSON document instead of a list."""


def run(argv: list[str]) -> int:
    """Run the command; returns 0 when there is no error, else 1."""
    options = parse(CheckEnvOptions, argv, "check-env")
    from rlstab.controllers.trainable import able_methods, training_findings
    from rlstab.envs.check import check_env
    from rlstab.envs.gym_make import check_known, resolve_id

    methods: list[str] = []

    def look_at_spaces(observation_space: Any, action_space: Any) -> Iterable[Finding]:
        methods.extend(able_methods(observation_space, action_space))
        return training_findings(observation_space, action_space)

    with only_results_on_stdout(options.json):
        # A slip in the name is not a finding about anybody's environment.
        env_id = resolve_id(options.env)
        check_known(env_id)
        findings = check_env(env_id, look_at_spaces=look_at_spaces)
    methods = list(dict.fromkeys(methods))
    works = not any(finding.level == "error" for finding in findings)
    if options.json:
        print_json({"env": env_id, "ok": works, "methods": methods, "findings": findings})
    else:
        _print(env_id, findings, works, methods)
    return 0 if works else 1


def _print(env_id: str, findings: list[Finding], works: bool, methods: list[str]) -> None:
    from rich.text import Text

    console = out()
    styles = {"error": "bold red", "warning": "yellow"}
    for finding in findings:
        line = Text(f"{finding.level:<8}", style=styles.get(finding.level, "dim"))
        console.print(line.append(finding.what, style="none"))
        if finding.fix:
            console.print(Text(f"         {finding.fix}", style="cyan"))
    if not findings:
        console.print(f"{env_id}: nothing to complain about", style="green")
    elif works:
        console.print(f"{env_id} can be trained on; {len(findings)} remark(s) above", style="yellow")
    else:
        console.print(f"{env_id} would spoil a training: mend the errors above", style="bold red")
    if methods:
        console.print(f"methods that take its observations and actions: {', '.join(methods)}", markup=False)
