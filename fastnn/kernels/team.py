"""A team of threads inside one parallel region: a launch, a safe start, then barriers.

A *member* is a compiled function ``(thread, n_threads, sync, job)`` that does one thread's share
of a job. The launchers here call it through its address, so a member is compiled once and serves
the serial and the parallel run alike; `job` is the address of a record that says all the rest.

One parallel region runs many training steps, so that its launch (1 to 80 microseconds) is paid
once. Between the phases of a step the threads meet at a spin barrier (0.1 microseconds).

Barriers deadlock when the threading layer runs two members one after the other on one thread
(`OMP_THREAD_LIMIT`, nested parallelism, work stealing). Therefore `team_starts` comes first: the
members wait for each other for a bounded time, and either all of them go on or none does.
"""

import functools
import sys
import time

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastnn.kernels.calls import call
from fastnn.kernels.memory import address_of, aligned_zeros, vector_at
from fastnn.runtime import threads
from fastnn.runtime.jit import compile_at_address, direct_call, inner, kernel, parallel_kernel

SYNC_SIZE = 32
"""Length of the int64 array that a team shares, with counters on cache lines of their own."""
_ARRIVED = 0
_STATE = 16
_UNDECIDED, _GO, _ABANDONED = 0, 1, 2
_LEFT, _WAITED, _CLOCK, _FIRST_CORE = 24, 25, 26, 28

# Behind the counters, for each member: two sets of cores, a bit for each of 1024.
_MASK_BYTES = 128
_MASK_WORDS = _MASK_BYTES // 8

# The team may start while another process holds the core: wait long, but not for ever.
_START_PATIENCE = 20_000
_SPINS_BEFORE_SLEEP = 2_000
# The threading layer waits for the end of a team too, but it never sleeps.
_END_PATIENCE = 200


def _element(builder, base, index):
    """Pointer to element `index` of an int64 array at the address `base`."""
    i64 = ir.IntType(64)
    return builder.gep(builder.inttoptr(base, i64.as_pointer()), [index], inbounds=True)


@intrinsic
def _atomic_add(typingctx, sync, index, value):
    """Add to sync[index]; return the value before. All memory before is visible to the others."""

    def codegen(context, builder, signature, args):
        pointer = _element(builder, args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(*[types.int64] * 3), codegen


@intrinsic
def _atomic_load(typingctx, sync, index):
    def codegen(context, builder, signature, args):
        pointer = _element(builder, args[0], args[1])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(*[types.int64] * 2), codegen


@intrinsic
def _atomic_decide(typingctx, sync, index, value):
    """Write sync[index] if it is still zero; return what stands there now."""

    def codegen(context, builder, signature, args):
        pointer = _element(builder, args[0], args[1])
        zero = ir.Constant(ir.IntType(64), 0)
        result = builder.cmpxchg(pointer, zero, args[2], "seq_cst", "seq_cst")
        before = builder.extract_value(result, 0)
        return builder.select(builder.extract_value(result, 1), args[2], before)

    return types.int64(*[types.int64] * 3), codegen


@intrinsic
def _pause(typingctx):
    """Tell the CPU that this is a spin loop."""

    def codegen(context, builder, signature, args):
        triple = builder.module.triple
        if triple.startswith(("x86_64", "i386", "i686")):
            name = "llvm.x86.sse2.pause"
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _leave_core(typingctx):
    """Sleep for a moment: another member may be waiting for this very core.

    To yield is not enough. The scheduler likes to go on with the thread that yields, for the
    rest of its time slice, while the other core is idle.
    """
    i32 = ir.IntType(32)

    def codegen(context, builder, signature, args):
        if sys.platform == "win32":
            function = ir.FunctionType(i32, [])
            name, arguments = "SwitchToThread", []
        else:
            function = ir.FunctionType(i32, [i32])
            name, arguments = "usleep", [ir.Constant(i32, 1)]
        builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)
        return context.get_dummy_value()

    return types.void(), codegen


@inner
def team_starts(sync, n_threads):
    """Meet all other members once; return whether the whole team runs at the same time.

    `sync`, the address of SYNC_SIZE integers, holds zeros when the region is launched. When a
    member is missing for too long, the first to lose patience calls the start off for all, and
    no member has changed anything.
    """
    if n_threads == 1:
        return True
    if _atomic_add(sync, _ARRIVED, 1) == n_threads - 1:
        return _atomic_decide(sync, _STATE, _GO) == _GO
    spins = 0
    while _atomic_load(sync, _STATE) == _UNDECIDED:
        _pause()
        spins += 1
        if spins % _SPINS_BEFORE_SLEEP == 0:
            _leave_core()
            if spins == _SPINS_BEFORE_SLEEP * _START_PATIENCE:
                _atomic_decide(sync, _STATE, _ABANDONED)
    return _atomic_load(sync, _STATE) == _GO


