"""`load_teacher`: what it takes of the world, what it checks, and the line that it refuses with."""

import json
import shutil
import struct

import keras_hub
import numpy as np
import pytest
import safetensors.numpy

from keras_vitbert.importing.class_names import _imagenet_names, first_difference
from keras_vitbert.importing.vit_backbone import read_vit
from keras_vitbert.pretraining.data import Data
from keras_vitbert.pretraining.teachers import load_teacher
from keras_vitbert.trained.finding import find
from pipelines.command_line import UserError
from tests.keras_vitbert.importing.test_hugging_face import FIXTURES, assert_close, call, expected

TOKENS = (FIXTURES / "bert" / "vocab.txt").read_text().split()
CLASSES = ["tench", "great white shark", "hen"]


class Texts:
    length = 13


def data(**changes):
    return Data(**{**DATA, **changes})


DATA = dict.fromkeys(("images", "image_validation", "text_validation"))
DATA |= {"texts": Texts(), "vocabulary": TOKENS, "classes": CLASSES}


@pytest.fixture
def config():
    from keras_vitbert.configs import paper

    config = paper.get_config("sample")
    config.dtype = "float32"
    config.model.update(num_classes=3, vocabulary_size=len(TOKENS), image_size=9, patch_size=3)
    return config


@pytest.fixture
def copy(tmp_path):
    """`copy(name) -> folder`, to be damaged."""

    def copy(name):
        return shutil.copytree(FIXTURES / name, tmp_path / name)

    return copy


@pytest.fixture
def refused(config):
    """`refused(kind, path, message, **data)`: one line that names the flag, and the mend."""

    def refused(kind, path, message, **changes):
        with pytest.raises(UserError, match=message) as error:
            load_teacher(kind, str(path), config, data(**changes))
        line = str(error.value)
        assert line.startswith(f"--{kind}_teacher={path}") and "\n" not in line

    return refused


# --- what is taken -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("image", "vit", None),
        ("image", "deit_teacher", None),
        ("text", "bert", None),
        ("text", "masked_lm", "has no next-sentence head; it teaches masked words alone"),
    ],
)
def test_taken(config, capsys, kind, name, said):
    teacher = load_teacher(kind, str(FIXTURES / name), config, data())
    batch, wanted = expected(name)
    assert_close(call(teacher, batch), wanted)
    err = capsys.readouterr().err
    assert err == (f"--{kind}_teacher={FIXTURES / name}: {said}\n" if said else "")


def test_only_the_number_of_classes_can_be_checked(config, copy, capsys):
    load_teacher("image", str(FIXTURES / "vit"), config, data(classes=None))
    said = "there is no classes.txt beside the training images; only the number of classes was"
    assert said in capsys.readouterr().err
    folder = copy("vit")
    content = json.loads((folder / "config.json").read_text())
    content["id2label"] = {str(n): f"LABEL_{n}" for n in range(3)}
    (folder / "config.json").write_text(json.dumps(content))
    load_teacher("image", str(folder), config, data())
    assert "names no classes; only the number of classes was checked" in capsys.readouterr().err


def test_spellings_of_classes():
    assert first_difference(["n01440764", "a_B"], ["Tench, Tinca tinca", "x, a-b"]) is None
    assert first_difference(["n01440764"], ["n01440764"]) is None
    assert first_difference(["n01443537", "hen"], ["goldfish", "cock"]) == 1
    assert first_difference(["n01440764"], ["goldfish"]) == 0
    assert first_difference(["n00000000"], ["nothing"]) == 0
    # Of many ids one may be called by a word that we do not know, but not by that of another.
    ids = [synset for synset in _imagenet_names() if synset < "n02"][:40]
    names = [_imagenet_names()[synset] for synset in ids]
    assert first_difference(ids, [*names[:7], "a pet name", *names[8:]]) is None
    assert first_difference(ids, [*names[:7], names[0], *names[8:]]) == 7
    assert first_difference(ids, [*names[:7], "a", "b", "c", *names[10:]]) == 7


def old_names(folder):
    """Names as the first checkpoints have them, under a prefix of a wrapper."""
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    renamed = {}
    for name, value in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed["module." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    renamed["module.bert.embeddings.position_ids"] = np.arange(19)[None]
    safetensors.numpy.save_file(renamed, path)


def test_names_of_old_checkpoints(config, copy):
    folder = copy("bert")
    old_names(folder)
    batch, wanted = expected("bert")
    assert_close(call(load_teacher("text", str(folder), config, data()), batch), wanted)


def test_a_masked_lm_that_keeps_its_other_head(config, copy):
    folder = copy("bert")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**content, "architectures": ["BertForMaskedLM"]})
    )
    teacher = load_teacher("text", str(folder), config, data())
    assert teacher.has_next_sentence
    batch, wanted = expected("bert")
    assert_close(call(teacher, batch), wanted)


