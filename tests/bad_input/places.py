"""The folder that the commands of the table of bad input run in."""

import os
import pathlib
import shutil

TESTS = pathlib.Path(__file__).parents[1]
SAVED = TESTS / "keras_vitbert" / "trained" / "saved"
FIXTURES = TESTS / "keras_vitbert" / "importing" / "fixtures"

CONFIGS = {
    "exits": "import sys\nsys.exit(0)",
    "exits_with_text": "raise SystemExit('x')",
    "interrupts": "raise KeyboardInterrupt",
    "no_syntax": "x = (",
    "no_module": "import no_such_module",
    "no_function": "x = 1",
    "no_config": "def get_config():\n    return 3",
    "few_keys": "def get_config():\n    return {'steps': 3}",
    "fails": "def get_config():\n    raise OSError('two\\nlines')",
    "recursive": "def get_config():\n    return get_config()",
    "unset": "from keras_vitbert.configs import sample\n\n"
    "def get_config():\n    config = sample.get_config()\n    with config.ignore_type():\n"
    "        config.steps = None\n    return config",
}
TSV = {
    "masks": "sentence\n[MASK]\nword1\n[MASK] word2\n",
    "header": "sentence\n",
    "odd": "sentence\na\na\tb\n",
    "other": "a\tb\na\ta\n",
}
TASKS = {
    "pairs": "index\tsentence1\tsentence2\tlabel\n"
    + "0\tword1\tword2\tno\n1\tword3\tword4\tyes\n" * 4,
    "one_class": "sentence\tlabel\n" + "a\tno\n" * 6,
    "bad_line": "sentence\tlabel\na\tno\nb\n",
    "no_label": "sentence\tid\tkind\na\t1\tno\n",
}


def write(folder):
    """Writes models of an earlier state, copies of other projects' models, and broken files."""
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    for name in ("run", "fine_tuned_images", "fine_tuned_texts", "preset", "export"):
        shutil.copytree(SAVED / name, folder / name)
    for name in ("bert", "vit", "deit", "vit_model"):
        shutil.copytree(FIXTURES / name, folder / "others" / name)
    for name in ("empty", "empty_train/train", "one_image/train/cat", "flat", "no_words"):
        (folder / name).mkdir(parents=True)
    (folder / "file").write_text("words\n" * 20)
    (folder / "latin1.txt").write_bytes(b"gr\xfc\xdfe\n")
    (folder / "nul.txt").write_bytes(b"a\x00b\n")
    (folder / "no_words" / "a.txt").write_text("\n\n")
    (folder / "objects.json").write_text("{]\n")
    (folder / "deep.json").write_text('{"a":' * 100_000)
    (folder / "plain.xml").write_text("<html></html>")
    (folder / "no_pages.xml").write_text("<mediawiki></mediawiki>")
    (folder / "zeros").write_bytes(bytes(1600))
    (folder / "plain.npz").write_bytes(b"PK")
    (folder / "records").write_bytes(b"no records " * 9)
    vocabulary = (SAVED / "run" / "vocabulary.txt").read_text()
    (folder / "vocab.txt").write_text(vocabulary)
    (folder / "twice.txt").write_text(f"{vocabulary}word0\n")
    # TensorFlow Text makes Cherokee letters upper-case where it makes others lower-case.
    (folder / "cherokee.txt").write_text(f"{vocabulary}\u13a0\n", encoding="utf-8")
    (folder / "no_pad.txt").write_text(vocabulary.partition("\n")[2])
    image = (SAVED / "image.jpg").read_bytes()
    (folder / "image.jpg").write_bytes(image)
    (folder / "one_image/train/cat/a.jpg").write_bytes(image)
    (folder / "flat/a.jpg").write_bytes(image)
    (folder / "cut.jpg").write_bytes(image[: len(image) // 2])
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
