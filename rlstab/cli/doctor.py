"""`rlstab doctor`: what works in this installation, what does not, and the command that mends it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rlstab import __version__
from rlstab.cli.console import only_results_on_stdout, out, print_json
from rlstab.cli.parsing import parse
from rlstab.errors import UserError, first_line, pip_install
from rlstab.runs.provenance import usable_cores

Level = Literal["ok", "note", "problem"]

_MODULES = {"torch": "torch", "numpy": "numpy", "mujoco": "mujoco", "gymnasium": "gymnasium"} | {
    "stable-baselines3": "stable_baselines3",
    "onnxruntime": "onnxruntime",
    "safetensors": "safetensors",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LITTLE_DISK = 2 * 2**30


@dataclass(frozen=True)
class DoctorOptions:
    """Check this installation: packages, extras, rendering, GPU, threads, disk. Exit code 0 when the core works."""

    run_dir: Path = Path("runs")
    """Folder of runs whose disk is looked at."""

    json: bool = False
    """Print one JSON document instead of a table."""


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    level: Level
    detail: str
    fix: str = ""
    """Command that mends it; empty where nothing is wrong."""
    core: bool = False
    """Whether training needs it."""


def run(argv: list[str]) -> int:
    """Run the command; returns 0 when the core works, else 1."""
    options = parse(DoctorOptions, argv, "doctor")
    with only_results_on_stdout(options.json), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = [_python(), *_packages(), _stepping(), *_extras(), _rendering(), _gpu(), *_threads()]
        checks += [_disk(options.run_dir)]
    works = not any(check.core and check.level == "problem" for check in checks)
    if options.json:
        print_json({"version": __version__, "core_works": works, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks, works)
    return 0 if works else 1


def _print(checks: list[Check], works: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "note": ("-", "dim"), "problem": ("!!", "bold red")}
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for check in checks:
        mark, style = marks[check.level]
        detail = Text(check.detail)
        if check.fix:
            detail.append(f"\n{check.fix}", style="cyan")
        table.add_row(Text(mark, style=style), Text(check.name), detail)
    console = out()
    console.print(table)
    problems = [check for check in checks if check.level == "problem"]
    console.print()
    if works and not problems:
        console.print("everything that training needs works", style="green")
    elif works:
        console.print(f"the core works; {len(problems)} thing(s) above to mend", style="yellow")
    else:
        console.print("the core does not work; mend what is marked !! above", style="bold red")


def _python() -> Check:
    version = platform.python_version()
    where = Path(__file__).resolve().parents[1]
    detail = f"{version} on {platform.system()} {platform.machine()}; rlstab {__version__} in {where}"
    if sys.version_info[:2] in ((3, 11), (3, 12)):
        return Check("python", "ok", detail, core=True)
    return Check("python", "problem", detail, "use Python 3.11 or 3.12: python3.12 -m venv .venv", core=True)


def _install_command(extra: str = "") -> str:
    """The pip command for this kind of installation: a checkout is installed again from where it lies."""
    suffix = f"[{extra}]" if extra else ""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        return pip_install("-e", f"{root}{suffix}")
    return pip_install(f"rlstab{suffix}")


def _reinstall_command(package: str) -> str:
    """The pip command that brings a package again, in a version that fits."""
    pins = (str(entry.specifier) for entry in _requirements() if entry.name == package)
    # What it depends on may be gigabytes, and is looked at by itself.
    return pip_install("--force-reinstall", "--no-deps", f"{package}{next(pins, '')}")


def _requirements() -> list[Any]:
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("rlstab") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Requirement(line) for line in lines]


def _complaint(requirement: Any) -> str:
    """What is wrong with an installed requirement; empty where nothing is."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is outside {requirement.specifier}"
    return ""


def _packages() -> list[Check]:
    checks = []
    requirements = [entry for entry in _requirements() if entry.marker is None or entry.marker.evaluate({"extra": ""})]
    if not requirements:
        detail = "rlstab itself is not installed, so its requirements are unknown"
        checks.append(Check("packages", "problem", detail, _install_command()))
    else:
        complaints = [complaint for entry in requirements if (complaint := _complaint(entry))]
        detail = f"{len(requirements)} required packages are here in fitting versions"
        if complaints:
            checks.append(Check("packages", "problem", "; ".join(complaints), _install_command(), core=True))
        else:
            checks.append(Check("packages", "ok", detail, core=True))
    for name, module in _MODULES.items():
        checks.append(_import(name, module))
    return [*checks, _triton()]


