from __future__ import annotations

import signal
import threading

import pytest

from rlstab.sim2real.interrupts import Interrupts


def press() -> None:
    """Ctrl-C, with its handler called before this returns.

    After `os.kill` it is called between two bytecodes somewhere later: at worst in a callback of the garbage
    collector, which swallows the exception.
    """
    signal.raise_signal(signal.SIGINT)


def test_the_first_asks_the_second_raises_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    asked: list[int] = []

    def press_twice() -> None:
        with Interrupts(lambda: asked.append(1)):
            press()
            asked.append(2)
            press()
            asked.append(3)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert asked == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_interrupts_what_the_second_set_off() -> None:
    done: list[str] = []

    def press_three_times() -> None:
        with Interrupts(lambda: None):
            try:
                press()
                press()
            finally:
                press()
                done.append("closed")

    with pytest.raises(KeyboardInterrupt):
        press_three_times()
    assert done == ["closed"]


def test_nothing_interrupts_what_is_shielded() -> None:
    asked: list[int] = []
    with Interrupts(lambda: asked.append(1)) as interrupts:
        interrupts.shield()
        for _ in range(3):
            press()
    assert asked == [1]


def test_an_inner_block_takes_over_from_an_outer_one() -> None:
    asked: list[str] = []
    with Interrupts(lambda: asked.append("outer")):
        with Interrupts(lambda: asked.append("inner")):
            press()
        press()
    assert asked == ["inner", "outer"]


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def look() -> None:
        with Interrupts(lambda: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(lambda: pytest.fail("asked")):
            press()
    finally:
        signal.signal(signal.SIGINT, before)
