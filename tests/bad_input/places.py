"""The folder that the commands of the table of bad input run in."""

import os
import pathlib
import shutil

TESTS = pathlib.Path(__file__).parents[1]
SAVED = TESTS / "keras_vitbert" / "trained" / "saved"
FIXTURES = TESTS / "keras_vitbert" / "trained" / "fixtures"

CONFIGS = {
    "exits": "import sys\nsys.exit(0)",
    "fails": "def get_config():\n    raise OSError('two\\nlines')",
}
TSV = {
    "masks": "sentence\n[MASK]\nword1\n[MASK] word2\n",
    "other": "a\tb\na\ta\n",
}
TASKS = {
    "pairs": "index\tsentence1\tsentence2\tlabel\n"
    + "0\tword1\tword2\tno\n1\tword3\tword4\tyes\n" * 4,
    "bad_line": "sentence\tlabel\na\tno\nb\n",
}


def write(folder):
    """Writes models of an earlier state, copies of other projects' models, and broken files."""
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    for name in ("run", "fine_tuned_texts", "preset", "export"):
        shutil.copytree(SAVED / name, folder / name)
    for name in ("bert", "vit", "vit_model"):
        shutil.copytree(FIXTURES / name, folder / "others" / name)
    for name in ("hollow", "empty_train/train", "no_words"):
        (folder / name).mkdir(parents=True)
    (folder / "words.txt").write_text("words\n" * 20)
    (folder / "no_words" / "a.txt").write_text("\n\n")
    (folder / "zeros").write_bytes(bytes(1600))
    (folder / "plain.npz").write_bytes(b"PK")
    (folder / "records").write_bytes(b"no records " * 9)
    vocabulary = (SAVED / "run" / "vocabulary.txt").read_text()
    (folder / "vocab.txt").write_text(vocabulary)
    (folder / "twice.txt").write_text(f"{vocabulary}word0\n")
    (folder / "no_pad.txt").write_text(vocabulary.partition("\n")[2])
    shutil.copy(SAVED / "image.jpg", folder)
    os.mkfifo(folder / "pipe")
    for name, text in CONFIGS.items():
        (folder / f"{name}.py").write_text(f"{text}\n")
    for name, text in TSV.items():
        (folder / f"{name}.tsv").write_text(text)
    for name, text in TASKS.items():
        (folder / name).mkdir()
        for part in ("train", "dev"):
            (folder / name / f"{part}.tsv").write_text(text)
    return folder