def _triton() -> Check:
    # Not imported: without a GPU nothing here needs it.
    try:
        return Check("triton", "ok", f"{importlib.metadata.version('triton')}; attention on a GPU is compiled by it")
    except importlib.metadata.PackageNotFoundError:
        return Check("triton", "note", "not here; attention on a GPU is made of plain torch operations")


def _import(name: str, module: str) -> Check:
    try:
        importlib.import_module(module)
        return Check(name, "ok", importlib.metadata.version(name), core=True)
    except Exception as error:  # A broken binary raises anything.
        detail = f"cannot be imported: {type(error).__name__}: {first_line(error)}"
        return Check(name, "problem", detail, _reinstall_command(name), core=True)


def _stepping() -> Check:
    try:
        import numpy as np

        from rlstab.envs.registry import make_vec

        env = make_vec("InvertedPendulum-v5", num_envs=2, seed=0)
        env.reset()
        env.step(np.zeros((2, 1), np.float32))
        env.close()
    except Exception as error:
        return Check("physics", "problem", f"{type(error).__name__}: {error}", _install_command(), core=True)
    return Check("physics", "ok", "native batch of worlds made and stepped", core=True)


def _extras() -> list[Check]:
    by_extra: dict[str, list[Any]] = {}
    try:
        extras = importlib.metadata.metadata("rlstab").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    for entry in _requirements():
        for extra in extras:
            if entry.marker and entry.marker.evaluate({"extra": extra}) and not entry.marker.evaluate({"extra": ""}):
                by_extra.setdefault(extra, []).append(entry)
    checks = []
    for extra, entries in by_extra.items():
        complaints = [complaint for entry in entries if (complaint := _complaint(entry))]
        if not complaints:
            checks.append(Check(f"extra {extra}", "ok", ", ".join(entry.name for entry in entries)))
        elif len(complaints) == len(entries) and all(complaint.endswith("is missing") for complaint in complaints):
            checks.append(Check(f"extra {extra}", "note", "not installed", _install_command(extra)))
        else:
            checks.append(Check(f"extra {extra}", "note", "; ".join(complaints), _install_command(extra)))
    return checks


def _rendering() -> Check:
    try:
        from rlstab.envs.rendering import DEBIAN_PACKAGES, choose_backend
    except Exception as error:  # A broken binary raises anything.
        return Check("rendering", "problem", f"{type(error).__name__}: {error}", _install_command())
    try:
        backend = choose_backend()
    except Exception as error:
        detail = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        as_root = "" if os.geteuid() == 0 else "sudo "
        install = f"{as_root}apt-get install {DEBIAN_PACKAGES['egl']}"
        return Check("rendering", "problem", detail, "unset MUJOCO_GL" if os.environ.get("MUJOCO_GL") else install)
    return Check("rendering", "ok", f"off-screen through {backend}")


def _gpu() -> Check:
    try:
        import torch

        if not torch.cuda.is_available():
            return Check("gpu", "note", "none that torch can use; everything runs on the CPU")
        return Check("gpu", "ok", f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}; --device cuda uses it")
    except Exception as error:
        return Check("gpu", "note", f"cannot tell: {error}")


def _threads() -> list[Check]:
    cpus = usable_cores()
    checks = [Check("cpu", "ok", f"{cpus} of {os.cpu_count()} processors usable by this process")]
    for variable in _THREAD_VARIABLES:
        value = os.environ.get(variable, "")
        if value.isdigit() and int(value) > cpus:
            detail = f"{variable}={value} is more than the {cpus} usable processors: threads would fight for them"
            checks.append(Check("threads", "problem", detail, f"export {variable}=1"))
    if len(checks) == 1:
        values = " ".join(f"{variable}={os.environ.get(variable)}" for variable in _THREAD_VARIABLES)
        checks.append(Check("threads", "ok", values))
    return checks


def _disk(run_dir: Path) -> Check:
    folder = run_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB free for runs in {run_dir}"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "choose a folder of yours with --run-dir FOLDER"
        return Check("disk", "problem", f"cannot write to {folder}: {error.strerror}", fix)
    if free < _LITTLE_DISK:
        return Check("disk", "problem", f"only {detail}", "make room, or choose another folder with --run-dir")
    return Check("disk", "ok", detail)
