"""Calls a function in worker processes on this machine, which end when the command ends.

Each worker holds the reading end of a pipe, its lifeline; the parent alone holds the writing end.
The parent closes its end when the work is done, or the system does when the parent is killed. That
ends the workers.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from pipelines.command_line import quiet_loading

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def call_in_processes(
    task: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int,
    done: Callable[[_Result], None] = lambda result: None,
) -> None:
    """Calls `task(item)` for each item in worker processes; the first error ends them all.

    Tasks and items can be pickled; each worker receives the task once. `done` is called here with
    each result as soon as it is there. Signals reach the calling thread alone, which should be the
    main thread. If a signal raises there, the workers have ended before the exception leaves this
    function.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a worker was killed, or exited.
        Exception: what the first failed call raised; its cause shows the worker's traceback.
    """
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    lifeline, held_here = context.Pipe(duplex=False)
    arguments = lifeline, pickle.dumps(task)
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _begin, arguments)

    def start() -> list[concurrent.futures.Future]:
        # Workers inherit this mask: they leave Ctrl-C, which reaches them too, to the parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        return [pool.submit(_work, item) for item in items]

    try:
        # In another thread: a signal that raises must not leave a worker half started.
        with concurrent.futures.ThreadPoolExecutor(1) as starter:
            calls = starter.submit(start).result()
        for call in concurrent.futures.as_completed(calls):
            done(call.result())
    finally:
        held_here.close()
        pool.shutdown(cancel_futures=True)


def _begin(lifeline: Connection, task: bytes) -> None:
    """Prepares a worker process."""
    global _task
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()
    # There is one process per core, so one thread each is enough. Preparing data needs no GPU.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with quiet_loading():  # a task may import TensorFlow, which reads these variables
        _task = pickle.loads(task)


def _work(item: Any) -> Any:
    return _task(item)


def _end_with(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)  # at once, whatever is being made
