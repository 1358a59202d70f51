"""What of the stability theorem's assumptions held along a drive, by the model's ``V`` and level."""

from __future__ import annotations

import numpy as np
import torch

from rlstab.controllers.roa.car.closed_loop import DECREASE, SLACK
from rlstab.controllers.roa.car.drive import Drive
from rlstab.controllers.roa.monitor import MonitorReport, StabilityMonitor
from rlstab.policies.roa.car import DOMAIN, STARTS, CarModel


@torch.no_grad()
def watch(model: CarModel, drive: Drive, decrease: float = DECREASE) -> MonitorReport:
    """Follow one drive with a `StabilityMonitor`.

    A mode that is entered outside `STARTS`, from where the level was not measured, counts as entered outside its level
    set: its level is taken as zero.

    Parameters
    ----------
    decrease
        Share of ``V`` that each step should take away.
    """
    monitor = StabilityMonitor(decrease, SLACK)
    for piece, reference in enumerate(drive.references):
        errors = drive.errors[drive.piece == piece]
        if not len(errors):
            continue
        mode = torch.tensor(reference[None, :2], dtype=torch.float32)
        x = torch.tensor(errors, dtype=torch.float32)
        values = model.value(x, mode.expand(len(x), -1)).tolist()
        inside = bool((np.abs(errors[0]) <= STARTS).all())
        monitor.enter(values[0], float(model.level(mode)) if inside else 0.0)
        for value, error in zip(values[1:], errors[1:], strict=True):
            monitor.step(value, in_domain=bool((np.abs(error) <= DOMAIN).all()))
    return monitor.finish()
