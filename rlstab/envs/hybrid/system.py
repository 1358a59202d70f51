"""A hybrid system: flow in modes, guards that end them, resets, and events located in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from rlstab.envs.hybrid.arrays import Array, any_of, choose, detached, namespace, taken
from rlstab.envs.hybrid.location import first_crossing
from rlstab.errors import UserError


class EventLimitReached(UserError):
    """Worlds had more events than the limit in one stretch of time: Zeno behaviour, or a reset that stays on its guard.

    The message names the first of them, its mode and its guard.
    """


class GuardNeverFired(UserError):
    """No guard ended the mode of some worlds within the time that was given."""


@dataclass(frozen=True)
class HybridState:
    """Where ``n`` worlds are."""

    x: Array
    """Continuous state, ``(n, state_size)`` float64."""
    mode: Array
    """Index of the mode, ``(n,)`` int64."""
    configuration: Array
    """What the modes are like in each world (friction, reference speed, gait angle), ``(n, configuration_size)``."""


@dataclass(frozen=True)
class Event:
    """Events that happened in the same round of location, at most one in each world."""

    fired: Array
    """``(n,)`` bool: which worlds had one."""
    guard: Array
    """``(n,)`` int64: which guard; without meaning where none fired."""
    time: Array
    """``(n,)`` seconds since the beginning of the stretch."""
    before: Array
    """``(n, state_size)``: the state that met the guard; without meaning where none fired."""
    after: Array
    """``(n, state_size)``: what the reset made of it."""


@dataclass(frozen=True)
class Stretch:
    """What `HybridSystem.advance` returns."""

    state: HybridState
    elapsed: Array
    """Seconds gone by in each world, ``(n,)``: all that were asked for, unless the world stopped."""
    count: Array
    """Events in each world, ``(n,)`` int64."""
    limited: Array
    """Worlds that stopped because they reached the event limit, ``(n,)`` bool."""
    events: list[Event] = field(default_factory=list)


class HybridSystem(ABC):
    """Modes with flow, guards and resets, for ``n`` worlds at once, in numpy or torch (float64).

    A guard is a function that is positive while its mode lasts; its event is the moment at which it falls to zero.
    Time is stepped by ``step_s`` with ``method``; within a step the event is located to rounding by the integrator
    itself, so that an explicit Euler step and its events are one piecewise linear curve. What falls to zero and rises
    again within one step is not seen: choose ``step_s`` accordingly.

    In torch gradients flow through steps, resets and the moment of each event. They are those of the branch taken:
    meaningless where a guard is touched without being crossed (its rate is zero there and the moment has no
    derivative), and blind to another order of events. Event counts have none.

    Subclasses set the class variables and write `flow`, `guard` and `reset`.
    """

    modes: tuple[str, ...]
    guards: tuple[str, ...]
    state_size: int
    control_size: int
    configuration_size: int = 0
    step_s: float = 0.01
    """Longest step of time, seconds."""
    method: Literal["euler", "rk4"] = "rk4"
    event_limit: int = 50
    """Events that a world may have in one stretch."""
    fires_beyond: bool = False
    """Whether a guard that is negative already when a step begins has its event at once; otherwise it must rise above
    zero first, as where only a crossing counts."""
    event_ends_step: bool = False
    """Whether what an event left of a step is skipped, so that the next sample is the state after the reset."""
    final_modes: tuple[int, ...] = ()
    """Modes in which a world goes no further, as where it waits for a decision or is broken."""
    guard_tolerance: float = 1e-9
    """A guard below this counts as left only just now, in the guard's unit."""

    @abstractmethod
    def flow(self, state: HybridState, control: Array) -> Array:
        """Rate of the state, ``(n, state_size)`` per second, under ``control (n, control_size)``."""

    @abstractmethod
    def guard(self, state: HybridState) -> Array:
        """Value of every guard, ``(n, number of guards)``: positive in its mode, and in all other modes."""

    @abstractmethod
    def reset(self, state: HybridState, guard: Array) -> HybridState:
        """What the event of ``guard (n,)`` makes of each world; called for all, used where one fired."""

    def allowed(self, state: HybridState) -> Array:
        """Whether each guard may fire here, ``(n, number of guards)`` bool: what it demands besides its zero."""
        xp = namespace(state.x)
        return xp.ones_like(self.guard(state), dtype=bool if xp is np else xp.bool)

    def normalise(self, x: Array) -> Array:
        """The same state in the usual ranges, as angles in [-pi, pi); applied after every step."""
        return x

    def integrate(self, state: HybridState, control: Array, duration: Array) -> HybridState:
        """One step of ``duration (n,)`` seconds, without looking at guards."""
        h = duration[:, None]
        first = self.flow(state, control)
        if self.method == "euler":
            return replace(state, x=self.normalise(state.x + h * first))

        def rate(slope: Array, share: float) -> Array:
            return self.flow(replace(state, x=state.x + share * h * slope), control)

        second = rate(first, 0.5)
        third = rate(second, 0.5)
        fourth = rate(third, 1.0)
        return replace(state, x=self.normalise(state.x + h / 6.0 * (first + 2.0 * (second + third) + fourth)))

    def within(
        self, before: HybridState, after: HybridState, control: Array, duration: Array, share: Array
    ) -> HybridState:
        """Where worlds are after a ``share (n,)`` of the step of ``duration`` from ``before`` to ``after``."""
        del after
        return self.integrate(before, control, share * duration)

    def advance(self, state: HybridState, control: Array, duration: float, *, stop_at_event: bool = False) -> Stretch:
        """Let time go on by ``duration`` seconds with ``control (n, control_size)`` held.

        Parameters
        ----------
        stop_at_event
            A world stops, after the reset, at its first event.

        Returns
        -------
        Stretch
            Worlds at the event limit stop there: see `within_limit`.

        Raises
        ------
        UserError
            The duration is not a positive number.
        """
        if not 0.0 < duration < np.inf:
            raise UserError(f"{type(self).__name__}: the duration must be a positive number of seconds, not {duration}")
        xp = namespace(state.x)
        steps = max(1, int(np.ceil(duration / self.step_s - 1e-9)))
        count = xp.zeros_like(state.mode)
        elapsed = 0.0 * detached(state.x[:, 0])
        limit = 1 if stop_at_event else self.event_limit
        events: list[Event] = []
        for _ in range(steps):
            goes = (count < limit) & ~self._is_final(state)
            if not any_of(goes):
                break
            left = xp.where(goes, duration / steps, 0.0 * elapsed)
            while any_of(left > 0.0):
                after = self.integrate(state, control, left)
                share, guard, fired = first_crossing(self, state, after, control, left)
                spent = xp.where(fired, share * left, left)
                elapsed = elapsed + spent
                if not any_of(fired):
                    state = after
                    break
                met = self.within(state, after, control, left, share)
                landed = self.reset(met, guard)
                events.append(Event(fired, guard, elapsed, met.x, choose(fired, landed.x, after.x)))
                state = _either(fired, landed, after)
                count = count + xp.where(fired, 1, 0)
                rest = xp.where(fired, left - spent, 0.0 * left)
                if self.event_ends_step:
                    elapsed, rest = elapsed + rest, 0.0 * rest
                left = xp.where((count < limit) & ~self._is_final(state), rest, 0.0 * rest)
        return Stretch(state, elapsed, count, count >= self.event_limit, events)

    def until_event(self, state: HybridState, control: Array, time_limit_s: float) -> Stretch:
        """Let every world go on to its first event, and stop there after the reset.

        Raises
        ------
        GuardNeverFired
            A world had none within ``time_limit_s`` seconds.
        """
        stretch = self.advance(state, control, time_limit_s, stop_at_event=True)
        quiet = np.flatnonzero(np.asarray(detached(stretch.count)) == 0)
        if len(quiet):
            raise GuardNeverFired(
                f"{type(self).__name__}: no guard of mode '{self.modes[int(state.mode[int(quiet[0])])]}' fired within "
                f"{time_limit_s:g} s in {len(quiet)} of {len(state.mode)} worlds, the first is world {quiet[0]}"
            )
        return stretch

    def within_limit(self, stretch: Stretch) -> Stretch:
        """Give back ``stretch`` if no world of it stopped at the event limit.

        Raises
        ------
        EventLimitReached
            One did.
        """
        stopped = np.flatnonzero(np.asarray(detached(stretch.limited)))
        if not len(stopped):
            return stretch
        world = int(stopped[0])
        last = next(event for event in reversed(stretch.events) if bool(event.fired[world]))
        raise EventLimitReached(
            f"{type(self).__name__}: {len(stopped)} of {len(stretch.count)} worlds had {self.event_limit} events "
            f"within {float(last.time[world]):.3g} s, the last of world {world} at guard "
            f"'{self.guards[int(last.guard[world])]}': Zeno behaviour, or a reset that stays on its guard"
        )

    def _is_final(self, state: HybridState) -> Array:
        final = state.mode < 0
        for mode in self.final_modes:
            final = final | (state.mode == mode)
        return final

    def guard_value(self, state: HybridState, index: Array) -> Array:
        """Value of guard ``index (n,)``: ``(n,)``."""
        return taken(self.guard(state), index)


def _either(mask: Array, chosen: HybridState, otherwise: HybridState) -> HybridState:
    return HybridState(
        choose(mask, chosen.x, otherwise.x),
        choose(mask, chosen.mode, otherwise.mode),
        choose(mask, chosen.configuration, otherwise.configuration),
    )
