"""Train a controller and a Lyapunov function until the region that can be proved is large.

The loss is a hinge on the claim itself, at states that an adversary keeps looking for, on boxes that grow; where the
verifier finds a counterexample afterwards, it joins those states and training goes on (counterexample-guided
synthesis). Training is in float32, for speed; what is proved is about the float64 copy of its weights.

References
----------
Yang et al. (2024). Lyapunov-stable neural control for state and output feedback. ICML; arXiv:2404.07956, section 3.3.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.regions import Bracket, roa_bisection
from rlstab.analysis.certificates.lyapunov.verifier import Budget, Claim, verify
from rlstab.envs.plants import Plant
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LyapunovNetwork, NetworkFeedback, lqr

_TYPE = torch.float32


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long and how hard to train.

    Raises
    ------
    UserError
        A number is out of range.
    """

    iterations: int = 14_000
    """Of the optimiser in all, but for those of the start and of the rounds at the end."""
    start_iterations: int = 800
    """In which the networks are fitted to the LQR controller and its cost."""
    seconds: float = 600.0
    """Wall time after which stages are cut short; two runs agree only if neither meets it."""
    scales: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
    """Shares of the plant's box that are trained on, one after the other, equally long."""
    kappa: float = 1e-2
    """Decrease a step that is trained for: more than is to be proved."""
    boundary_factor: float = 2.0
    """Level of the set as a multiple of the least V on the boundary; above 1 the box cuts the set off."""
    growth: float = 1e-3
    """Weight of the wish that all states of the box were in the set."""
    control_weight: float = 100.0
    """R of the LQR controller it starts from."""
    controller_hidden: tuple[int, ...] = (8, 8, 8)
    lyapunov_hidden: tuple[int, ...] = (16, 16, 8)
    learning_rate: float = 1e-3
    batch: int = 1024
    """Of states from the buffer, and of uniform ones."""
    buffer: int = 40_000
    """States the adversary found, newest kept."""
    attack_every: int = 20
    """Iterations between attacks."""
    attack_starts: int = 2048
    attack_steps: int = 12
    attack_size: float = 0.03
    """Of a step, as a share of the box."""
    rounds: int = 4
    """Of verification and further training at the end, a tenth of the iterations each."""
    c1_share: float = 1e-2
    """Inner level that counterexamples are sought down to, as a share of the level."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            not self.seconds > 0.0
            or self.iterations < 1
            or not self.scales
            or not all(0.0 < scale <= 1.0 for scale in self.scales)
        ):
            raise UserError("iterations and seconds must be positive, and scales shares of the box between 0 and 1")
        if not 0.0 < self.kappa < 1.0 or not 0.0 < self.c1_share < 1.0 or not self.boundary_factor > 0.0:
            raise UserError("kappa and c1_share must be between 0 and 1, and boundary_factor positive")


class TrainedLoop(NamedTuple):
    """What training gives; nothing about it is proved yet."""

    controller: NetworkFeedback
    lyapunov: LyapunovNetwork
    rho: float
    """Level that was trained for."""
    iterations: int
    seconds: float
    losses: list[float]
    """Mean of each tenth of a stage."""


class _Trainer:
    """Networks, adversary and optimiser for one plant."""

    def __init__(self, plant: Plant, settings: TrainingSettings, targets: Tensor | None) -> None:
        torch.manual_seed(settings.seed)
        self.plant, self.settings, self.targets = plant, settings, None if targets is None else targets.float()
        size = plant.state_size
        self.controller = NetworkFeedback(size, plant.equilibrium_control, settings.controller_hidden).float()
        self.lyapunov = LyapunovNetwork(size, settings.lyapunov_hidden).float()
        self.low, self.high = (torch.tensor(limit, dtype=_TYPE) for limit in (plant.control_low, plant.control_high))
        self.box = torch.tensor(plant.box, dtype=_TYPE)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.parameters = [*self.controller.parameters(), *self.lyapunov.parameters()]
        self.buffer = torch.zeros(0, size, dtype=_TYPE)
        self.iterations = 0
        self.losses: list[float] = []

    def step(self, state: Tensor) -> Tensor:
        control = torch.clamp(self.controller(state), self.low, self.high)
        return torch.stack(tuple(self.plant.step(state.unbind(-1), control.unbind(-1))), -1)

    def uniform(self, count: int, half: Tensor) -> Tensor:
        return (2.0 * torch.rand(count, len(half), generator=self.generator, dtype=_TYPE) - 1.0) * half

    def boundary(self, count: int, half: Tensor) -> Tensor:
        """States on the faces of a box."""
        states = self.uniform(count, half)
        face = torch.randint(len(half), (count, 1), generator=self.generator)
        sign = 2.0 * torch.randint(2, (count, 1), generator=self.generator).to(_TYPE) - 1.0
        return states.scatter(1, face, sign * half.repeat(count, 1).gather(1, face))

    def level(self, half: Tensor) -> Tensor:
        return self.settings.boundary_factor * self.lyapunov(self.boundary(512, half)).amin()

    def violation(self, state: Tensor, rho: Tensor, half: Tensor) -> Tensor:
        """How far each state is from satisfying the claim, positive where it breaks it, ``(k,)``."""
        following = self.step(state)
        value, next_value = self.lyapunov(state), self.lyapunov(following)
        leaves = torch.relu(following.abs() - half).sum(-1) / half.mean() * rho.detach()
        rises = torch.relu(next_value - (1.0 - self.settings.kappa) * value)
        return torch.minimum(rho - value, rises + leaves)

    def imitate(self) -> None:
        """Start from the LQR controller and the root of its cost."""
        feedback, cost = lqr(self.plant, control_weight=self.settings.control_weight)
        feedback, cost = feedback.float(), cost.float()
        optimiser = torch.optim.Adam(self.parameters, 1e-2)
        for _ in range(self.settings.start_iterations):
            x = self.uniform(512, self.box)
            wanted = torch.clamp(feedback(x), self.low, self.high)
            loss = (self.controller(x) - wanted).square().mean()
            loss = loss + (self.lyapunov(x) - 3.0 * cost(x).sqrt()).square().mean() / 100.0
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def attack(self, half: Tensor) -> None:
        """Add states to the buffer from which signed gradients climb to violations."""
        settings = self.settings
        with torch.no_grad():
            rho = self.level(half)
        x = self.uniform(settings.attack_starts, half)
        for _ in range(settings.attack_steps):
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(self.violation(x, rho, half).sum(), x)
            x = x.detach() + settings.attack_size * half * gradient.sign()
            x = torch.minimum(torch.maximum(x, -half), half)
        self.remember(x)

    def remember(self, states: Tensor) -> None:
        self.buffer = torch.cat([self.buffer, states.detach().to(_TYPE)])[-self.settings.buffer :]

    def optimise(self, half: Tensor, iterations: int, until: float, learning_rate: float) -> None:
        """Train on a box, not longer than until a time of `time.perf_counter`."""
        settings = self.settings
        optimiser = torch.optim.Adam(self.parameters, learning_rate)
        total = 0.0
        for count in range(iterations):
            if time.perf_counter() > until:
                break
            if count % settings.attack_every == 0:
                self.attack(half)
            rows = torch.randint(len(self.buffer), (settings.batch,), generator=self.generator)
            fresh = self.uniform(settings.batch, half)
            states = torch.cat([self.buffer[rows], fresh])
            rho = self.level(half)
            loss = torch.relu(self.violation(states, rho, half)).mean()
            wanted = fresh if self.targets is None else self.targets * (half / self.box)
            outside = torch.relu(self.lyapunov(wanted) / rho - 1.0).mean()
            loss = loss + settings.growth * rho.detach() * outside
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 10.0)
            optimiser.step()
            total += float(loss.detach())
            self.iterations += 1
            if (count + 1) % max(1, iterations // 10) == 0:
                self.losses.append(total / max(1, iterations // 10))
                total = 0.0

    def result(self, half: Tensor, seconds: float) -> TrainedLoop:
        with torch.no_grad():
            rho = min(float(self.level(half)) for _ in range(20))
        return TrainedLoop(
            copy.deepcopy(self.controller).double(),
            copy.deepcopy(self.lyapunov).double(),
            rho,
            self.iterations,
            seconds,
            self.losses,
        )


def train_certified(
    plant: Plant,
    settings: TrainingSettings | None = None,
    *,
    targets: Tensor | None = None,
    progress: Callable[[str], None] | None = None,
) -> TrainedLoop:
    """Train controller and Lyapunov function for a plant.

    Parameters
    ----------
    plant
        The model.
    settings
        The default takes four minutes.
    targets
        ``(k, n)``: states that the set ought to hold; all of the box if not given.
    progress
        Is told what goes on, a line at a time.
    """
    settings = TrainingSettings() if settings is None else settings
    say = progress if progress is not None else _silent
    start = time.perf_counter()
    trainer = _Trainer(plant, settings, targets)
    trainer.imitate()
    each, until = -(-settings.iterations // len(settings.scales)), start + settings.seconds
    for scale in settings.scales:
        trainer.optimise(scale * trainer.box, each, until, settings.learning_rate)
        say(f"box {scale:g}: loss {trainer.losses[-1] if trainer.losses else float('nan'):.4g}")
    for index in range(settings.rounds):
        found = _counterexamples(trainer, settings)
        say(f"round {index + 1}: {len(found)} counterexamples")
        if not len(found) or time.perf_counter() > until:
            break
        trainer.remember(found.repeat(max(1, 4000 // len(found)), 1))
        trainer.optimise(trainer.box, max(1, settings.iterations // 10), until, 0.3 * settings.learning_rate)
    return trainer.result(trainer.box, time.perf_counter() - start)


def largest_level(
    plant: Plant,
    controller: nn.Module,
    lyapunov: nn.Module,
    rho: float,
    *,
    kappa: float = 1e-3,
    c1_share: float = 1e-2,
    seconds: float = 60.0,
) -> Bracket:
    """Largest level that is proved, between a tenth of ``rho`` and four times it.

    Parameters
    ----------
    rho
        Level that was trained for.
    kappa, c1_share
        Rate to be proved, and inner level as a share of ``rho``; both stay as they are while the level is sought.
    seconds
        For each proof.
    """
    loop = ClosedLoop(plant, controller, lyapunov)

    def proves(level: float) -> bool:
        return (
            verify(loop, Claim(rho=level, kappa=kappa, c1=c1_share * rho), Budget(seconds=seconds)).status == "proved"
        )

    return roa_bisection(proves, max(0.1, 2.0 * c1_share) * rho, 4.0 * rho, relative=5e-3)


def _counterexamples(trainer: _Trainer, settings: TrainingSettings) -> Tensor:
    """States that break the claim, one from each of a few levels, and their neighbours that break it too."""
    loop = ClosedLoop(trainer.plant, trainer.controller, trainer.lyapunov)
    with torch.no_grad():
        rho = float(trainer.level(trainer.box))
    found: list[Tensor] = []
    for share in (1.0, 0.3, 0.1, 0.03):
        if share <= settings.c1_share:
            continue
        claim = Claim(rho=share * rho, kappa=1e-3, c1=settings.c1_share * rho)
        example = verify(loop, claim, Budget(seconds=10.0)).counterexample
        if example is not None:
            near = torch.as_tensor(example.state, dtype=_TYPE) + trainer.uniform(200, 0.01 * trainer.box)
            found += [torch.as_tensor(example.state, dtype=_TYPE)[None], near]
    return torch.cat(found) if found else torch.zeros(0, len(trainer.box), dtype=_TYPE)


def _silent(line: str) -> None:
    del line
