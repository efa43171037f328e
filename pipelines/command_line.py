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

Without `--debug`, library output on stderr is filtered, see `pipelines.stderr_filter`.

This module imports nothing heavy, so that a bad flag is reported at once.
"""

import atexit
import contextlib
import difflib
import errno
import gc
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import traceback

from pipelines import stderr_filter
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
# Messages of errors from a disk that cannot be written to.
_DISK_REASONS = tuple(
    map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES))
)
# Ends of TensorFlow's messages about local paths; before them stands the path.
_PATH_REASONS = tuple(
    f"; {os.strerror(number)}" for number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
)
_REMOTE_ERRORS = ("NotFoundError", "PermissionDeniedError", "UnauthenticatedError")
_NO_SCHEME = "File system scheme "  # '...' not implemented


class Diverged(Exception):
    """A loss or a gradient is no longer finite."""

    status, label = EXIT_DIVERGED, "diverged"


class Stopped(BaseException):
    """SIGTERM or SIGINT ended the work; what was done is saved.

    Like `KeyboardInterrupt`, it is not an `Exception`, so no handler mistakes it for a failure.
    """

    status, label = EXIT_STOPPED, "stopped"


class NoReader(Exception):
    """Nobody reads stdout any more."""

    status, label = EXIT_NO_READER, ""


def run(main, argv=None):
    """Runs `main(argv)` and turns its exceptions into the exit statuses above.

    Args:
        main: callable that takes the list of arguments without the program's name.
        argv: list of str, `sys.argv[1:]` by default; the command is then the whole program, and its
            stderr is filtered. `--debug` anywhere in it shows tracebacks and all of stderr.

    Returns:
        int, the exit status.
    """
    if argv is not None:
        return _run(main, argv)
    _use_utf8()
    _open_stderr()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    atexit.register(gc.freeze)  # otherwise the interpreter takes two seconds longer to exit
    argv = sys.argv[1:]
    with contextlib.nullcontext() if "--debug" in argv else stderr_filter.filtered():
        return _run(main, argv)


def _run(main, argv):
    debug = "--debug" in argv
    _backends[:] = ["tensorflow"]
    try:
        with stop_signals():
            for argument in argv:
                check_utf8(argument)
            main([argument for argument in argv if argument != "--debug"])
        end = _unwritten()
    except (ValueError, Diverged, Stopped) as error:
        if debug:
            traceback.print_exc()
        end = error
        _unwritten()
    except (OSError, SystemExit) as error:  # perhaps from printing; the latter after --help
        of_printing = isinstance(error, OSError) and error.filename is None
        end = _unwritten("\n" if of_printing else "") or _of_files(error)
        if end is None:
            raise
    except Exception as error:
        if debug or (end := _of_files(error)) is None:
            raise
    if end is None:
        return EXIT_DONE
    if isinstance(end, ValueError):
        status, label = EXIT_BAD_INPUT, "error"
    else:
        status, label = end.status, end.label
    if label:
        stderr_filter.settle()  # so that the line below comes last
        say(f"{label}: {one_line(end)}")
    return status


def _of_files(error):
    """The exception to end with if a file could not be reached, wherever that was; else None.

    The system's own errors name the file. TensorFlow and h5py raise their own exceptions for a disk
    that cannot be written, which quote the system's message. TensorFlow has more for files that
    cannot be read, and one for paths such as `http://...`.
    """
    text = one_line(error)
    if isinstance(error, OSError) and error.filename:
        return ValueError(f"{error.filename}: {error.strerror}")
    if _NO_SCHEME in text:
        return ValueError(f"{text[:400]}; copy it to this machine, or give a path of gs://")
    if any(reason in text for reason in _DISK_REASONS):
        return ValueError(f"{text[:400]}; fix that, and run the same command again")
    is_remote = type(error).__name__ in _REMOTE_ERRORS and "gs://" in text
    if is_remote or any(reason in text for reason in _PATH_REASONS):
        return ValueError(text[:400])
    return None


def _use_utf8():
    """Restarts the program in Python's UTF-8 mode if the locale has another encoding.

    TensorFlow treats file names and file content as UTF-8, whatever the locale.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _open_stderr():
    """Discards what is written to stderr if it was closed before the program began.

    Otherwise libraries would write to the next opened file, which would get descriptor 2.
    """
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        os.set_inheritable(2, True)
        sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)


