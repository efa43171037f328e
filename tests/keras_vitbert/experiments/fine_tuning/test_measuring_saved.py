"""The model of a fine-tuned run evaluated again, through the command."""

import json
import pathlib
import shutil

import numpy as np

from keras_vitbert.experiments.fine_tuning import measuring
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.keras_vitbert.tiny_runs import content_of, summary_of
from tests.keras_vitbert.tiny_tasks import finetune, rows_of


def test_a_saved_model_is_evaluated_again(text_run, text_task, tmp_path):
    summary, path = summary_of(text_run), tmp_path / "new" / "predictions.csv"
    flags = [f"--task={summary['task']}", f"--data_dir={text_task}", f"--predictions={path}"]
    flags.append("--config.evaluation_batch=4")  # as in the run: others round differently
    assert finetune("--evaluate_only", f"--checkpoint={text_run}", *flags) == EXIT_DONE
    kept = rows_of(text_run / summary["model"] / "predictions.csv")
    assert rows_of(path) == kept and len(kept) == summary["splits"]["validation"]["examples"]


def test_texts_are_in_the_columns_that_the_run_was_trained_on(
    text_run, text_task, tmp_path, capsys
):
    """Not in those with usual names, which another table has beside them."""
    run, table, found = (tmp_path / name for name in ("run", "other.tsv", "found.csv"))
    shutil.copytree(text_run, run)
    record = content_of(run / "config.json")
    assert record["columns"] == {"sentences": ["sentence1", "sentence2"], "label": "label"}
    record["columns"] = {"sentences": ["b", "a"], "label": "kind"}
    (run / "config.json").write_text(json.dumps(record))
    lines = [line.split("\t") for line in (text_task / "dev.tsv").read_text().splitlines()[1:]]
    rows = ["sentence1\tsentence2\tlabel\ta\tb\tkind"]
    rows += [f"x\ty\tno\t{second}\t{first}\t{kind}" for _, first, second, kind in lines]
    table.write_text("\n".join(rows) + "\n")
    flags = ["--evaluate_only", f"--checkpoint={run}", f"--predictions={found}"]
    assert finetune(*flags, f"--test={table}", "--config.evaluation_batch=4") == EXIT_DONE
    kept = rows_of(run / summary_of(run)["model"] / "predictions.csv")
    assert rows_of(found) == [{**row, "split": "test"} for row in kept]
    table.write_text("text\tlabel\nword1\tno\nword2\tyes\n")
    capsys.readouterr()
    assert finetune(*flags, f"--test={table}") == EXIT_BAD_INPUT
    assert str(table) in capsys.readouterr().err


def test_answers_that_are_not_finite(text_task, tmp_path, capsys, monkeypatch):
    run = pathlib.Path(__file__).parents[2] / "trained" / "saved" / "fine_tuned_texts"

    def damaged(source, dtype):
        trained = open_source(source, dtype)
        for variable in trained.network.head.weights:
            variable.assign(np.full(variable.shape, 1e38))
        return trained

    open_source = measuring.open_source
    monkeypatch.setattr(measuring, "open_source", damaged)
    flags = [f"--checkpoint={run}", f"--data_dir={text_task}", f"--predictions={tmp_path}/x.csv"]
    assert finetune("--evaluate_only", *flags) == EXIT_BAD_INPUT
    out, err = capsys.readouterr()
    assert str(run) in err.splitlines()[-1] and "not finite" in err.splitlines()[-1]
    assert not out and not (tmp_path / "x.csv").exists()
