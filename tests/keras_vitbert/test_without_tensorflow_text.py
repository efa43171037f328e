"""Fine-tuning and prediction where tensorflow-text is not installed, and what is refused there."""

import json
import os
import subprocess
import sys

import pytest

TEXT = "word1 word2 [MASK] Word3, É."
SCRIPT = """
import sys
sys.modules["tensorflow_text"] = None  # as where it is not installed, for keras_hub too
from keras_vitbert import export, finetune, predict
from pipelines import vocabulary
from pipelines.command_line import run

folder, text, export_dir, *flags = sys.argv[1:]
one = ["--format=json", f"--text={text}", f"--text_pair={text}"]
flags += [f"--output_dir={folder}/run", f"--predictions={folder}/all.csv"]
assert run(finetune.main, flags) == 0
assert run(predict.main, [f"--checkpoint={folder}/run", *one, f"--output={folder}/one.json"]) == 0
assert run(export.main, [f"--checkpoint={folder}/run", f"--output_dir={folder}/served"]) == 2
assert run(predict.main, [f"--checkpoint={export_dir}", *one]) == 2
documents = f"--documents={folder}/documents.jsonl"
assert run(vocabulary.main, [documents, f"--output={folder}/vocab.txt"]) == 2
"""


@pytest.mark.slow
def test_text_without_tensorflow_text(text_flags, text_run, exported, tmp_path, capsys):
    from keras_vitbert import predict
    from pipelines.command_line import run

    document = {"title": "one", "paragraphs": ["The cats sat."]}
    (tmp_path / "documents.jsonl").write_text(json.dumps(document) + "\n")
    command = [sys.executable, "-c", SCRIPT, tmp_path, TEXT, exported / "vitbert", *text_flags]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    refused = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(refused) == 3 and all("tensorflow-text" in line for line in refused)
    assert not os.path.exists(tmp_path / "served") and not os.path.exists(tmp_path / "vocab.txt")
    # The same tokens make the same run.
    assert (tmp_path / "all.csv").read_text() == (text_run.parent / "all.csv").read_text()
    one = [f"--text={TEXT}", f"--text_pair={TEXT}", "--format=json"]
    assert (
        run(predict.main, [f"--checkpoint={text_run}", *one, f"--output={tmp_path}/it.json"]) == 0
    )
    assert (tmp_path / "one.json").read_text() == (tmp_path / "it.json").read_text()
