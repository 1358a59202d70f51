"""Who certifies which kind of policy. Importing this module imports none of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.analysis.certificates.certifier import Certifier
    from rlstab.runs.environment import EnvSettings

# Kind of policy (see `rlstab.policies.loading.KINDS`) -> its `Certifier`. A new one adds its line here.
CERTIFIERS = {
    "lyapunov": "rlstab.analysis.certificates.lyapunov.certifier:LyapunovCertifier",
    "roa": "rlstab.controllers.roa.certifier:RoaCertifier",
}


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