@inner
def barrier(sync, n_threads):
    """Wait until every member is here. What they wrote before it can be read after it."""
    if n_threads > 1:
        ticket = _atomic_add(sync, _ARRIVED, 1)
        everybody = (ticket // n_threads + 1) * n_threads
        spins = 0
        while _atomic_load(sync, _ARRIVED) < everybody:
            _pause()
            spins += 1
            if spins % _SPINS_BEFORE_SLEEP == 0:
                _leave_core()


if sys.platform == "linux":
    _sched_getcpu = types.ExternalFunction("sched_getcpu", types.intc())
    _affinity = types.intc(types.intc, types.intp, types.intp)
    _sched_getaffinity = types.ExternalFunction("sched_getaffinity", _affinity)
    _sched_setaffinity = types.ExternalFunction("sched_setaffinity", _affinity)

    @inner
    def _leave_first_core(sync, thread):
        """Move a member away from the core on which the first one began.

        After a pause the scheduler likes to wake a thread on the core of who woke it. Both would
        take turns there for tens of milliseconds, since neither looks busy, with the other core
        idle. The set of allowed cores shrinks for a moment, which moves the thread at once.
        """
        if thread == 0:
            _atomic_add(sync, _FIRST_CORE, np.int64(_sched_getcpu()) + 1)
            return
        core = _atomic_load(sync, _FIRST_CORE) - 1
        if core < 0 or core != _sched_getcpu():
            return
        allowed = sync + 8 * (SYNC_SIZE + 2 * _MASK_WORDS * thread)
        others = allowed + _MASK_BYTES
        if _sched_getaffinity(0, _MASK_BYTES, allowed) == 0:
            before, after = vector_at(allowed, np.int64), vector_at(others, np.int64)
            any_left = np.int64(0)
            for k in range(_MASK_WORDS):
                after[k] = before[k]
                if k == core // 64:
                    after[k] &= ~(np.int64(1) << (core % 64))
                any_left |= after[k]
            if any_left != 0 and _sched_setaffinity(0, _MASK_BYTES, others) == 0:
                _sched_setaffinity(0, _MASK_BYTES, allowed)

    _MONOTONIC = time.CLOCK_MONOTONIC
    _clock_gettime = types.ExternalFunction("clock_gettime", types.intc(types.intc, types.intp))

    @inner
    def _nanoseconds(sync):
        """Read the clock."""
        place = sync + 8 * _CLOCK
        _clock_gettime(_MONOTONIC, place)
        return _atomic_load(sync, _CLOCK) * 1_000_000_000 + _atomic_load(sync, _CLOCK + 1)

else:

    @inner
    def _leave_first_core(sync, thread):
        """Leave it to the scheduler."""

    @inner
    def _nanoseconds(sync):
        """Say that no time passes: nothing is known of crowded cores."""
        return np.int64(0)


@inner
def _leave(sync, thread, n_threads):
    """Let member 0 wait until all are done, and note for how long.

    If a member waits for this very core, it gets it now. Spinning, as the threading layer does,
    would keep it waiting for a time slice: thousands of times as long as a small product.
    """
    _atomic_add(sync, _LEFT, 1)
    if thread == 0:
        began = _nanoseconds(sync)
        spins = 0
        while _atomic_load(sync, _LEFT) < n_threads and spins < _END_PATIENCE * _SPINS_BEFORE_SLEEP:
            _pause()
            spins += 1
            if spins % _SPINS_BEFORE_SLEEP == 0:
                _leave_core()
        _atomic_add(sync, _WAITED, _nanoseconds(sync) - began)


@kernel
def run_alone(address, sync, job):
    """Run a member on the calling thread."""
    call(address, (0, 1, sync, job))


_get_num_threads = types.ExternalFunction("get_num_threads", types.intp())
_set_num_threads = types.ExternalFunction("set_num_threads", types.void(types.intc))


@functools.cache
def _team():
    """Compile `_run_team`, and what each thread of a team does; return both, that by address."""

    def take_turn(thread, n_threads, sync, address, job):
        _leave_first_core(sync, thread)
        call(address, (thread, n_threads, sync, job))
        _leave(sync, thread, n_threads)

    return direct_call(_run_team, (types.int64,) * 5), compile_at_address(take_turn, 5)


@parallel_kernel
def _run_team(turn, address, n_threads, sync, job):
    """Run a member on threads, within `fastnn.runtime.threads.parallel_region`.

    Numba's own number of threads is set and restored here, by the functions of its threading layer
    that its Python functions call: those take longer than all the rest of a launch.
    """
    before = _get_num_threads()
    _set_num_threads(n_threads)
    for thread in prange(n_threads):
        # An address, since Numba compiles what is called here once for each type of `thread`.
        call(turn, (thread, n_threads, sync, address, job))
    _set_num_threads(before)


# One for all teams: there is one at a time.
_sync = aligned_zeros(SYNC_SIZE + 2 * _MASK_WORDS * config.NUMBA_NUM_THREADS, np.int64)
_SYNC_ADDRESS = address_of(_sync)


def run_team(address, n_threads, job):
    """Run a member on threads, within `fastnn.runtime.threads.parallel_region`.

    Parameters
    ----------
    address : int
        Of a member.
    n_threads : int
        More than one.
    job : int
        Address of a job.

    Returns
    -------
    bool
        Whether the threading layer has run the whole team together. Members that do not begin
        with `team_starts` have done their work in any case.
    """
    _sync[:SYNC_SIZE] = 0
    run, turn = _team()
    began = time.perf_counter()
    run(turn, address, n_threads, _SYNC_ADDRESS, job)
    threads.note_wait(int(_sync[_WAITED]) * 1e-9, time.perf_counter() - began)
    return _sync[_STATE] != _ABANDONED


def launch(address, job, n_threads):
    """Run a member on up to `n_threads` threads.

    Parameters
    ----------
    address : int
        Of a member.
    job : fastnn.kernels.memory.Job
    n_threads : int
        Fewer are used where the threading layer offers no more.
    """
    while (n_threads := threads.at_most(n_threads)) > 1:
        with threads.parallel_region(n_threads) as granted:
            if granted == 1:
                break
            if run_team(address, granted, job.address):
                return
        threads.limit_teams(granted // 2)
    run_alone(address, 0, job.address)
