"""The model of a fine-tuned run evaluated again, through the command."""

import pytest

from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.tiny_runs import summary_of
from tests.keras_vitbert.tiny_tasks import finetune, rows_of
from tests.marks import slow


@pytest.mark.parametrize("run", [slow("swept"), "text_run"])
def test_a_saved_model_is_evaluated_again(request, run, image_task, text_task, tmp_path):
    folder = request.getfixturevalue(run)
    summary, path = summary_of(folder), tmp_path / "predictions.csv"
    data = image_task if run == "swept" else text_task
    path = path.parent / "new" / path.name
    flags = [f"--task={summary['task']}", f"--data_dir={data}", f"--predictions={path}"]
    flags.append("--config.evaluation_batch=4")  # as in the run: others round differently
    assert finetune("--evaluate_only", f"--checkpoint={folder}", *flags) == EXIT_DONE
    kept = rows_of(folder / summary["model"] / "predictions.csv")
    assert rows_of(path) == kept and len(kept) == summary["splits"]["validation"]["examples"]
