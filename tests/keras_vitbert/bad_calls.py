"""Calls of `pretrain` that are refused: status 2, one line that names culprit and fix."""

import re

from pipelines.command_line import EXIT_BAD_INPUT
from tests.keras_vitbert.tiny_runs import files_below, pretrain
from tests.said import without_status

# What else may be there is progress of what went well before.
PROGRESS = (
    r"^\w+: [\d,]+ parameters|^\w+: \d+ steps are done|^resumed at step|^\w+: step [\d,]+ of "
    r"|^a record cannot be read; looking for it"
    r"|: looking for damaged records in \d+ files"
    r"|the other rows are never trained$|: is an older checkpoint, the run ended at step"
)


def assert_refused(sources, capsys, output_dir, *flags, message, untouched=True):
    """The call is refused, and leaves the output as it was."""
    before = files_below(output_dir) if output_dir.is_dir() else None
    capsys.readouterr()
    status = pretrain(sources, output_dir, *flags)
    out, err = capsys.readouterr()
    lines = without_status(err)
    assert status == EXIT_BAD_INPUT, err
    assert lines[-1].startswith("error: ")
    assert re.search(message, lines[-1]), lines[-1]
    assert [line for line in lines[:-1] if not re.search(PROGRESS, line)] == []
    assert "Traceback" not in err + out
    if untouched:
        assert out == "" and len([line for line in lines if "older checkpoint" not in line]) == 1
        after = files_below(output_dir) if output_dir.is_dir() else None
        assert after == before or (before is None and after == {})
