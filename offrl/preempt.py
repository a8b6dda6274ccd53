"""Preemption: SIGTERM asks for the end; a run then stops at the end of a block, with a checkpoint.

submitit's own signal (SIGUSR2, which SLURM sends before a time limit or a preemption) is treated
alike, and handed on to submitit afterwards, which puts the job back into the queue.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

REQUEUE = 75  # EX_TEMPFAIL: the same command goes on; SLURM can requeue by it (RequeueExit)

_asked: list[int] = []  # the signals that came; belongs to the process, as signals do


class Preempted(Exception):
    """The run has written a checkpoint and stops, because the process was asked to end."""


def asked() -> bool:
    return bool(_asked)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside, a signal is noted for the end of the block.  For the process that runs a cell."""
    signals = [signal.SIGTERM, signal.SIGUSR2] if _in_submitit() else [signal.SIGTERM]
    with _handled(signals, _asked.append):
        yield


@contextlib.contextmanager
def passing_on() -> Iterator[None]:
    """Inside, SIGTERM is passed on to joblib's workers; where there are none it ends this process.

    For the process that launches cells.  What runs elsewhere (SLURM, Ray) does not wait for it.
    """

    def pass_on(number: int) -> None:
        _asked.append(number)
        workers = _workers()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if not workers:
            raise SystemExit(REQUEUE)

    _asked.clear()
    try:
        with _handled([signal.SIGTERM], pass_on):
            yield
    finally:
        _asked.clear()


def leave() -> None:
    """Ends the job of an interrupted run, if it is one of submitit's: requeued where that is due.

    Other workers stay, find that they were asked, and do nothing more.
    """
    if _in_submitit():
        if signal.SIGUSR2 in _asked and callable(handler := signal.getsignal(signal.SIGUSR2)):
            handler(signal.SIGUSR2, None)  # requeues the job, and exits
        sys.exit(REQUEUE)


@contextlib.contextmanager
def _handled(signals: Sequence[signal.Signals], act: Callable[[int], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # no handler can be set there
        return

    def handler(number: int, frame: FrameType | None) -> None:
        act(number)

    before = {s: signal.signal(s, handler) for s in signals}
    try:
        yield
    finally:
        for s, previous in before.items():
            signal.signal(s, previous)


def _in_submitit() -> bool:
    return "SUBMITIT_EXECUTOR" in os.environ


def _workers() -> list[int]:
    if "joblib" not in sys.modules:
        return []
    from joblib.externals.loky import reusable_executor

    pool = reusable_executor._executor
    return list(pool._processes) if pool is not None and pool._processes else []
