"""Runs a Beam pipeline on this machine, with one worker process a core and nothing to download.

Beam's DirectRunner would first fetch Prism, a Go program. Its Python runner needs nothing, and this
module makes it fit for long work: worker processes end when the command ends, however it ends, and
one that dies is noticed. For that, each holds a connection to the parent, its lifeline.
"""

import contextlib
import functools
import logging
import multiprocessing.connection
import os
import secrets
import shlex
import shutil
import signal
import sys
import threading
import traceback

from pipelines.command_line import load_tensorflow

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10  # for worker processes to end


class WorkerDied(Exception):
    """A worker process ended in the middle of its work: most often, memory ran out."""


def run_local(make_pipeline, options, workers):
    """Runs a pipeline to its end in worker processes.

    Signals reach the calling thread alone, which should be the main thread. When one raises there,
    the worker processes have ended before the exception leaves this function.

    Args:
        make_pipeline: callable that takes a `beam.Pipeline` and applies the transforms.
        options: `PipelineOptions`.
        workers: int, number of processes.

    Raises:
        WorkerDied: a worker process was killed, or ended itself.
        Exception: what the pipeline raised, as Beam shows it.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import DirectOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    _silence_beam()
    lifelines = _Lifelines()
    options.view_as(DirectOptions).direct_num_workers = workers
    environment = SubprocessSDKEnvironment.from_command_string(lifelines.command())
    pipeline = beam.Pipeline(FnApiRunner(environment), options=options)
    failures = []
    thread = threading.Thread(
        target=_run,
        args=(pipeline, failures),
        name="beam",
        daemon=True,  # Beam's runner may wait for ever for a worker that has died
    )
    try:
        make_pipeline(pipeline)
        thread.start()
        while thread.is_alive():
            lifelines.watch(_POLL_SECONDS)
    finally:
        lifelines.cut()
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
    if failures:
        raise failures[0]


def _run(pipeline, failures):
    # Inherited by the worker processes: Ctrl-C reaches the parent alone, which ends them in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        pipeline.run().wait_until_finish()
    except BaseException as error:
        failures.append(error)


@contextlib.contextmanager
def quiet_import():
    """Holds back warnings, that Beam logs while it is imported, of parts that nobody asked for."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _silence_beam():
    """Keeps Beam from reporting that worker processes have ended: this module says so itself.

    For good, since its threads notice at any time after.
    """
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL + 1)
    if getattr(threading.excepthook, "__name__", None) == _report_unless_beam.__name__:
        return
    threading.excepthook = functools.wraps(_report_unless_beam)(
        functools.partial(_report_unless_beam, threading.excepthook)
    )


def _report_unless_beam(report, failure):
    frames = traceback.walk_tb(failure.exc_traceback)
    if not any("apache_beam" in frame.f_code.co_filename for frame, _ in frames):
        report(failure)


class _Lifelines:
    """The parent's ends of the connections to its worker processes."""

    def __init__(self):
        self._key = secrets.token_hex(16)
        self._listener = multiprocessing.connection.Listener(
            ("127.0.0.1", 0), backlog=128, authkey=self._key.encode()
        )
        self._connections = []  # of workers that are at work
        self._ended = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="lifelines", daemon=True).start()

    def command(self):
        """The shell command that starts a worker process with this process's modules."""
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from pipelines.jobs import local_beam; "
            f"local_beam.worker_main({self._listener.address!r}, {self._key!r})"
        )
        return f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"

    def watch(self, seconds):
        """Waits, and raises `WorkerDied` if a worker process ended without saying so."""
        with self._lock:
            connections = list(self._connections)
        for connection in multiprocessing.connection.wait(connections, seconds):
            try:
                connection.recv()
            except (EOFError, OSError):
                raise WorkerDied("a worker process ended before its work was done") from None
            with self._lock:
                self._connections.remove(connection)
                self._ended.append(connection)

    def cut(self):
        """Ends the worker processes, and waits for it."""
        with self._lock:
            self._listener.close()
            connections = self._connections + self._ended
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send("end")
        for connection in connections:
            with contextlib.suppress(EOFError, OSError):
                if connection.poll(_GRACE_SECONDS):
                    connection.recv()
            connection.close()

    def _accept(self):
        while True:
            try:
                connection = self._listener.accept()
            except (multiprocessing.AuthenticationError, EOFError):
                continue  # a stranger
            except OSError:
                return  # closed
            with self._lock:
                self._connections.append(connection)


def worker_main(address, key):
    """What a worker process runs."""
    try:
        lifeline = multiprocessing.connection.Client(address, authkey=key.encode())
    except (OSError, EOFError):
        os._exit(1)  # the parent has ended meanwhile
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    # There is a process a core, so one thread each will do; and a GPU is not for preparing data.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    load_tensorflow()
    logging.disable(logging.CRITICAL)  # errors reach the parent by another way
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
    with contextlib.suppress(OSError):
        lifeline.send("done")
    os._exit(0)  # threads of gRPC and TensorFlow need not be waited for


def _end_with(lifeline):
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(0)
