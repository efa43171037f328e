"""What all commands of the project share: how a command ends, and how it reports that.

The exit statuses are part of the interface (a job scheduler acts on them):

| status | meaning |
| --- | --- |
| 0 | done |
| 2 | a bad flag, file or piece of data, a `ValueError`: one line on stderr names the culprit |
| 3 | training diverged; checkpoints are kept, including the last good one |
| 75 | stopped by SIGTERM or SIGINT after a checkpoint; the same command resumes there |
| 141 | nobody reads its output any more, as after `| head -1`; it ends silently |

Ctrl-C while a command is still loading ends it with SIGINT: shells report 130.

This module imports nothing heavy, so that a bad flag is reported at once.
"""

import atexit
import contextlib
import difflib
import errno
import faulthandler
import gc
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import traceback
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from pipelines.status import discard, doing, say

EXIT_DONE = 0
EXIT_BAD_INPUT = 2
EXIT_DIVERGED = 3
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again
EXIT_NO_READER = 141  # 128 + SIGPIPE, as shells report programs that the signal ends

# Modules and traced steps create many objects that live as long as the command. Collecting garbage
# as often as Python does by default costs a short command a second.
_GARBAGE_THRESHOLDS = 5_000, 10, 10

MAX_SEED = 2**32 - 1  # for --seed and --config.seed

_HEAVY = {"tensorflow": "TensorFlow", "keras_hub": "Keras"}  # packages that take seconds to load
_backends = ["tensorflow"]  # the Keras backends that a command can use
_debugged = False  # whether the command has --debug
# TensorFlow and h5py raise errors of their own, which quote the system's messages: of a disk that
# cannot be written to, and, at the end of TensorFlow's, of a path that cannot be read.
_REASONS = (
    *map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES)),
    *(f"; {os.strerror(number)}" for number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)),
    "File system scheme ",  # '...' not implemented: of paths such as `http://...`
)
# What TensorFlow calls errors where nothing is wrong: integers that oneDNN leaves to other code on
# any processor, no GPU driver, and libraries that are in it twice.
_NO_ERRORS = (b"oneDNN supports ", b"cuInit: UNKNOWN ERROR (303)", b"already been registered")
_SEVERITIES = {"0": "IWEF", "1": "WEF", "3": "F"}  # that TF_CPP_MIN_LOG_LEVEL lets through; 2: EF
_REMOTE_ERRORS = ("NotFoundError", "PermissionDeniedError", "UnauthenticatedError")


class Diverged(Exception):
    """A loss or a gradient is no longer finite."""


class Stopped(BaseException):
    """SIGTERM or SIGINT ended the work; what was done is saved.

    Like `KeyboardInterrupt`, it is not an `Exception`, so no handler mistakes it for a failure.
    """


def run(main: Callable[[list[str]], object], argv: list[str] | None = None) -> int:
    """Runs `main(argv)` and turns its exceptions into the exit statuses above.

    Without `argv` the command is the whole program. `--debug` anywhere in the arguments shows
    tracebacks, and what libraries write while they are loaded.
    """
    global _debugged
    if argv is None:
        argv = sys.argv[1:]
        _open_stderr()
        faulthandler.enable(os.dup(2))  # `quiet_loading` may hold back why a library aborts
        gc.set_threshold(*_GARBAGE_THRESHOLDS)
        atexit.register(gc.freeze)  # otherwise the interpreter takes two seconds longer to exit
    _debugged = "--debug" in argv
    _backends[:] = ["tensorflow"]
    error = None
    try:
        with stop_signals():
            main([argument for argument in argv if argument != "--debug"])
    except BaseException as caught:
        error = caught
    of_printing = isinstance(error, OSError) and error.filename is None  # perhaps
    unwritten = _unwritten("\n" if of_printing else "")
    if unwritten and (error is None or of_printing or isinstance(error, SystemExit)):
        error = unwritten
    if error is None:
        return EXIT_DONE
    if (end := _end(error)) is None:
        raise error
    if _debugged:
        traceback.print_exception(error)
    exit_status, line = end
    if line:
        say(one_line(line))
    return exit_status


def _end(error: BaseException) -> tuple[int, str] | None:
    """(exit status, line for the user) of an expected error; None of a bug."""
    if isinstance(error, BrokenPipeError) and error.filename == "stdout":
        return EXIT_NO_READER, ""
    if isinstance(error, Diverged):
        return EXIT_DIVERGED, f"diverged: {error}"
    if isinstance(error, Stopped):
        return EXIT_STOPPED, f"stopped: {error}"
    if isinstance(error, UnicodeEncodeError):  # of an argument, or of a file's name
        return EXIT_BAD_INPUT, f"error: {error.object!a}: is not UTF-8"
    if isinstance(error, OSError) and error.filename:
        return EXIT_BAD_INPUT, f"error: {error.filename}: {error.strerror}"
    text = one_line(error)
    if isinstance(error, ValueError):
        return EXIT_BAD_INPUT, f"error: {text}"
    is_remote = type(error).__name__ in _REMOTE_ERRORS and "gs://" in text
    if isinstance(error, Exception) and (is_remote or any(r in text for r in _REASONS)):
        return EXIT_BAD_INPUT, f"error: {text[:400]}"
    return None


def _open_stderr() -> None:
    """Discards what is written to stderr if it was closed before the program began.

    Otherwise libraries would write to the next opened file, which would get descriptor 2.
    """
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        os.set_inheritable(2, True)
        sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)