# --- what is refused ---------------------------------------------------------------------------


def test_nothing_to_find(refused, tmp_path):
    refused(
        "image", tmp_path / "nowhere", "no such folder, file or preset; give the folder of a run"
    )
    refused("text", "bert_base_en_uncaset", "no such folder, file or preset; give")
    refused("image", tmp_path, r"holds no model \(there is no config.json\); give")
    refused("image", "nowhere://bucket/model", r"cannot be read \(.*\); give the folder of a run")
    (tmp_path / "config.json").write_text('{"a": 1}')
    refused("image", tmp_path, r"config.json is of no known kind \(it holds a\); give")
    refused("image", tmp_path / "config.json", "is a file of no known kind; give")
    (tmp_path / "config.json").write_text('{"model_type": ')
    refused("image", tmp_path, r"config.json is damaged \(.*\); bring it back")
    (tmp_path / "config.json").write_text("[1]")
    refused("image", tmp_path, r"config.json is damaged \(no JSON object\)")


def test_nothing_to_fetch(refused, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = (
        r"cannot be fetched \(\w+: .*\); mend the name or the network, or give a folder on disk"
    )
    refused("image", "hf://nobody/nothing", message)
    refused("text", "hf://no/such/name", message)


def test_another_architecture(refused):
    taken = "give a ViTForImageClassification, DeiTForImageClassification, DeiTFor"
    refused(
        "image", FIXTURES / "bert", f"is BertForPreTraining, which is no image model .*; {taken}"
    )
    refused("image", FIXTURES / "vit_model", f"is ViTModel, which is no image model .*; {taken}")
    message = (
        "is ViTForImage.*, which is no text model .*; give a BertForPreTraining, BertForMaskedLM"
    )
    refused("text", FIXTURES / "vit", message)


def test_weights_that_are_not_there(refused, copy):
    folder = copy("vit")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = (
        "in pytorch_model.bin, which can run any code when it is read; load it with transformers"
    )
    refused("image", folder, message)
    (folder / "pytorch_model.bin").unlink()
    refused("image", folder, "model.safetensors is missing; bring it back")
    folder = copy("masked_lm")
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused("text", folder, "model-00002-of-00002.safetensors is missing; bring it back")
    (folder / "model.safetensors.index.json").write_text("{}")
    refused("text", folder, "model.safetensors.index.json lists no file; bring it back")


def test_damaged_weights(refused, copy):
    path = copy("vit") / "model.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-7], content[:5], b"", struct.pack("<Q", 9) + b"damaged"):
        path.write_bytes(damaged)
        refused("image", path.parent, r"model.safetensors is damaged \(.*\); bring it back")


def test_other_tensors(refused, copy):
    folder = copy("bert")
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    pooler = {name: value for name, value in tensors.items() if "pooler" in name}
    word = "bert.embeddings.word_embeddings.weight"

    def write(*without, **changes):
        kept = {name: value for name, value in tensors.items() if name not in without}
        safetensors.numpy.save_file({**kept, **changes}, path)

    write(*pooler)
    refused(
        "text", folder, r"it lacks 2 tensors: bert\.pooler\.dense\.weight, bert\.pooler\.dense\.b"
    )
    write(word)
    refused("text", folder, r"it lacks 1 tensor: bert\.embeddings\.word_embeddings\.weight; bring")
    write(*list(tensors)[:9])
    refused("text", folder, r"it lacks 9 tensors: (\S+, ){3}\S+ and 5 more; bring")
    write(extra=np.zeros(3, np.float32), another=np.zeros(3, np.float32))
    refused("text", folder, "it has 2 unknown tensors: another, extra; bring")
    write(**{word: tensors[word][:, :-1].copy()})
    refused("text", folder, r"word_embeddings\.weight \(37, 14\) instead of \(37, 15\); bring")
    write(**{word: np.full_like(tensors[word], np.nan)})
    refused("text", folder, r"1 tensor: bert\S+ with values that are not finite; give another")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bert", {"num_hidden_layers": 3}, r"it lacks 16 tensors: bert\.encoder\.layer\.2\."),
        ("bert", {"num_attention_heads": 4}, "num_attention_heads=4; which is not taken"),
        ("bert", {"hidden_act": "quick"}, "hidden_act='quick'; known are gelu, "),
        ("bert", {"hidden_size": "15"}, "hidden_size='15'; which is not taken: give another model"),
        (
            "bert",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type='relative_key'",
        ),
        ("bert", {"is_decoder": True}, "is_decoder=True"),
        ("bert", {"type_vocab_size": 1}, "type_vocab_size=1; 2 or more segments are wanted"),
        (
            "bert",
            {"vocab_size": 36},
            "its vocabulary has 37 tokens, its config vocab_size=36; bring",
        ),
        ("bert", {"architectures": []}, "is a bert of no architecture, which is no text model"),
        ("vit", {"num_channels": 1}, "num_channels=1; which is not taken"),
        ("vit", {"image_size": [9, 12]}, r"image_size=\[9, 12\]; which is not taken"),
        ("vit", {"patch_size": 2}, "patch_size=2; image_size is 9: give another model"),
        ("vit", {"image_size": 12}, r"position_embeddings \(1, 10, 15\) instead of \(1, 17, 15\)"),
        ("vit", {"id2label": {"0": "a"}}, "its id2label names 1 classes, its classifiers 3; bring"),
    ],
)
def test_other_configs(refused, copy, name, change, message):
    folder = copy(name)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **change}))
    refused("text" if name == "bert" else "image", folder, message)


