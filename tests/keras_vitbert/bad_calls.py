"""Calls of `pretrain` that are refused: status 2, one line that names the culprit."""

from pipelines.command_line import EXIT_BAD_INPUT
from tests.keras_vitbert.tiny_runs import files_below, pretrain


def assert_refused(sources, capsys, output_dir, *flags, culprit, untouched=True):
    """The call is refused, and leaves the output as it was unless it has begun to train."""
    before = files_below(output_dir)
    capsys.readouterr()
    assert pretrain(sources, output_dir, *flags) == EXIT_BAD_INPUT
    out, err = capsys.readouterr()
    [error] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert err.splitlines()[-1] == error and culprit in error
    assert "Traceback" not in err + out
    if untouched:
        assert not out and files_below(output_dir) == before
