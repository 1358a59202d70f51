"""Native loops over worlds: libmujoco called from compiled, GIL-free code on a small pool of threads.

The loops are compiled by numba, so a plain ``pip install`` brings them without a C compiler. Each thread owns one
``mjData``; a world is only its state vector (``mjSTATE_INTEGRATION``), which is copied in, stepped and copied out.
That keeps a thread's working set in its cache however many worlds there are, and makes the result independent of which
thread served which world.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import mujoco
import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

_LIBRARY = next(Path(mujoco.__file__).parent.glob("libmujoco.*"))
# The path of the library that the bindings already loaded, so that both share one copy.
llvmlite.binding.load_library_permanently(str(_LIBRARY))

_ptr = types.intp
_mj_step = types.ExternalFunction("mj_step", types.void(_ptr, _ptr))
_mj_forward = types.ExternalFunction("mj_forward", types.void(_ptr, _ptr))
_mj_rne_post_constraint = types.ExternalFunction("mj_rnePostConstraint", types.void(_ptr, _ptr))
_mj_set_state = types.ExternalFunction("mj_setState", types.void(_ptr, _ptr, _ptr, types.int32))
_mj_get_state = types.ExternalFunction("mj_getState", types.void(_ptr, _ptr, _ptr, types.int32))
_mju_copy = types.ExternalFunction("mju_copy", types.void(_ptr, _ptr, types.int32))
_sched_yield = types.ExternalFunction("sched_yield", types.int32())

# Slots of the control block shared by the threads. Each sits on its own cache line (8 int64) against false sharing.
_OPEN, _NEXT, _ACTIVE, _SHUTDOWN = 0, 8, 16, 24
CONTROL_SIZE = 32

# Slots of the job description.
JOB_KIND, JOB_COUNT, JOB_SUBSTEPS, JOB_CHUNK = 0, 1, 2, 3
JOB_SIZE = 4
STEP, RESET = 0, 1

# About a fifth of a millisecond of polling before a worker sleeps: longer than the policy takes between two steps of a
# rollout, much shorter than a gradient update, during which the core must be free.
_IDLE_POLLS = 600


# The Python bindings install a timer callback, for which MuJoCo reads the clock some forty times a step: much of the
# step of a small model. Only `mjData.timer` is lost without it. Creating an `MjData` puts it back, so it is cleared
# before each job.
_TIMER_CALLBACK = np.ctypeslib.as_array((ctypes.c_int64 * 1).in_dll(ctypes.CDLL(str(_LIBRARY)), "mjcb_time"))


@cfunc(types.void(types.intp))
def _SILENCE(message):
    """Say nothing."""


# A diverging world makes MuJoCo write a log into the working directory at each warning. The environment looks at every
# state itself and says once what is wrong.
_WARNING_CALLBACK = np.ctypeslib.as_array((ctypes.c_int64 * 1).in_dll(ctypes.CDLL(str(_LIBRARY)), "mju_user_warning"))
_USUAL_WARNING = int(_WARNING_CALLBACK[0])


@intrinsic
def _atomic_add(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _item_pointer(context, builder, signature, args)
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def _atomic_load(typingctx: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _item_pointer(context, builder, signature, args)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def _atomic_store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _item_pointer(context, builder, signature, args)
        builder.store_atomic(args[2], pointer, "seq_cst", 8)
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(array, types.intp, types.int64), codegen


def _item_pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array_type = signature.args[0]
    array = context.make_array(array_type)(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, array_type, array, [args[1]], wraparound=False)


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile without the interpreter lock, and keep the machine code for the next process where a folder can be."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # Neither this package's folder nor the user's cache can be written.
        return njit(nogil=True)(function)


@_compiled
def _take_chunks(
    thread: int,
    control: NDArray[np.int64],
    job: NDArray[np.int64],
    worlds: NDArray[np.int64],
    models: NDArray[np.int64],
    datas: NDArray[np.int64],
    state: NDArray[np.float64],
    state_spec: int,
    field_source: NDArray[np.int64],
    field_target: NDArray[np.int64],
    field_size: NDArray[np.int64],
    post_constraint: bool,
) -> None:
    """Serve worlds until the job's counter runs out."""
    kind, count, substeps, chunk = job[JOB_KIND], job[JOB_COUNT], job[JOB_SUBSTEPS], job[JOB_CHUNK]
    base, stride = state.ctypes.data, state.shape[1] * 8
    data = datas[thread]
    while True:
        start = _atomic_add(control, _NEXT, chunk)
        if start >= count:
            return
        for item in range(start, min(start + chunk, count)):
            world = worlds[item] if kind == RESET else item
            model, row = models[world], base + world * stride
            _mj_set_state(model, data, row, state_spec)
            if kind == RESET:
                _mj_forward(model, data)
            else:
                for _ in range(substeps):
                    _mj_step(model, data)
                if post_constraint:
                    _mj_rne_post_constraint(model, data)
            _mj_get_state(model, data, row, state_spec)
            for field in range(field_size.shape[0]):
                size = field_size[field]
                _mju_copy(field_target[field] + world * size * 8, field_source[thread, field], size)