def test_a_bad_preprocessor(refused, copy):
    folder = copy("vit")
    for content in ({"image_mean": [1, 2]}, {"image_std": [1, 0, 1]}, {"image_mean": "x"}):
        (folder / "preprocessor_config.json").write_text(json.dumps(content))
        refused("image", folder, "preprocessor_config.json has image_mean=.* are wanted")


def test_another_vocabulary(refused, config, copy):
    tokens = [*TOKENS[:7], "other", *TOKENS[8:]]
    message = (
        "has another vocabulary: token 7 is 'word2', the student's 'other'; give --config.data"
    )
    refused("text", FIXTURES / "bert", message, vocabulary=tokens)
    refused("text", FIXTURES / "masked_lm", message, vocabulary=tokens)
    message = "token 36 is 'word31', the student's none; give"
    refused("text", FIXTURES / "bert", message, vocabulary=TOKENS[:-1])
    message = "token 37 is none, the student's 'more'; give"
    refused("text", FIXTURES / "bert", message, vocabulary=[*TOKENS, "more"])
    folder = copy("bert")
    (folder / "vocab.txt").unlink()
    refused("text", folder, "has no vocab.txt and no tokenizer.json; bring one of them")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": [["a", 1.0]]}}')
    refused("text", folder, "tokenizer.json holds no WordPiece vocabulary; bring vocab.txt")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 2}}}')
    refused("text", folder, "tokenizer.json leaves out some ids; bring vocab.txt")


def test_another_size(refused, config):
    config.model.vocabulary_size = 40
    message = "knows 37 tokens, the student 40; set --config.model.vocabulary_size=37"
    refused("text", FIXTURES / "bert", message)
    config.model.vocabulary_size = len(TOKENS)

    class Long:
        length = 20

    message = "takes 19 tokens at most, the texts have 20; give another teacher"
    refused("text", FIXTURES / "bert", message, texts=Long())
    config.model.num_classes = 4
    message = "knows 3 classes, the student 4; give another teacher"
    refused("image", FIXTURES / "vit", message, classes=None)


def test_another_order_of_classes(refused):
    message = "class 1 is 'Great_White-Shark', the student's 'hen'; give another teacher, or mend"
    refused("image", FIXTURES / "vit", message, classes=["tench", "hen", "great white shark"])


# --- presets of keras-hub ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Folder with presets of an image classifier, a masked-LM, and a backbone; and their models."""
    folder = tmp_path_factory.mktemp("presets")
    models = {}

    def random(model):
        generator = np.random.default_rng(0)
        model.set_weights([generator.normal(0, 0.3, w.shape) for w in model.get_weights()])
        return model

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(9, 9, 3), patch_size=3, num_layers=2, num_heads=5, hidden_dim=15, mlp_dim=21
    )
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(9, 9), scale=[0.01, 0.02, 0.03], offset=[-1.0, -2.0, 0.5]
    )
    classifier = keras_hub.models.ViTImageClassifier(
        backbone,
        3,
        preprocessor=keras_hub.models.ViTImageClassifierPreprocessor(converter),
        activation="softmax",
    )
    models["vit"] = random(classifier)
    words = keras_hub.models.BertBackbone(
        vocabulary_size=len(TOKENS),
        num_layers=2,
        num_heads=5,
        hidden_dim=15,
        intermediate_dim=21,
        max_sequence_length=19,
    )
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=TOKENS, lowercase=True)
    preprocessor = keras_hub.models.BertMaskedLMPreprocessor(tokenizer, sequence_length=13)
    models["bert"] = random(keras_hub.models.BertMaskedLM(words, preprocessor=preprocessor))
    models["backbone"] = words
    for name, model in models.items():
        model.save_to_preset(str(folder / name))
    return folder, models


