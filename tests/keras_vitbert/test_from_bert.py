"""A published BERT as the start of everything: fine-tuning, pre-training, prediction, serving."""

import json
import os

import numpy as np
import pytest

from keras_vitbert import convert, export, finetune, predict
from keras_vitbert.experiments.pretraining.initial_weights import start_from
from keras_vitbert.trained.loading import load
from pipelines.command_line import run
from tests.keras_vitbert.tiny_runs import pretrain
from tests.keras_vitbert.trained.stored_models import FIXTURES

BERT = str(FIXTURES / "bert")
VIT = str(FIXTURES / "vit")


# --- fine-tuning ---------------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path):
    """The folder of a task whose answer is one word."""
    folder = tmp_path / "task"
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("dev", 20)):
        rows = ["sentence\tlabel"]
        for number in range(count):
            words = [f"word{n}" for n in random.integers(5, 32, 4)]
            rows.append(f"{' '.join(words)} word{number % 2}\t{number % 2}")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return str(folder)


def fine_tuned(checkpoint, data, output, *flags):
    status = run(
        finetune.main,
        [
            *(f"--checkpoint={checkpoint}", f"--data_dir={data}", f"--output_dir={output}"),
            *("--config.batch=8", "--config.evaluation_batch=8", *flags),
        ],
    )
    return status


@pytest.mark.slow
def test_a_bert_is_fine_tuned_with_its_own_pooler(texts, tmp_path, capsys):
    output = tmp_path / "run"
    flags = ("--config.steps=3", "--config.head=bert", "--config.dropout=0.0")
    assert fine_tuned(BERT, texts, output, *flags, "--config.optimizer.learning_rate=1e-30") == 0
    trained = load(str(output))
    assert trained.backbone.norm == "post" and trained.backbone.layer_norm_epsilon == 1e-3
    assert trained.vocabulary == load(BERT).vocabulary and trained.lower_case
    assert trained.backbone.max_sequence_length == 19
    # At such a rate all is as it was read, but for the classifier.
    ours, theirs = trained.network, load(BERT).network
    for name in ("block_1", "embedding_norm", "text_embedding"):
        for a, b in zip(
            ours.backbone.get_layer(name).weights,
            theirs.backbone.get_layer(name).weights,
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(ours.head.hidden.kernel, theirs.nsp_head.hidden.kernel)
    summary = json.loads((output / "summary.json").read_text())
    [result] = output.glob("trials/*/result.json")
    assert json.loads(result.read_text())["transfer"]["head"] == "pooler kept, rest fresh"
    assert summary["task"] == "texts"


@pytest.mark.slow
def test_a_fine_tuned_bert_goes_back_to_hugging_face(texts, tmp_path, capsys):
    output = tmp_path / "run"
    assert fine_tuned(BERT, texts, output, "--config.steps=3", "--config.head=bert") == 0
    folder = str(tmp_path / "hf")
    flags = [f"--checkpoint={output}", f"--output_dir={folder}", "--format=hugging_face"]
    assert run(convert.main, flags) == 0
    config = json.loads(open(os.path.join(folder, "config.json")).read())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "0", "1": "1"}
    ours, theirs = load(str(output)), load(folder)
    inputs = {
        "token_ids": np.array([[2, 5, 6, 3]]),
        "segment_ids": np.zeros((1, 4), int),
        "padding_mask": np.ones((1, 4), int),
    }
    np.testing.assert_array_equal(ours.network(inputs), theirs.network(inputs))
    assert theirs.classes == ours.classes == ["0", "1"]


@pytest.mark.slow
def test_the_cross_modal_cells_of_table_1(texts, image_task, tmp_path, capsys):
    """A BERT on images, and a ViT on texts: the other modality's embedding begins fresh."""
    flags = ("--config.steps=2", "--config.image_size=16")
    assert fine_tuned(BERT, image_task, tmp_path / "images", *flags) == 0
    backbone = load(str(tmp_path / "images")).backbone
    assert (backbone.norm, backbone.image_size, backbone.vocabulary_size) == ("post", 16, None)
    flags = ("--config.steps=2", f"--vocabulary={FIXTURES / 'bert' / 'vocab.txt'}")
    assert fine_tuned(VIT, texts, tmp_path / "texts", *flags) == 0
    backbone = load(str(tmp_path / "texts")).backbone
    assert (backbone.norm, backbone.image_size, backbone.vocabulary_size) == ("pre", None, 37)
    for name in ("images", "texts"):
        [result] = (tmp_path / name).glob("trials/*/result.json")
        transfer = json.loads(result.read_text())["transfer"]
        assert transfer == {"encoder": "kept", "embedding": "fresh", "head": "fresh"}


@pytest.mark.slow
def test_random_weights_of_the_same_architecture(texts, tmp_path, capsys):
    flags = (f"--architecture={BERT}", "--config.steps=2")
    assert fine_tuned("rand", texts, tmp_path / "run", *flags) == 0
    backbone, theirs = load(str(tmp_path / "run")).backbone, load(BERT).backbone
    assert [v.shape for v in backbone.variables] == [v.shape for v in theirs.variables]
    assert backbone.norm == "post" and backbone.activation == theirs.activation
    kernel = "block_0/feedforward_output_dense/kernel"
    ours, theirs = ({v.path: v for v in b.variables}[kernel] for b in (backbone, theirs))
    assert not np.allclose(ours, theirs)


