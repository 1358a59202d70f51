"""`rlstab certify RUN`: what can be proved of a trained controller, in words, numbers and a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from rlstab.cli.console import note, only_results_on_stdout, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.errors import UserError, command

if TYPE_CHECKING:
    from rlstab.analysis.certificates.certifier import Certifier
    from rlstab.cli.subjects import Subject

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class CertifyOptions:
    """Prove for a run's controller, as it is deployed, the largest set of states from which it holds.

    The certificate is kept in RUN/certificates and says what exactly is proved: for which plant and constants, weights
    and set. It is refused for anything else. The exit status is 0 if there is a certificate, 1 if there is none.
    """

    run: Positional[Path]
    """A run of a method whose policies come with a Lyapunov function: lyapunov (proofs) or roa (samples)."""

    budget: str = "60s"
    """Wall time of the proof: 60s, 2m, 1h."""

    kappa: float = field(default=1e-3, metadata={"above": 0.0, "below": 1.0})
    """Relative decrease of V a step that is to be proved. Smaller ones allow larger sets."""

    statistical: int | None = field(default=None, metadata={"min": 1})
    """Try so many sampled states instead of proving: for plants with too many states. It bounds the share of the set in
    which the claim fails, and is labelled so. Regions of attraction that `rlstab train roa` learned have nothing else;
    for them 10,000 are tried if nothing is said."""

    delta: float = field(default=1e-3, metadata={"above": 0.0, "below": 1.0})
    """With --statistical: probability that the bound is wrong."""

    seed: int = field(default=1, metadata={"min": 0})
    """With --statistical: of the samples."""

    checkpoint: str = "best"
    """Which checkpoint of the run: best (the newest where none has a return), last, or a step number."""

    check: Path | None = None
    """Prove nothing: only see whether this certificate, a .json file, is about this run's controller and plant."""

    json: bool = False
    """Print one JSON document instead of a table."""


def run(argv: list[str]) -> int:
    """Run the command; returns 0 if there is a certificate, else 1."""
    options = parse(CertifyOptions, argv, "certify")
    seconds = read_budget(options.budget)
    from rlstab.analysis.certificates.certifier import Request
    from rlstab.cli.subjects import load_subject
    from rlstab.controllers.certifiers import certifier_of
    from rlstab.runs.store import which_checkpoint

    with only_results_on_stdout(options.json):
        if options.run.suffix in (".onnx", ".zip"):
            raise UserError(f"{options.run} is not a run: certify the run that {options.run.name} came from")
        subject = load_subject(options.run, which_checkpoint(options.checkpoint))
        certifier = certifier_of(subject.policy, subject.settings)
        report: Any = None
        files: dict[str, Path] = {}
        if options.check is None:
            request = Request(seconds, options.kappa, options.statistical, options.delta, options.seed)
            note(f"certifying {subject.path}, checkpoint {subject.step}")
            report = certifier.certify(request, note)
            files = _keep(report, certifier, subject)
    if options.check is not None:
        return _check(options.check, certifier, subject, options.json)
    if options.json:
        print_json({"run": subject.path, "step": subject.step, **report.to_dict(), "files": files})
    else:
        rows = [*certifier.rows(report), *files.items()]
        # What samples say leaves a claim undecided; the grade tells more than that.
        found = report.certificate
        outcome = report.status if found is None or found.is_proof else found.grade
        print_table(f"{subject.path}, step {subject.step}: {outcome}", ("what", "value"), rows)
    return 0 if report.certificate is not None else 1


def read_budget(text: str) -> float:
    """Read a time: ``60``, ``60s``, ``1.5m`` or ``1h``, in seconds.

    Raises
    ------
    UserError
        It is not one.

    Examples
    --------
    >>> read_budget("2m")
    120.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", text.strip())
    if found is None:
        raise UserError(f"--budget is a time such as 60s, 2m or 1h, not '{text}'")
    return float(found[1]) * _UNITS[found[2]]


def _keep(report: Any, certifier: Certifier, subject: Subject) -> dict[str, Path]:
    """Write certificate and figure into the run's folder; what there is of them."""
    if subject.run is None:
        return {}
    files: dict[str, Path] = {}
    found = report.certificate
    stem = f"step{subject.step}-{'none' if found is None else found.grade}"
    folder = subject.run.folder("certificates")
    if found is not None:
        files["certificate"] = found.save(folder / f"{stem}.json")
    drawn = certifier.draw(report, folder / f"{stem}.png")
    if drawn is not None:
        files["figure"] = drawn
    return files


def _check(path: Path, certifier: Certifier, subject: Subject, as_json: bool) -> int:
    from rlstab.analysis.certificates.certificate import Certificate

    certificate = Certificate.load(path)
    certifier.require(certificate)
    if as_json:
        print_json({"run": subject.path, "step": subject.step, "certificate": path, "holds": True})
    else:
        rows = [("grade", certificate.grade), ("claim", certificate.statement), ("certificate", path)]
        print_table(f"{subject.path}, step {subject.step}: the certificate is about it", ("what", "value"), rows)
        note(f"to prove it again: {command('certify', subject.path)}")
    return 0
