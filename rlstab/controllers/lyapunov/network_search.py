"""Train two networks on the claim: fit them to the cost-to-go, then to states in which the claim fails.

References
----------
Yang et al. (2024). Lyapunov-stable neural control for state and output feedback. ICML; arXiv:2404.07956, section 3.3.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.level_search import gather_counterexamples
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.verifier import Claim, violations
from rlstab.controllers.lyapunov.adversary import Pair, attack, uniform
from rlstab.controllers.lyapunov.config import LyapunovConfig
from rlstab.controllers.lyapunov.optimal import CostToGo, optimal_cost, with_local
from rlstab.envs.plants import Plant
from rlstab.learning.torch_state import load_optimiser, optimiser_to_tree
from rlstab.policies.lyapunov import LyapunovNetwork, NetworkFeedback
from rlstab.policies.lyapunov_policy import CertifiableLoop
from rlstab.policies.tensors import arrays_to_state, state_to_arrays, to_array, to_tensor

PROVED_KAPPA = 1e-3
"""Decrease a step by which sets are measured: what `rlstab certify` proves unless told otherwise."""

_INNER = 0.02
"""Inner level of sweeps and attempts, as a share of the level."""
_ATTEMPT_BOXES = 6_000


class NetworkSearch:
    """State of a training of networks.

    Parameters
    ----------
    plant
        Of at most three states.
    config
        How to train.
    initial
        Whose weights are the first ones.
    """

    def __init__(self, plant: Plant, config: LyapunovConfig, initial: CertifiableLoop) -> None:
        size = plant.state_size
        controller = NetworkFeedback(size, plant.equilibrium_control, config.controller_hidden)
        lyapunov = LyapunovNetwork(size, config.lyapunov_hidden, output_size=config.lyapunov_outputs)
        controller.load_state_dict(initial.controller.state_dict())
        lyapunov.load_state_dict(initial.lyapunov.state_dict())
        self.config, self.steps = config, 0
        self.pair = Pair(plant, controller.float(), lyapunov.float(), 0.0, config.kappa, config.margin)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.optimiser = torch.optim.Adam(self.pair.parameters(), config.learning_rate)
        self.attacked, self.failed = torch.zeros(0, size), torch.zeros(0, size)
        self.cost: CostToGo | None = None
        self.best: dict[str, Any] | None = None
        self.best_score = -1.0

    @property
    def fit_steps(self) -> int:
        """Iterations of the first part."""
        return max(1, round(self.config.fit_share * self.config.total_steps))

    def advance(self, count: int) -> dict[str, float]:
        """Do ``count`` iterations and give what is to be logged."""
        if self.cost is None:
            self._start(optimal_cost(self.pair.plant, self.config.grid_cells, self.config.margin))
        total, metrics = 0.0, {"train/fitting": float(self.steps < self.fit_steps)}
        for _ in range(count):
            fitting = self.steps < self.fit_steps
            if self.steps == self.fit_steps:
                self.optimiser = torch.optim.Adam(self.pair.parameters(), self.config.learning_rate)
            self._set_rate(fitting)
            loss = self._fit_loss() if fitting else self._claim_loss()
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.pair.parameters(), 10.0)
            self.optimiser.step()
            total += float(loss.detach())
            self.steps += 1
            if self.steps >= self.fit_steps and (
                self.steps % self.config.sweep_every == 0 or self.steps >= self.config.total_steps
            ):
                metrics |= self._sweep()
            if self.steps > self.fit_steps and self.steps % self.config.prove_every == 0:
                self._attempt()
        return metrics | {"train/loss": total / count}

    def publish(self, target: CertifiableLoop) -> None:
        """Put the best networks so far, or the present ones, into a policy's module, in double precision."""
        found = self.best or self._networks()
        arrays_to_state(target.controller, found["controller"])
        arrays_to_state(target.lyapunov, found["lyapunov"])
        target.level.fill_(found["level"])

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iterations depend on."""
        return {
            "steps": self.steps,
            "networks": self._networks(),
            "optimiser": optimiser_to_tree(self.optimiser),
            "generator": self.generator.get_state().numpy().copy(),
            "attacked": to_array(self.attacked),
            "failed": to_array(self.failed),
            "cost": None if self.cost is None else to_array(self.cost.values),
            "best": self.best,
            "best_score": self.best_score,
        }

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.steps = int(tree["steps"])
        arrays_to_state(self.pair.controller, tree["networks"]["controller"])
        arrays_to_state(self.pair.lyapunov, tree["networks"]["lyapunov"])
        load_optimiser(self.optimiser, tree["optimiser"])
        self.generator.set_state(torch.as_tensor(tree["generator"]))
        self.attacked, self.failed = to_tensor(tree["attacked"]), to_tensor(tree["failed"])
        if tree["cost"] is not None:
            self._start(CostToGo(to_tensor(tree["cost"]), self.pair.half))
        self.best, self.best_score = tree["best"], float(tree["best_score"])

    def _start(self, cost: CostToGo) -> None:
        self.cost = with_local(self.pair.plant, cost)
        self.pair.level = cost.level(self.config.level)

    def _networks(self) -> dict[str, Any]:
        controller, lyapunov = state_to_arrays(self.pair.controller), state_to_arrays(self.pair.lyapunov)
        # A level above 0 says that there is something to certify.
        return {"controller": controller, "lyapunov": lyapunov, "level": self.pair.level if self.steps else 0.0}

    def _set_rate(self, fitting: bool) -> None:
        done = self.steps if fitting else self.steps - self.fit_steps
        length = self.fit_steps if fitting else max(1, self.config.total_steps - self.fit_steps)
        share = 0.05 + 0.475 * (1.0 + math.cos(math.pi * min(1.0, done / length)))
        for group in self.optimiser.param_groups:
            group["lr"] = share * self.config.learning_rate * (2.5 if fitting else 1.0)

    def _fit_loss(self) -> Tensor:
        """Squared error of V, absolute and relative, the cost ahead of the controller's steps, and LQR near 0."""
        assert self.cost is not None
        pair, most, level = self.pair, 1.3 * self.pair.level, self.pair.level
        state = uniform(2 * self.config.batch, pair.half, self.generator)
        cost = self.cost.at(state, most)
        value = pair.lyapunov(state)
        error = ((value - cost).square() / (cost + 0.02 * level)).mean() / level
        relative = self._relative(value, cost).mean()
        following = pair.step(state)
        ahead = (self.cost.at(following, most) + most * pair.outside(following)) / (cost + 1e-3 * level)
        loss = 10.0 * error + 0.3 * relative + (ahead * (cost < level)).mean()
        local = self.cost.local
        if local is not None:
            near = local.norm(state) < 1.5 * local.radius
            difference = (pair.controller(state) - local.feedback(state)).square().sum(-1)
            loss = loss + 10.0 * (difference * near).mean() / max(self.pair.plant.control_high) ** 2
        return loss

    def _claim_loss(self) -> Tensor:
        assert self.cost is not None
        config, pair, half = self.config, self.pair, self.pair.half
        if (self.steps - self.fit_steps) % config.attack_every == 0:
            found = attack(pair, 2 * config.batch, self.generator)
            self.attacked = torch.cat([self.attacked, found])[-config.buffer :]
        fresh = uniform(config.batch, half, self.generator)
        states = [fresh, self._drawn(self.attacked)]
        if len(self.failed):
            near = self._drawn(self.failed)
            noise = 1e-3 * half * torch.randn(near.shape, generator=self.generator)
            states.append(near + noise * torch.rand(len(near), 1, generator=self.generator))
        loss = pair.level * torch.stack([pair.violation(each).mean() for each in states]).mean()
        cost, value = self.cost.at(fresh), pair.lyapunov(fresh)
        reached = cost < pair.level
        missing = torch.relu(value / pair.level - 1.0) * reached
        loss = loss + config.growth * pair.level * missing.mean()
        return loss + config.anchor * (self._relative(value, cost) * reached).mean()

    def _relative(self, value: Tensor, cost: Tensor) -> Tensor:
        """Squared distance of values from costs, relative to them; outliers count no more than 4."""
        return ((value - cost) / (cost + 1e-3 * self.pair.level)).square().clamp(max=4.0)

    def _drawn(self, buffer: Tensor) -> Tensor:
        return buffer[torch.randint(len(buffer), (self.config.batch,), generator=self.generator)]

    def _loop(self) -> ClosedLoop:
        return ClosedLoop(self.pair.plant, self.pair.controller, self.pair.lyapunov, single_precision=True)

    def _sweep(self) -> dict[str, float]:
        """Measure the set on samples, keep the best networks, and remember what fails."""
        loop, level = self._loop(), self.pair.level
        states = loop.sample(self.config.sweep_samples, seed=7)
        claim = Claim(rho=level, kappa=PROVED_KAPPA, c1=_INNER * level)
        excess, value, _, _ = violations(loop, claim, states)
        broken = excess > -torch.inf
        reached = float(value[broken].min()) if bool(broken.any()) else level
        inside = float((value < reached).double().mean())
        if inside > self.best_score and self.steps > self.fit_steps:
            self.best_score, self.best = inside, self._networks() | {"level": reached}
        # What fails by the margin that is trained for, at levels where it limits the set most first.
        strict = Claim(rho=level, kappa=0.5 * (self.config.kappa + PROVED_KAPPA), c1=1e-3 * level)
        excess, value, _, _ = violations(loop, strict, states)
        failing = (excess > -torch.inf).nonzero().squeeze(1)
        lowest = failing[value[failing].argsort()[: self.config.batch]]
        self._remember(states[lowest])
        share = float(broken.double().sum() / (value <= level).double().sum().clamp(min=1.0))
        return {"train/area_share": inside, "train/level": reached, "train/failing_share": share}

    def _attempt(self) -> None:
        """Let the verifier look for what samples do not meet, near 0 above all."""
        loop, level = self._loop(), self.pair.level
        for share in (1.0, 0.1, 0.01):
            # A little stricter than what is to be proved; and boxes, not seconds, so that machines do not differ.
            claim = Claim(rho=share * level, kappa=1.5 * PROVED_KAPPA, c1=0.1 * share * level)
            found = gather_counterexamples(loop, claim, _ATTEMPT_BOXES).float()
            if len(found):
                near = found.repeat(-(-self.config.batch // len(found)), 1)[: 2 * self.config.batch]
                size = 0.02 * near.abs().amax(1, keepdim=True)
                self._remember(near + size * torch.randn(near.shape, generator=self.generator))

    def _remember(self, states: Tensor) -> None:
        self.failed = torch.cat([self.failed, states.float()])[-self.config.buffer // 4 :]
