"""The notebook `docs/first_hour.ipynb` runs from its first cell to its last."""

import ast
import pathlib

import pytest

NOTEBOOK = pathlib.Path(__file__).parents[2] / "docs" / "first_hour.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(finished, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("CHECKPOINT", str(finished("vit")))
    monkeypatch.setenv("MORE", "--config.steps=20 --config.steps_per_epoch=10")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    found, trained, wrong = texts[1:4]
    assert "train 1,437, test 360" in found and "runs/tuned" in trained
    assert "of 360 are wrong" in wrong
    # The exported graph gives probabilities of the five likeliest classes.
    [shares] = [output["data"]["text/plain"] for output in cells[-1].outputs]
    shares = ast.literal_eval(shares)
    assert len(shares) == 5 and set(shares) <= set("0123456789")
