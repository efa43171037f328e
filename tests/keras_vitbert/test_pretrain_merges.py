"""Whole runs with merges that have state or draw numbers: stopped and resumed, to the bit.

One with everything at once, a learned merge among it, is killed in `test_pretrain_again`;
eager steps of these are in `runs/test_checkpoints.py`.
"""

import pytest

from pipelines.command_line import EXIT_DONE, EXIT_STOPPED
from tests.keras_vitbert.tiny_runs import (
    assert_same_values,
    checkpoint_values,
    metrics_rows,
    pretrain,
    summary_of,
)

# Name, further settings; what must be among the names of the checkpoint's variables.
MERGES = {
    "mask+gradvac": (["merge.per_block=True", "optimizer.name=adafactor"], ["target_cosine"]),
    "famo": (["optimizer.name=lamb", "optimizer.ema=0.5"], ["logits", "_average"]),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", MERGES)
def test_a_stopped_run_ends_as_the_unbroken_one(sources, tmp_path, signal_at, name):
    options, variables = MERGES[name]
    argv = ["--variant=vitbert_no_kd", f"--config.merge.name={name}"]
    argv += [f"--config.{option}" for option in options]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert pretrain(sources, whole, *argv) == EXIT_DONE
    signal_at("batch", "joint", 3)
    assert pretrain(sources, parts, *argv) == EXIT_STOPPED
    again = ["--config.remat=True"] if name == "famo" else []  # which changes no number
    assert pretrain(sources, parts, *argv, *again) == EXIT_DONE
    assert summary_of(parts)["resumed_from_step"] == 3
    values = checkpoint_values(whole)
    for variable in variables:
        assert any(variable in key for key in values)
    assert_same_values(values, checkpoint_values(parts))
    rows = metrics_rows(whole)
    assert rows == metrics_rows(parts)
    assert "merge/text_weight" in rows[-1] and "merge/image_weight" in rows[-1]