def check_utf8(path):
    """Refuses a path that is not UTF-8, which TensorFlow cannot open.

    Args:
        path: str.

    Raises:
        ValueError: it is not.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{ascii(path)}: is not UTF-8; rename the file") from None


def _unwritten(more=""):
    """Writes `more` and flushes stdout; returns the exception to end with if that fails."""
    try:
        print(end=more, flush=True)
        return None
    except OSError as error:
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return NoReader()
        return ValueError(f"stdout: cannot be written ({error.strerror}); send it elsewhere")


def one_line(error):
    """Folds the text of an exception into one line, without TensorFlow's name of an operation.

    Args:
        error: exception, or its text.

    Returns:
        str.
    """
    return " ".join(re.sub(r"\{\{function_node .*?\}\}", "", str(error)).split())


def meant(name, known, prefix=""):
    """A hint at the closest known name.

    Args:
        name: str, an unknown name.
        known: iterable of str.
        prefix: str, written before the known name.

    Returns:
        str, ` (did you mean ...?)`, or empty if no known name is close.
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def install(extra):
    """What installs an extra of this project, for messages: it is on no package index.

    Args:
        extra: str.

    Returns:
        str.
    """
    return f'pip install -e ".[{extra}]" in the checkout of keras-vitbert'


class StopRequest:
    """Remembers SIGTERM and SIGINT, so that work can end where it can be resumed.

    Outside `deferred()` a signal raises `Stopped` at once. Inside it, the signal is only noted in
    `requested`: training checks that after each step, saves, and raises `Stopped` itself. A second
    SIGINT does not wait for that.
    """

    def __init__(self):
        self.requested = False
        self._deferred = 0

    def __call__(self, signal_number, frame):
        impatient = self.requested and signal_number == signal.SIGINT
        self.requested = True
        if impatient or not self._deferred:
            raise Stopped(f"by {signal.Signals(signal_number).name}; run the same command again")

    @contextlib.contextmanager
    def deferred(self):
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
def stop_signals():
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


def hear_signals_again():
    """Restores the handlers of `stop_signals` where other code has replaced them unnoticed.

    TensorFlow's servers install a SIGTERM handler without telling Python.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is stop_request:
            signal.signal(number, stop_request)


def choose_backend(name):
    """Chooses Keras' backend for a command that also runs on JAX. Call it before Keras is loaded.

    Args:
        name: str, the value of `--backend`, or None if it is not given.

    Returns:
        str, `KERAS_BACKEND`, by default `tensorflow`.

    Raises:
        ValueError: there is no such backend.
    """
    if name is not None:
        if name not in ("tensorflow", "jax"):
            raise ValueError(f"--backend={name}: give tensorflow or jax")
        os.environ["KERAS_BACKEND"] = name
    _backends[:] = ["tensorflow", "jax"]
    return os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextlib.contextmanager
def quiet_loading():
    """Holds back TensorFlow's output on stderr while the block loads it, and reports the loading.

    The output is notes on oneDNN and CUDA, written before logging obeys `TF_CPP_MIN_LOG_LEVEL`.
    It is shown if loading fails, except with a `ValueError` or a signal, which take one line.

    Raises:
        ValueError: Keras would run on a backend that `choose_backend` has not allowed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    is_worker = multiprocessing.parent_process() is not None  # of a job, which has many
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in _backends and not is_worker:
        raise ValueError(f"KERAS_BACKEND={backend}: must be {' or '.join(_backends)}; unset it")
    hold = stderr_filter.held if stderr_filter.is_active() else _held
    missing = [name for package, name in _HEAVY.items() if package not in sys.modules]
    said = doing(f"loading {missing[0]}") if missing and not is_worker else contextlib.nullcontext()
    with said, hold():
        yield


@contextlib.contextmanager
def _held():
    """Holds back what is written to descriptor 2 if no filter is active."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except (ValueError, Stopped):
            raise
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def load_tensorflow():
    """Imports TensorFlow and looks for its devices, quietly."""
    with quiet_loading():
        import tensorflow as tf

        tf.config.list_logical_devices()  # the first look for a GPU prints as much as the import
