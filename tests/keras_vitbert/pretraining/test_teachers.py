"""`load_teacher`: what it takes of the world, what it checks, and the line that it refuses with."""

import functools
import json
import shutil

import pytest

from keras_vitbert.pretraining.teachers import load_teacher
from tests.keras_vitbert.importing.stored_models import FIXTURES, assert_close, call, expected
from tests.keras_vitbert.importing.student import TOKENS, assert_refused, data, student_config
from tests.keras_vitbert.tiny_runs import content_of


@pytest.fixture
def config():
    """The student's config, to be changed."""
    return student_config()


@pytest.fixture
def copy(tmp_path):
    """`copy(name) -> folder` of a stored model, to be damaged."""
    return lambda name: shutil.copytree(FIXTURES / name, tmp_path / name)


@pytest.fixture
def refused(config):
    """`refused(kind, path, message, **data)`: the teacher is refused."""
    return functools.partial(assert_refused, config)


# --- what is taken -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("image", "vit", None),
        ("image", "deit_teacher", None),
        ("text", "bert", None),
        ("text", "distilbert", "has no next-sentence head; it teaches masked-LM only"),
        ("text", "masked_lm", "has no next-sentence head; it teaches masked-LM only"),
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
    content = content_of(folder / "config.json")
    content["id2label"] = {str(n): f"LABEL_{n}" for n in range(3)}
    (folder / "config.json").write_text(json.dumps(content))
    load_teacher("image", str(folder), config, data())
    assert "has no class names; only the number of classes was checked" in capsys.readouterr().err


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
    refused("image", tmp_path, r"config.json is damaged \(.*\); restore it")
    (tmp_path / "config.json").write_text("[1]")
    refused("image", tmp_path, r"config.json is damaged \(not a JSON object\)")


def test_nothing_to_fetch(refused, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = r"cannot be fetched \(\w+: .*\); fix the name or the network, or give a local folder"
    refused("image", "hf://nobody/nothing", message)
    refused("text", "hf://no/such/name", message)


def test_nothing_that_teaches(refused):
    of = "is a Hugging Face model and has no"
    refused(
        "image", FIXTURES / "bert", f"{of} image classifier; give the folder of a run, of a Hug"
    )
    refused("image", FIXTURES / "vit_model", f"{of} image classifier; give")
    refused("image", FIXTURES / "bert_classifier", f"{of} image classifier; give")
    for name in ("vit", "bert_model", "distilbert_classifier"):
        refused("text", FIXTURES / name, f"{of} masked-LM head; give the folder of a run, of a Hug")


def test_another_architecture(refused, copy):
    folder = copy("bert")
    content = content_of(folder / "config.json")
    content["architectures"] = ["RobertaForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(content))
    message = "is RobertaForMaskedLM, which is not a BERT or ViT that can be read; give a BertForP"
    refused("text", folder, message)


def test_another_vocabulary(refused, config, copy):
    tokens = [*TOKENS[:7], "other", *TOKENS[8:]]
    message = "has another vocabulary: token 7 is 'word2', the student's 'other'; give the tea"
    refused("text", FIXTURES / "bert", message, vocabulary=tokens)
    refused("text", FIXTURES / "masked_lm", message, vocabulary=tokens)
    message = "token 36 is 'word31', the student's none; give"
    refused("text", FIXTURES / "bert", message, vocabulary=TOKENS[:-1])
    message = "token 37 is none, the student's 'more'; give"
    refused("text", FIXTURES / "bert", message, vocabulary=[*TOKENS, "more"])
    folder = copy("bert")
    (folder / "vocab.txt").unlink()
    refused("text", folder, "has no vocab.txt and no tokenizer.json; add one of them")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": [["a", 1.0]]}}')
    refused("text", folder, "tokenizer.json holds no WordPiece vocabulary; add vocab.txt")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 2}}}')
    refused("text", folder, "tokenizer.json leaves out some ids; add vocab.txt")


def test_another_size(refused, config):
    config.model.vocabulary_size = 40
    message = "has 37 tokens, the student 40; set --config.model.vocabulary_size=37"
    refused("text", FIXTURES / "bert", message)
    config.model.vocabulary_size = len(TOKENS)

    class Long:
        length = 20

    message = "takes at most 19 tokens, the texts have 20; give another teacher"
    refused("text", FIXTURES / "bert", message, texts=Long())
    config.model.num_classes = 4
    message = "has 3 classes, the student 4; give another teacher"
    refused("image", FIXTURES / "vit", message, classes=None)


def test_another_order_of_classes(refused):
    message = "class 1 is 'Great_White-Shark', the student's 'hen'; give another teacher, or fix"
    refused("image", FIXTURES / "vit", message, classes=["tench", "hen", "great white shark"])
