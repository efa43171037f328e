"""`load_teacher`: what it takes of the world, and what it refuses."""

import json
import re

import pytest

from keras_vitbert.experiments.pretraining.teachers import load_teacher
from tests.keras_vitbert.tiny_runs import content_of
from tests.keras_vitbert.trained.stored_models import FIXTURES, assert_close, call, expected
from tests.keras_vitbert.trained.student import TOKENS, data


@pytest.fixture
def refused(config):
    """`refused(kind, path, culprit, **data)`: the teacher is refused, in one line."""

    def refused(kind, path, culprit="", student=config, **changes):
        with pytest.raises(ValueError, match=re.escape(culprit or str(path))) as error:
            load_teacher(kind, str(path), student, data(**changes))
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    return refused


# --- what is taken -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "lacking"),
    [
        ("image", "vit", ""),
        ("image", "deit_teacher", ""),
        ("text", "bert", ""),
        ("text", "distilbert", "next-sentence"),
        ("text", "masked_lm", "next-sentence"),
    ],
)
def test_taken(config, capsys, kind, name, lacking):
    teacher = load_teacher(kind, str(FIXTURES / name), config, data())
    batch, wanted = expected(name)
    assert_close(call(teacher, batch), wanted)
    err = capsys.readouterr().err
    assert bool(err) == bool(lacking) and lacking in err


def test_only_the_number_of_classes_can_be_checked(config, copy, capsys):
    load_teacher("image", str(FIXTURES / "vit"), config, data(classes=None))
    assert "classes.txt" in capsys.readouterr().err
    folder = copy("vit")
    content = content_of(folder / "config.json")
    content["id2label"] = {str(n): f"LABEL_{n}" for n in range(3)}
    (folder / "config.json").write_text(json.dumps(content))
    load_teacher("image", str(folder), config, data())
    assert "class names" in capsys.readouterr().err


# --- what is refused ---------------------------------------------------------------------------


def test_nothing_to_find(refused, tmp_path):
    refused("image", tmp_path / "nowhere")
    refused("text", "bert_base_en_uncaset")
    refused("image", tmp_path)
    for content in ('{"a": 1}', '{"model_type": ', "[1]"):
        (tmp_path / "config.json").write_text(content)
        refused("image", tmp_path)
    refused("image", tmp_path / "config.json")


def test_nothing_to_fetch(refused, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("image", "hf://nobody/nothing")
    refused("text", "hf://no/such/name")


def test_nothing_that_teaches(refused):
    for name in ("bert", "vit_model", "bert_classifier"):
        refused("image", FIXTURES / name)
    for name in ("vit", "bert_model", "distilbert_classifier"):
        refused("text", FIXTURES / name)


def test_another_architecture(refused, copy):
    folder = copy("bert")
    content = content_of(folder / "config.json")
    content["architectures"] = ["RobertaForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(content))
    refused("text", folder, "RobertaForMaskedLM")


def test_another_vocabulary(refused, config, copy):
    tokens = [*TOKENS[:7], "other", *TOKENS[8:]]
    refused("text", FIXTURES / "bert", "'word2'", vocabulary=tokens)
    refused("text", FIXTURES / "masked_lm", "'word2'", vocabulary=tokens)
    refused("text", FIXTURES / "bert", "'word31'", vocabulary=TOKENS[:-1])
    refused("text", FIXTURES / "bert", "'more'", vocabulary=[*TOKENS, "more"])
    folder = copy("bert")
    (folder / "vocab.txt").unlink()
    refused("text", folder, "vocab.txt")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": [["a", 1.0]]}}')
    refused("text", folder, "tokenizer.json")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 2}}}')
    refused("text", folder, "tokenizer.json")


def test_another_size(refused, config):
    larger = config.with_values({"model.vocabulary_size": 40})
    refused("text", FIXTURES / "bert", "40", student=larger)

    class Long:
        length = 20

    refused("text", FIXTURES / "bert", "20", texts=Long())
    more = config.with_values({"model.num_classes": 4})
    refused("image", FIXTURES / "vit", "classes", student=more, classes=None)


def test_another_order_of_classes(refused):
    refused("image", FIXTURES / "vit", "'hen'", classes=["tench", "hen", "great white shark"])
