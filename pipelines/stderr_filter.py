"""Keeps library notes out of a command's stderr, and loses nothing else.

TensorFlow, XLA, oneDNN and libjpeg write to file descriptor 2 from native code, bypassing Python.
So descriptor 2 becomes a pipe, and a separate process reads it. It passes on every line that is not
known to be noise. A thread would be simpler, but it would die with the command, and so would what
the pipe still held: the last output before a crash. The process outlives the command. After a
crash, it also shows what it had dropped. It is forked before TensorFlow is loaded, so it is small
and safe.

Python's own `sys.stderr` bypasses the pipe: messages, tracebacks and `faulthandler` keep their
order and do not need the process. Child processes inherit the pipe.
"""

import collections
import contextlib
import fcntl
import io
import os
import re
import select
import signal
import sys

# Lines that are dropped: notes, and warnings that do not apply.
_NOISE = re.compile(
    rb"^I\d{4} \d\d:\d\d:\d"  # of absl and XLA: information
    rb"|^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: I "  # of TensorFlow: information
    rb"|^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|oneDNN supports DT_INT(32|64) only on "
    rb"|oneDNN custom operations are on"
    rb"|Unable to register cu(FFT|DNN|BLAS) factory"
    rb"|computation placer already registered"
    rb"|Could not find (cuda drivers|TensorRT)|TF-TRT Warning: Could not find"
    rb"|failed call to cuInit: .*(NO_DEVICE|no CUDA-capable device|UNKNOWN ERROR \(303\))"
    rb"|Cannot dlopen some GPU libraries|^Skipping registering GPU devices"
    rb"|This TensorFlow binary is optimized to use available CPU instructions"
    rb"|^To enable the following instructions: .* rebuild TensorFlow"
)
# Lines about damaged images: one line at the end stands for all of them.
_JPEG = re.compile(
    rb"^(Corrupt JPEG data|Premature end of JPEG|Invalid SOS parameters|Warning: unknown JFIF)"
    rb"|jpeg_mem\.cc:\d+\]|extraneous bytes before marker|Inconsistent progression sequence"
)
# Commands, written into the pipe after a zero byte, each on its own line.
_HOLD, _PASS, _SHOW, _SYNC, _END = b"hold", b"pass", b"show", b"sync", b"end"
# Signals that the filter ignores: it ends when the pipe does.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_KEPT = 200  # lines: the last ones that were dropped
_PATIENCE = 0.2  # seconds until an unfinished line is passed on
_ANSWER = 2.0  # seconds to wait for the filter

_active = None


class _Parent:
    """The command's end of the filter, which reads `pipe` and writes `answers`."""

    def __init__(self, pipe, answers):
        self.pipe, self.answers = pipe, answers

    def tell(self, command):
        """Sends a command, and waits for the answer, for a limited time, if it has one."""
        with contextlib.suppress(OSError):  # it is gone, and so is the reader of stderr
            os.write(self.pipe, b"\0" + command + b"\n")
            if command in (_SYNC, _END) and select.select([self.answers], [], [], _ANSWER)[0]:
                os.read(self.answers, 1)


@contextlib.contextmanager
def filtered():
    """Filters what is written to descriptor 2 while the block runs.

    After an unexpected exception, what was dropped is shown as well. It does nothing if stderr is
    closed. Call it before other threads start.
    """
    global _active
    try:
        true = _high(os.dup(2))
    except OSError:
        yield
        return
    pipe, answers = _start(true)
    stderr, underscored = sys.stderr, sys.__stderr__
    stderr.flush()
    own = io.TextIOWrapper(
        io.FileIO(true, "w", closefd=False),
        encoding=stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    sys.stderr = sys.__stderr__ = own
    os.dup2(pipe, 2)
    _active = _Parent(pipe, answers)
    try:
        yield
    except SystemExit:
        raise
    except BaseException:
        _active.tell(_SHOW)
        raise
    finally:
        _active.tell(_END)
        _active = None
        with contextlib.suppress(OSError):
            own.flush()
        os.dup2(true, 2)
        sys.stderr, sys.__stderr__ = stderr, underscored
        for descriptor in (pipe, answers, true):
            os.close(descriptor)


def is_active():
    """Whether a filter is active."""
    return _active is not None


@contextlib.contextmanager
def held():
    """Drops all that the block writes to descriptor 2.

    It is shown with all else that was dropped: by `filtered` after an unexpected exception, or when
    the command crashes.
    """
    filter_ = _active
    assert filter_ is not None
    filter_.tell(_HOLD)
    try:
        yield
    finally:
        filter_.tell(_PASS)


def settle():
    """Waits until what was written so far is shown."""
    if _active is not None:
        _active.tell(_SYNC)


def _high(descriptor):
    """Moves a descriptor away from those of stdin, stdout and stderr, one of which may be free."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return high


def _start(true):
    """Starts the process; returns the descriptors of its pipe and of its answers."""
    reads, pipe = map(_high, os.pipe())
    answers, answer = map(_high, os.pipe())
    # A Ctrl-C at the wrong moment would raise in the new process before it ignores the signal.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    if os.fork():
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(reads)
        os.close(answer)
        return pipe, answers
    try:  # from here on nothing of the command may run in this process
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        kept = sorted((reads, true, answer))
        for low, high in zip([0, *(number + 1 for number in kept)], [*kept, 1 << 16], strict=True):
            os.closerange(low, high)
        _serve(reads, true, answer)
    finally:
        os._exit(0)


def _serve(pipe, true, answer):
    """Reads the pipe to its end."""
    lines = _Lines(true)
    rest = b""
    while True:
        if rest and not select.select([pipe], [], [], _PATIENCE)[0]:
            lines.take(rest)
            rest = b""
        block = os.read(pipe, 1 << 16)
        if not block:
            break
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            before, zero, command = line.partition(b"\0")
            if zero and command in (_HOLD, _PASS, _SHOW, _SYNC, _END):
                if before:
                    lines.take(before)
                lines.obey(command)
                if command in (_SYNC, _END):
                    with contextlib.suppress(OSError):
                        os.write(answer, b"!")
            else:
                lines.take(line + b"\n")
    if rest:
        lines.take(rest)
    if not lines.is_ended:  # the command has crashed, or was killed
        lines.show()


class _Lines:
    """Decides what happens to each line."""

    def __init__(self, true):
        self.true = true
        self.is_ended = self.is_held = False
        self.dropped = collections.deque(maxlen=_KEPT)
        self.damaged = 0

    def take(self, line):
        if _JPEG.search(line):
            self.damaged += 1
            self.dropped.append(line)
        elif self.is_held or _NOISE.search(line):
            self.dropped.append(line)
        else:
            self.write(line)

    def obey(self, command):
        if command == _SHOW:
            self.show()
        elif command == _END:
            self.is_ended = True
            if self.damaged:
                text = f"{self.damaged:,} warnings of damaged JPEG images\n"
                self.write(text.encode())
        elif command != _SYNC:
            self.is_held = command == _HOLD

    def show(self):
        if self.dropped:
            self.write(b"notes of libraries, held back until now:\n" + b"".join(self.dropped))
            self.dropped.clear()

    def write(self, text):
        while text:
            try:
                text = text[os.write(self.true, text) :]
            except OSError:  # nobody reads it, or the disk is full
                return
