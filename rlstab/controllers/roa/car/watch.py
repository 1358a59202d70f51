"""What of the stability theorem's assumptions held along a drive, by the model's ``V`` and level."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rlstab.controllers.roa.car.closed_loop import DECREASE, SLACK, SPAN
from rlstab.controllers.roa.car.drive import Drive
from rlstab.controllers.roa.monitor import MonitorReport, StabilityMonitor
from rlstab.policies.roa.car import DOMAIN, STARTS, CarModel


@torch.no_grad()
def watch(model: CarModel, drive: Drive, decrease: float = DECREASE) -> MonitorReport:
    """Follow one drive with a `StabilityMonitor`, one of whose steps is a `SPAN` of control steps.

    A mode that is entered outside `STARTS`, from where the level was not measured, counts as entered outside its level
    set: its level is taken as zero.

    Parameters
    ----------
    decrease
        Share of ``V`` that each control step should take away, on average over a span. What is left of a mode after its
        last whole span is looked at for the domain alone.
    """
    monitor = StabilityMonitor(1.0 - (1.0 - decrease) ** SPAN, SLACK)
    for piece, reference in enumerate(drive.references):
        errors = drive.errors[drive.piece == piece]
        if not len(errors):
            continue
        mode = torch.tensor(reference[None, :2], dtype=torch.float32)
        x = torch.tensor(errors[::SPAN], dtype=torch.float32)
        values = model.value(x, mode.expand(len(x), -1)).tolist()
        level = float(model.level(mode)) if (np.abs(errors[0]) <= STARTS).all() else 0.0
        inside: NDArray[np.bool_] = np.all(np.abs(errors) <= DOMAIN, axis=1)
        monitor.enter(values[0], level)
        for index, value in enumerate(values[1:]):
            monitor.step(value, in_domain=bool(inside[index * SPAN : (index + 1) * SPAN + 1].all()))
        if not inside[(len(values) - 1) * SPAN :].all():
            monitor.step(values[-1], in_domain=False)
    return monitor.finish()
