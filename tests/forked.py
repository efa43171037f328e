"""Processes of tests that begin with TensorFlow imported: forked from a server that has done so.

The import takes longer than what most tests ask of a process of their own.
"""

import multiprocessing
import os
import sys
import tempfile

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


class Forked:
    """A process that calls a function and ends with the status that it returns.

    Args:
        function: callable that can be pickled; returns an exit status, or None for 0.
        *arguments: what it is called with.
        **environment: variables of the process, beside those of this one.
    """

    def __init__(self, function, *arguments, **environment):
        file, self._errors = tempfile.mkstemp()
        os.close(file)
        environment = {"CUDA_VISIBLE_DEVICES": "-1", **environment}
        arguments = (self._errors, environment, function, arguments)
        self._process = _CONTEXT.Process(target=_call, args=arguments, daemon=True)
        self._process.start()

    def send(self, number):
        """Sends it a signal; returns whether it was still there."""
        if self._process.exitcode is None:
            os.kill(self._process.pid, number)
            return True
        return False

    def end(self, seconds=300):
        """Waits for the end; returns the exit status, that of a signal negative, and stderr."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        with open(self._errors) as file:
            errors = file.read()
        os.unlink(self._errors)
        return self._process.exitcode, errors


def _call(errors, environment, function, arguments):
    os.environ.update(environment)
    for path, standard in ((os.devnull, 1), (errors, 2)):
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, standard)
        os.close(file)
    sys.exit(function(*arguments))
