"""A published BERT as the start of everything: fine-tuning, pre-training, prediction, serving."""

import json
import os

import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_vitbert import convert, export, finetune, predict
from keras_vitbert.pretraining.initial_weights import start_from
from keras_vitbert.trained.loading import load
from pipelines.command_line import run
from tests.keras_vitbert.importing.stored_models import FIXTURES
from tests.keras_vitbert.tiny_runs import pretrain

BERT = str(FIXTURES / "bert")
VIT = str(FIXTURES / "vit")


def stored(folder):
    """All tensors of a folder of Hugging Face."""
    found = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".safetensors"):
            found |= safetensors.numpy.load_file(os.path.join(folder, file))
    return found


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


def test_a_bert_is_fine_tuned_with_its_own_pooler(texts, tmp_path, capsys):
    output = tmp_path / "run"
    flags = ("--config.steps=3", "--config.head=bert", "--config.dropout=0.0")
    assert fine_tuned(BERT, texts, output, *flags, "--config.optimizer.learning_rate=0.0") == 0
    trained = load(str(output))
    assert trained.backbone.norm == "post" and trained.backbone.layer_norm_epsilon == 1e-3
    assert trained.vocabulary == load(BERT).vocabulary and trained.lower_case
    assert trained.backbone.max_sequence_length == 19
    # At a rate of 0 all is as it was read, but for the classifier.
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
    assert "--config.head=deit: needs DeiT's second token" in line


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
    assert (
        "the image side has no place in a BertForPreTraining; left out" in capsys.readouterr().err
    )
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
    assert line.endswith(
        "is of another architecture than the model; give --config.model.norm=post "
        "--config.model.layer_norm_epsilon=0.001"
    )
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


# --- to Hugging Face and back --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        *((name, {}) for name in ("bert", "bert_classifier", "bert_model", "masked_lm", "vit")),
        *((name, {}) for name in ("vit_model", "deit", "deit_teacher")),
        # Both names of one bias; transformers use the latter alone.
        ("untied", {"cls.predictions.bias": "cls.predictions.decoder.bias"}),
    ],
)
def test_to_hugging_face_and_back_is_the_identity(name, renamed, tmp_path, capsys):
    source, folder = FIXTURES / name, tmp_path / "there"
    flags = [f"--checkpoint={source}", f"--output_dir={folder}", "--format=hugging_face"]
    assert run(convert.main, flags) == 0
    before, after = stored(source), stored(folder)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], before.get(renamed.get(key), value), err_msg=key)
        assert after[key].dtype == value.dtype == np.float32
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (folder, source))
    for key, value in theirs.items():
        if key in ours and key not in ("hidden_act", "label2id"):  # the latter may lack there
            assert ours[key] == value, key
    with safetensors.safe_open(folder / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    again = load(str(folder))
    for a, b in zip(load(str(source)).network.weights, again.network.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


def test_what_has_no_place_is_left_out_or_refused(make_network, tmp_path, capsys):
    from keras_vitbert.importing.hugging_face_folder import HuggingFaceModel
    from keras_vitbert.trained.trained_model import TrainedModel
    from pipelines.command_line import UserError

    def model(**changes):
        network = make_network(**changes)
        heads = {"image": network.image_head, "mlm": network.mlm_head}
        heads = {name: head for name, head in heads.items() if head is not None}
        return HuggingFaceModel(TrainedModel("p", "n", network.backbone, heads, network=network))

    found = model()
    assert found.architecture == "ViTModel"
    assert found.left_out == ["the text side", "the image head, which is the paper's"]
    found = model(norm="post", images=False)
    assert found.architecture == "BertModel" and len(found.left_out) == 2
    found = model(norm="post", images=False, text_head="bert")
    assert (found.architecture, found.left_out) == ("BertForPreTraining", [])
    found = model(text=False, image_head="vit", activation="relu")
    assert (found.architecture, found.left_out) == ("ViTForImageClassification", [])
    for changes, message in (
        ({"images": False}, "normalises first and takes text only, which no BERT"),
        ({"text": False, "norm": "post"}, "normalises last and takes images only, which no ViT"),
    ):
        with pytest.raises(UserError, match=message):
            model(**changes)


def test_a_flag_without_effect_is_refused(tmp_path, capsys):
    flags = [f"--checkpoint={BERT}", f"--output_dir={tmp_path / 'x'}", "--format=hugging_face"]
    assert run(convert.main, [*flags, "--task=masked_lm"]) == 2
    assert "--task=masked_lm has no effect with --format" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("bert", "bert_classifier", "bert_model", "masked_lm", "untied", "distilbert"),
        *("vit", "vit_half", "vit_model", "deit", "deit_teacher"),
    ],
)
def test_transformers_read_what_is_written(name, tmp_path, capsys):
    """All weights, and nothing else; the tokenizer and the image processor with them."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source, folder = str(FIXTURES / name), str(tmp_path / "there")
    flags = [f"--checkpoint={source}", f"--output_dir={folder}", "--format=hugging_face"]
    assert run(convert.main, flags) == 0
    config = json.loads(open(os.path.join(folder, "config.json")).read())
    architecture = getattr(transformers, config["architectures"][0])
    model, info = architecture.from_pretrained(folder, output_loading_info=True)
    assert not {key: found for key, found in info.items() if found}
    trained = load(source)
    if trained.vocabulary is None:
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        np.testing.assert_allclose(processor.image_mean, trained.backbone.image_mean)
        images = np.random.default_rng(0).random((2, *[trained.backbone.image_size] * 2, 3))
        pixels = (images - processor.image_mean) / processor.image_std
        pixels = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
        inputs, ours = {"pixel_values": pixels}, {"images": images.astype(np.float32)}
        stream = "image"
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer(["word1 WORD2", "word3 word0"], ["word4", "word5"], return_tensors="pt")
        assert inputs["input_ids"][0].tolist() == [2, *(5 + n for n in (1, 2)), 3, 5 + 4, 3]
        assert tokenizer.model_max_length == trained.backbone.max_sequence_length
        names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
        names["padding_mask"] = "attention_mask"
        ours = {name: inputs[theirs].numpy() for name, theirs in names.items()}
        stream = "text"
    with torch.no_grad():
        theirs = model.eval()(**inputs, output_hidden_states=True).hidden_states
    last = f"{stream}_block_{trained.backbone.num_layers - 1}"
    outputs = keras.Model(trained.backbone.inputs, trained.backbone.block_outputs)(ours)
    scale = float(theirs[-1].abs().max())
    np.testing.assert_allclose(outputs[last], theirs[-1], rtol=0, atol=1e-5 * scale)
