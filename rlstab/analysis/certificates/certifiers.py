"""Who certifies which kind of policy: what `rlstab certify` asks, and the table it looks in."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.analysis.certificates.certificate import Certificate
    from rlstab.analysis.result import Result
    from rlstab.runs.environment import EnvSettings

# Kind of policy (see `rlstab.policies.loading.KINDS`) -> its `Certifier`. A new one adds its line here.
CERTIFIERS = {
    "lyapunov": "rlstab.analysis.certificates.lyapunov.certifier:LyapunovCertifier",
}


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
        Of the kind this is registered for.
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


def certifier_of(policy: Any, settings: EnvSettings) -> Certifier:
    """Find who certifies a policy.

    Raises
    ------
    UserError
        Nobody does; the message says what can be certified.
    """
    kind = getattr(policy, "kind", type(policy).__name__)
    if kind not in CERTIFIERS:
        raise UserError(
            f"a policy of kind '{kind}' has nothing to certify: it needs a Lyapunov function beside its controller, as "
            f"those of `rlstab train {' or '.join(CERTIFIERS)}` have; what makes others fail is shown by "
            "`rlstab robustness`"
        )
    module, _, name = CERTIFIERS[kind].partition(":")
    return getattr(importlib.import_module(module), name)(policy, settings)