def test_an_image_classifier_of_keras_hub(presets, config, capsys):
    folder, models = presets
    teacher = load_teacher("image", str(folder / "vit"), config, data())
    images = np.random.default_rng(1).random((2, 9, 9, 3), np.float32)
    logits = teacher({"images": images}, training=False)["image_logits"].numpy()
    shown = models["vit"].preprocessor.image_converter(255 * images)
    wanted = np.log(models["vit"](shown))  # it answers with probabilities
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)
    assert "names no classes; only the number of classes was checked" in capsys.readouterr().err


def test_a_masked_lm_of_keras_hub(presets, config):
    folder, models = presets
    teacher = load_teacher("text", str(folder / "bert"), config, data())
    batch, _ = expected("bert")
    logits = call(teacher, batch)
    inputs = {name.replace("masked_", "mask_"): value for name, value in batch.items()}
    np.testing.assert_allclose(logits["mlm_logits"], models["bert"](inputs), rtol=0, atol=1e-5)
    assert set(logits) == {"mlm_logits"}


def test_the_encoder_of_a_vit_of_keras_hub(presets):
    from keras_vitbert.importing.trunks import build_vit

    folder, models = presets
    weights = read_vit(find(str(folder / "vit")))
    ours = build_vit(weights)
    images = np.random.default_rng(1).random((2, 9, 9, 3), np.float32)
    shown = models["vit"].preprocessor.image_converter(255 * images)
    np.testing.assert_allclose(
        ours((images - np.array(weights.mean)) / np.array(weights.std)),
        models["vit"].backbone(shown),
        rtol=0,
        atol=1e-5,
    )
    with pytest.raises(UserError, match="is a BERT, which normalises after its blocks; it cannot"):
        read_vit(find(str(folder / "bert")))


def test_presets_of_this_project(make_network, config, tmp_path):
    from keras_vitbert import hub

    network = make_network(3, image_size=9, vocabulary_size=len(TOKENS), max_sequence_length=13)
    for name, head, task in (
        (
            "image",
            network.image_head,
            hub.ViTBertImageClassifier(
                network.backbone,
                3,
                hub.ViTBertImageClassifierPreprocessor(
                    hub.ViTBertImageConverter((9, 9)), class_names=CLASSES
                ),
            ),
        ),
        (
            "text",
            network.mlm_head,
            hub.ViTBertMaskedLM(
                network.backbone, hub.ViTBertMaskedLMPreprocessor(hub.ViTBertTokenizer(TOKENS), 13)
            ),
        ),
    ):
        ours = task.head if name == "image" else task.mlm_head
        ours.set_weights(head.get_weights())
        task.save_to_preset(str(tmp_path / name))
        teacher = load_teacher(name, str(tmp_path / name), config, data())
        batch, _ = expected("vit" if name == "image" else "bert")
        logits, wanted = call(teacher, batch), call(network, batch)
        key = "image_logits" if name == "image" else "mlm_logits"
        np.testing.assert_allclose(logits[key], wanted[key], rtol=1e-5, atol=1e-5)
    assert load_teacher("image", str(tmp_path / "image"), config, data()).labels == CLASSES


def test_bad_presets(presets, refused, tmp_path):
    folder, _ = presets
    message = "is the preset of a BertMaskedLM, and holds no trained image classifier; give one"
    refused("image", folder / "bert", message)
    message = "is the preset of a ViTImageClassifier, and holds no trained masked-LM; give one"
    refused("text", folder / "vit", message)
    message = (
        "is the preset of a backbone alone, and holds no trained masked-LM; give one that does"
    )
    refused("text", folder / "backbone", message)
    copied = shutil.copytree(folder / "vit", tmp_path / "vit")
    (copied / "task.weights.h5").unlink()
    refused("image", copied, "task.weights.h5 is missing; bring it back")
    weights = copied / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused("image", copied, "cannot be loaded as ImageClassifier of keras-hub")
