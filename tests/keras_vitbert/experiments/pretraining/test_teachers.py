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


@pytest.mark.parametrize(
    ("kind", "name", "lacking"),
    [
        ("image", "deit_teacher", ""),
        ("text", "bert", ""),
        ("text", "distilbert", "next-sentence"),
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


def test_nothing_to_find(refused, tmp_path):
    refused("text", "bert_base_en_uncaset")
    refused("image", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    refused("image", tmp_path)


def test_nothing_that_teaches(refused):
    refused("image", FIXTURES / "vit_model")
    refused("text", FIXTURES / "bert_model")


def test_another_vocabulary(refused):
    tokens = [*TOKENS[:7], "other", *TOKENS[8:]]
    refused("text", FIXTURES / "bert", "'word2'", vocabulary=tokens)
    refused("text", FIXTURES / "bert", "'more'", vocabulary=[*TOKENS, "more"])


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