@_compiled
def _run_job(thread, control, job, worlds, models, datas, state, spec, source, target, size, post):
    """Caller's side: open the job, work on it too, close it, wait for the last worker."""
    _atomic_store(control, _NEXT, 0)
    _atomic_store(control, _OPEN, 1)
    _take_chunks(thread, control, job, worlds, models, datas, state, spec, source, target, size, post)
    _atomic_store(control, _OPEN, 0)
    while _atomic_load(control, _ACTIVE) > 0:
        _sched_yield()


@_compiled
def _serve(thread, control, job, worlds, models, datas, state, spec, source, target, size, post):
    """Worker's side: serve jobs until idle for `_IDLE_POLLS` (returns 0) or shut down (returns 1).

    A worker announces itself in ``ACTIVE`` before it looks at ``OPEN`` again, and the caller closes a job before it
    reads ``ACTIVE``: so no worker can touch a job that the caller considers finished.
    """
    polls = 0
    while polls < _IDLE_POLLS:
        if _atomic_load(control, _SHUTDOWN) == 1:
            return 1
        if _atomic_load(control, _OPEN) == 1 and _atomic_load(control, _NEXT) < job[JOB_COUNT]:
            _atomic_add(control, _ACTIVE, 1)
            if _atomic_load(control, _OPEN) == 1:
                _take_chunks(thread, control, job, worlds, models, datas, state, spec, source, target, size, post)
                polls = 0
            _atomic_add(control, _ACTIVE, -1)
        else:
            polls += 1
            _sched_yield()
    return 0


def _stop_on_fatal_error(message: bytes) -> None:
    """Say what happened and end the process: MuJoCo forbids returning from here, and nobody up the stack can catch.

    Only models that run out of memory while stepping get here; other faults show when the engine is made.
    """
    text = message.decode(errors="replace")
    sys.stderr.write(f"rlstab: MuJoCo stopped while stepping: {text}; raise <size memory=...> in the model\n")
    sys.stderr.flush()
    os._exit(2)


_FATAL_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_stop_on_fatal_error)
# The bindings catch errors of their own calls before this handler is asked.
ctypes.c_void_p.in_dll(ctypes.CDLL(str(_LIBRARY)), "mju_user_error").value = ctypes.cast(
    _FATAL_CALLBACK, ctypes.c_void_p
).value


_pools: weakref.WeakSet[WorldPool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.forget_threads()


os.register_at_fork(after_in_child=_after_fork)


class WorldPool:
    """Threads that step worlds. The caller's thread is one of them, so ``num_threads=1`` starts none.

    Parameters
    ----------
    num_threads
        Threads in all, the caller's included.
    arrays
        Arguments of the native loops after ``job``: they stay the same for the pool's life.
    """

    def __init__(self, num_threads: int, arrays: tuple[Any, ...]) -> None:
        self._control = np.zeros(CONTROL_SIZE, np.int64)
        self._job = np.zeros(JOB_SIZE, np.int64)
        self._arrays = arrays
        self._num_threads = num_threads
        self._wake = threading.Condition()
        self._sleeping = 0
        self._in_use = threading.Lock()
        _pools.add(self)
        self._workers = [
            threading.Thread(target=self._worker, args=(index,), daemon=True, name=f"rlstab-world-pool-{index}")
            for index in range(1, num_threads)
        ]
        for worker in self._workers:
            worker.start()

    def run(self, kind: int, count: int, substeps: int = 0) -> None:
        """Step all worlds (``STEP``) or refresh the first ``count`` listed ones (``RESET``); returns when done."""
        if not self._in_use.acquire(blocking=False):
            message = "two threads stepped one environment at the same time: give each its own"
            raise RuntimeError(message)
        try:
            self._run(kind, count, substeps)
        finally:
            self._in_use.release()

    def _run(self, kind: int, count: int, substeps: int) -> None:
        job = self._job
        job[JOB_KIND], job[JOB_COUNT], job[JOB_SUBSTEPS] = kind, count, substeps
        # Small chunks even out worlds of unequal cost (contacts); large ones save the shared counter's traffic.
        job[JOB_CHUNK] = max(1, count // (8 * self._num_threads))
        if self._sleeping and count > 1:
            with self._wake:
                self._wake.notify_all()
        _TIMER_CALLBACK[0] = 0
        _WARNING_CALLBACK[0] = _SILENCE.address
        _run_job(0, self._control, job, *self._arrays)
        _WARNING_CALLBACK[0] = _USUAL_WARNING

    def _worker(self, thread: int) -> None:
        while _serve(thread, self._control, self._job, *self._arrays) == 0:
            with self._wake:
                self._sleeping += 1
                if not (self._control[_OPEN] or self._control[_SHUTDOWN]):
                    self._wake.wait()
                self._sleeping -= 1

    def close(self) -> None:
        """End the workers; the pool can't be used afterwards."""
        self._control[_SHUTDOWN] = 1
        with self._wake:
            self._wake.notify_all()
        for worker in self._workers:
            # The garbage collector may run this on any thread, a worker included.
            if worker is not threading.current_thread():
                worker.join(timeout=1.0)
        self._workers = []

    def forget_threads(self) -> None:
        """In a forked child there are no workers, and locks stay as they were: start afresh with the caller alone."""
        self._control[:] = 0
        self._wake = threading.Condition()
        self._in_use = threading.Lock()
        self._sleeping = 0
        self._workers = []
