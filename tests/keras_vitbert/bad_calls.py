"""Refused calls: status 2, one line that names the culprit, and a folder left as it was."""

from pipelines.command_line import EXIT_BAD_INPUT
from tests.keras_vitbert.tiny_runs import files_below


def assert_refused(call, capture, folder, culprit, untouched=True):
    """`call()` is refused; with `untouched`, before anything is written or printed.

    Args:
        call: function that returns an exit status.
        capture: the fixture `capsys` or `capfd`.
        folder: what is compared.
        culprit: str, in the error, which is the last line of stderr.
        untouched: bool; false where training has begun.
    """
    before = files_below(folder)
    capture.readouterr()
    assert call() == EXIT_BAD_INPUT
    out, err = capture.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors == err.splitlines()[-1:] and "Traceback" not in out + err
    assert culprit in errors[0]
    if untouched:
        assert not out and files_below(folder) == before
