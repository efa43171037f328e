"""Pre-training with teachers from elsewhere: whole runs of the command, and its loss."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.runs import callbacks
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.merging import GradientSum
from keras_vitbert.training.optimizers import SGD
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE, EXIT_STOPPED
from tests.keras_vitbert.importing.test_hugging_face import FIXTURES
from tests.keras_vitbert.tiny_runs import (
    VOCABULARY,
    assert_same_values,
    checkpoint_values,
    files_below,
    metrics_rows,
    pretrain,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of `vit` and `bert`: the fixtures, by the words and classes of the tiny data.

    The BERT has a row more than there are words; the ViT's images are larger than the student's.
    """
    folder = tmp_path_factory.mktemp("teachers")
    for name in ("vit", "bert"):
        shutil.copytree(FIXTURES / name, folder / name)
    (folder / "bert" / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    config = json.loads((folder / "vit" / "config.json").read_text())
    config["id2label"] = {"0": "Cat", "1": "dog, Canis familiaris", "2": "n01440764"}
    (folder / "vit" / "config.json").write_text(json.dumps(config))
    return folder


def flags(folders):
    return [
        "--variant=vitbert",
        f"--image_teacher={folders / 'vit'}",
        f"--text_teacher={folders / 'bert'}",
    ]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_the_same(folders, sources, finished, tmp_path, monkeypatch):
    wanted = finished("vitbert", *flags(folders)[1:])
    assert not (wanted / "teachers").exists()
    untaught = finished("vitbert", "--config.distillation.ratio=0")
    ours, others = checkpoint_values(wanted), checkpoint_values(untaught)
    weights = [name for name in ours if name.startswith("network") and "kernel" in name]
    assert weights and not any(np.array_equal(ours[name], others[name]) for name in weights)

    folder = tmp_path / "run"
    ended = callbacks.DivergenceGuard.on_train_batch_end

    def stop(self, number, logs=None):
        if self.model.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        ended(self, number, logs)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.DivergenceGuard, "on_train_batch_end", stop)
        assert pretrain(sources, folder, *flags(folders)) == EXIT_STOPPED
    assert not (folder / "summary.json").exists()
    assert pretrain(sources, folder, *flags(folders)) == EXIT_DONE
    assert json.loads((folder / "summary.json").read_text())["resumed_from_step"] == 6
    assert_same_values(checkpoint_values(folder), checkpoint_values(wanted))
    assert metrics_rows(folder) == metrics_rows(wanted)


def test_nothing_is_written_where_a_teacher_is_refused(folders, sources, tmp_path, capsys):
    given = flags(folders)
    given[2] = f"--text_teacher={FIXTURES / 'bert'}"
    assert pretrain(sources, tmp_path / "run", *given) == EXIT_BAD_INPUT
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {given[2]}: has another vocabulary: token 36 is 'word31', ")
    assert not (tmp_path / "run").exists() or files_below(tmp_path / "run") == {}


def test_a_teacher_without_a_next_sentence_head_teaches_masked_words(make_network, make_batch):
    whole = make_network(7, images=False)

    def words_alone(inputs, training=None):
        return {"mlm_logits": whole(inputs, training=training)["mlm_logits"]}

    batch = {name: tf.constant(value) for name, value in make_batch(0).items()}
    losses = {}
    for name, teacher in (("none", None), ("whole", whole), ("words", words_alone)):
        trainer = JointTrainer(
            make_network(0, images=False),
            GradientSum(),
            teachers=Teachers(text=teacher),
            distillation_ratio=0.7,
        )
        trainer.compile(optimizer=SGD(0.1))
        losses[name] = {n: float(v) for n, v in trainer.train_step(batch).items()}
    assert losses["words"]["mlm_loss"] == losses["whole"]["mlm_loss"]
    assert losses["words"]["mlm_loss"] != losses["none"]["mlm_loss"]
    assert losses["words"]["nsp_loss"] == losses["none"]["nsp_loss"]
    assert losses["words"]["nsp_loss"] != losses["whole"]["nsp_loss"]
