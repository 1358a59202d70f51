"""What `rlstab certify` asks of whoever certifies a kind of policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlstab.analysis.certificates.certificate import Certificate
    from rlstab.analysis.result import Result
    from rlstab.runs.environment import EnvSettings


@dataclass(frozen=True)
class Request:
    """What is asked of a certifier."""

    seconds: float = 60.0
    """Wall time."""
    kappa: float = 1e-3
    """Decrease a step, relative, that is to be proved."""
    samples: int | None = None
    """States or trajectories to try instead of a proof; None: prove."""
    delta: float = 1e-3
    """Probability that what samples say is wrong."""
    seed: int = 1
    """Of the samples."""


class Certifier(ABC):
    """Certifies one policy on its environment.

    Parameters
    ----------
    policy
        Of the kind this is registered for, in `rlstab.controllers.certifiers`.
    settings
        Where it plays.

    Raises
    ------
    UserError
        The environment is not what the policy was made for.
    """

    @abstractmethod
    def __init__(self, policy: Any, settings: EnvSettings) -> None: ...

    @abstractmethod
    def certify(self, request: Request, say: Callable[[str], None]) -> Result:
        """Prove or test within the budget; the result has a ``status``, and a ``certificate`` or None.

        ``say`` is told what goes on, a line at a time.
        """

    @abstractmethod
    def rows(self, report: Any) -> Iterable[tuple[str, object]]:
        """What to print of a result, most important first."""

    @abstractmethod
    def draw(self, report: Any, path: Path) -> Path | None:
        """Draw a result; None where there is nothing to draw."""

    @abstractmethod
    def require(self, certificate: Certificate) -> None:
        """Refuse a certificate that is not about this policy on this environment.

        Raises
        ------
        UserError
            It is about something else, or was changed.
        """