def test_a_head_of_deit_needs_its_second_token(image_task, tmp_path, capsys):
    flags = ("--config.steps=2", "--config.image_size=9", "--config.head=deit")
    assert fine_tuned(VIT, image_task, tmp_path / "run", *flags) == 2
    [*_, line] = capsys.readouterr().err.splitlines()
    assert "deit" in line


# --- pre-training --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def post_norm_run(finished):
    """A finished run with masks of an architecture like BERT's and DeiT's."""
    return finished(
        "vitbert_no_kd",
        "--config.model.norm=post",
        "--config.model.text_head=bert",
        "--config.model.prefix_tokens=2",
        "--config.model.image_head=deit",
        "--config.model.patch_bias=True",
        "--config.model.activation=gelu_tanh",
    )


@pytest.mark.slow
def test_joint_pre_training_that_normalises_last(post_norm_run, tmp_path, capsys):
    summary = json.loads((post_norm_run / "summary.json").read_text())
    blocks = list(summary["mask"]["sparsity_per_block"])
    assert blocks[0] == "embedding_norm" and "final_norm" not in blocks
    assert summary["mask"]["sparsity"] > 0
    trained = load(str(post_norm_run))
    assert trained.backbone.norm == "post" and trained.backbone.prefix_tokens == 2
    assert summary["mask"]["size"] == sum(
        np.prod(v.shape) for v in trained.backbone.shared_variables
    )
    # Its text side is a BERT, with both heads.
    folder = str(tmp_path / "hf")
    flags = [f"--checkpoint={post_norm_run}", f"--output_dir={folder}", "--format=hugging_face"]
    assert run(convert.main, flags) == 0
    assert "the image side" in capsys.readouterr().err
    theirs = load(folder)
    batch = {
        "token_ids": np.array([[2, 5, 4, 6, 3]]),
        "segment_ids": np.array([[0, 0, 0, 1, 1]]),
        "padding_mask": np.ones((1, 5), int),
        "masked_positions": np.array([[2]]),
    }
    ours, theirs = trained.network(batch), theirs.network(batch)
    assert set(theirs) == {"mlm_logits", "nsp_logits"}
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value)


@pytest.mark.slow
def test_pre_training_begins_with_a_bert(sources, tmp_path, capsys):
    """What must be the same is named; with these flags all weights are the checkpoint's."""
    checkpoint = str(tmp_path / "bert")
    flags = [
        *("--variant=bert", "--config.model.norm=post", "--config.model.text_head=bert"),
        "--config.model.layer_norm_epsilon=1e-3",
    ]
    assert pretrain(sources, tmp_path / "first", *flags) == 0
    flags_of_convert = [f"--checkpoint={tmp_path / 'first'}", f"--output_dir={checkpoint}"]
    assert run(convert.main, [*flags_of_convert, "--format=hugging_face"]) == 0
    capsys.readouterr()
    given = f"--initial_weights={checkpoint}"
    assert pretrain(sources, tmp_path / "no", "--variant=bert", given) == 2
    [*_, line] = capsys.readouterr().err.splitlines()
    assert "model.norm" in line and "model.layer_norm_epsilon" in line
    assert not (tmp_path / "no").exists()
    rate = "--config.optimizer.learning_rate=0.0"
    assert pretrain(sources, tmp_path / "second", *flags, given, rate) == 0
    assert "mlm_head kept, nsp_head kept" in capsys.readouterr().err
    first, second = load(str(tmp_path / "first")), load(str(tmp_path / "second"))
    for a, b in zip(first.network.weights, second.network.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


def test_a_head_for_other_classes_begins_fresh(make_network):
    """Those of the fixture are named by synonyms."""
    trained = load(VIT)
    names = ["tench", "great white shark", "hen"]
    size = {"image_size": 9, "hidden_dim": 15, "num_heads": 5, "intermediate_dim": 21}
    same = {"layer_norm_epsilon": 1e-3, "patch_bias": True, "image_head": "vit"}
    normal = {name: getattr(trained.backbone, name) for name in ("image_mean", "image_std")}
    for classes, done in ((names, "kept"), (names[::-1], None), (names[:2], None), (None, None)):
        network = make_network(text=False, **size, **same, **normal)
        assert start_from(trained, network, classes).get("image_head") == done
        kernels = network.image_head.logits.kernel, trained.network.image_head.logits.kernel
        assert np.array_equal(*kernels) == bool(done)


# --- predicting, exporting, presets --------------------------------------------------------------


@pytest.mark.slow
def test_prediction_export_and_preset_of_a_bert(tmp_path, capsys):
    """The same answers from the folder of Hugging Face, a preset, and an export."""
    preset = str(tmp_path / "preset")
    assert run(convert.main, [f"--checkpoint={BERT}", f"--output_dir={preset}"]) == 0
    assert run(export.main, [f"--checkpoint={BERT}", f"--output_dir={tmp_path / 'served'}"]) == 0
    capsys.readouterr()
    answers = []
    for checkpoint in (BERT, preset, str(tmp_path / "served" / "bert")):
        flags = ["--text=word1 word2 [MASK]", "--format=json", "--top_k=3"]
        assert run(predict.main, [f"--checkpoint={checkpoint}", *flags]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    tokens = [[row["token"] for row in answer["masks"][0]] for answer in answers]
    assert tokens[0] == tokens[1] == tokens[2]
