"""`--profile=START,STOP` leaves a trace that TensorBoard shows."""

import pytest

from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.tiny_runs import pretrain


@pytest.mark.slow
def test_a_run_leaves_its_trace(sources, tmp_path):
    flags = sources, tmp_path / "run", "--variant=vit"
    assert pretrain(*flags, "--profile=5,6") == EXIT_DONE
    [trace] = (tmp_path / "run" / "train" / "plugins" / "profile").rglob("*.xplane.pb")
    content = trace.read_bytes()
    assert b"/host:CPU" in content and b"train" in content and b"step_num" in content