def _unwritten(more: str) -> OSError | None:
    """Writes `more` and flushes stdout; returns the error if that fails, which names stdout."""
    try:
        print(end=more, flush=True)
        return None
    except OSError as error:
        discard(sys.stdout)
        error.filename = "stdout"
        return error


def one_line(error: BaseException | str) -> str:
    """Folds the text of an exception into one line, without TensorFlow's name of an operation."""
    return " ".join(re.sub(r"\{\{function_node .*?\}\}", "", str(error)).split())


def meant(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint at the closest known name, ` (did you mean ...?)`; empty if none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def install(extra: str) -> str:
    """What installs an extra of this project, for messages: from where the project itself is."""
    try:
        # pip notes there the checkout or the wheel that it was given (PEP 610).
        noted = importlib.metadata.distribution("keras-vitbert").read_text("direct_url.json")
        origin = json.loads(noted or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return f'pip install -e ".[{extra}]" in the checkout of keras-vitbert'
    url, vcs = origin.get("url"), origin.get("vcs_info", {}).get("vcs")
    if origin.get("dir_info", {}).get("editable"):
        return f'pip install -e "{urllib.parse.unquote(url.removeprefix("file://"))}[{extra}]"'
    source = f" @ {vcs + '+' if vcs else ''}{url}" if url else ""
    return f'pip install "keras-vitbert[{extra}]{source}"'


class StopRequest:
    """Remembers SIGTERM and SIGINT, so that work can end where it can be resumed.

    Outside `deferred()` a signal raises `Stopped` at once. Inside it, the signal is only noted in
    `requested`: training checks that after each step, saves, and raises `Stopped` itself. A second
    SIGINT does not wait for that.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = 0

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        impatient = self.requested and signal_number == signal.SIGINT
        self.requested = True
        if impatient or not self._deferred:
            raise Stopped(f"by {signal.Signals(signal_number).name}; run the same command again")

    @contextlib.contextmanager
    def deferred(self) -> Iterator["StopRequest"]:
        """A block in which a signal is only noted. An earlier one raises `Stopped` on entry."""
        if self.requested:
            raise Stopped("before training began; run the same command again")
        self._deferred += 1
        try:
            yield self
        finally:
            self._deferred -= 1


stop_request = StopRequest()


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Lets `stop_request` handle SIGTERM and SIGINT while the block runs."""
    stop_request.requested = False
    try:
        previous = {
            number: signal.signal(number, stop_request)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
    except ValueError:  # not the main thread, which alone may handle signals
        previous = {}
    try:
        yield stop_request
    finally:
        stop_request.requested = False
        for number, handler in previous.items():
            signal.signal(number, handler)


def hear_signals_again() -> None:
    """Restores the handlers of `stop_signals` where other code has replaced them unnoticed.

    TensorFlow's servers install a SIGTERM handler without telling Python.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is stop_request:
            signal.signal(number, stop_request)


def choose_backend(name: str | None) -> str:
    """Chooses Keras' backend for a command that also runs on JAX. Call it before Keras is loaded.

    None is for `KERAS_BACKEND`, by default `tensorflow`.
    """
    if name is not None:
        if name not in ("tensorflow", "jax"):
            raise ValueError(f"--backend={name}: give tensorflow or jax")
        os.environ["KERAS_BACKEND"] = name
    _backends[:] = ["tensorflow", "jax"]
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend == "jax" and importlib.util.find_spec("jax") is None:
        raise ValueError(
            f"JAX is not installed; run: {install('jax')}, or with jax-cuda or jax-tpu for jax"
        )
    return backend


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silences TensorFlow while the block loads it, and reports the loading; say nothing in it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    is_worker = multiprocessing.parent_process() is not None  # of a job, which has many
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in _backends and not is_worker:
        raise ValueError(f"KERAS_BACKEND={backend}: must be {' or '.join(_backends)}; unset it")
    missing = [name for package, name in _HEAVY.items() if package not in sys.modules]
    said = doing(f"loading {missing[0]}") if missing and not is_worker else contextlib.nullcontext()
    with said, quiet_stderr():
        yield


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what libraries write to descriptor 2; shows all of it if the block fails.

    Otherwise it shows TensorFlow's errors, or what `TF_CPP_MIN_LOG_LEVEL` asks for: its first lines
    are written before that is obeyed. After an abort only `--debug` shows what was held.
    """
    if _debugged:
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        shown = _errors
        try:
            yield
        except (ValueError, Stopped):  # take one line
            raise
        except BaseException:
            shown = bytes
            raise
        finally:
            sys.stderr.flush()
            held.seek(0)
            os.write(stderr, shown(held.read()))
            os.dup2(stderr, 2)
            os.close(stderr)


def _errors(written: bytes) -> bytes:
    """The lines of TensorFlow's log, in its two forms, that tell of errors."""
    severities = _SEVERITIES.get(os.environ.get("TF_CPP_MIN_LOG_LEVEL", ""), "EF").encode()
    form = rb"(?m)^(?:[\d-]{10} \S+: [%b] |[%b]\d{4} ).*\n" % (severities, severities)
    found = re.findall(form, written)
    return b"".join(line for line in found if not any(known in line for known in _NO_ERRORS))


def load_tensorflow() -> None:
    """Imports TensorFlow and looks for its devices, quietly."""
    with quiet_loading():
        settle_tensorflow()


def settle_tensorflow() -> None:
    """Lets TensorFlow write, in a block of `quiet_loading`, what it writes once a process."""
    import tensorflow as tf

    tf.config.list_logical_devices()  # the first look for a GPU prints as much as the import
    with tf.device("CPU"):  # where oneDNN tells of an error when integers are first transposed
        tf.transpose(tf.zeros((2, 2), tf.int64))
