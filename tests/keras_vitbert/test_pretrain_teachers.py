"""Teachers of `pretrain`: made on demand, given, or from elsewhere."""

import json
import shutil

import pytest

from keras_vitbert import load
from keras_vitbert.experiments.pretraining import run as pretraining
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_STOPPED, Stopped
from tests.keras_vitbert.tiny_runs import VOCABULARY, content_of, pretrain
from tests.keras_vitbert.trained.stored_models import FIXTURES


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of `vit` and `bert`: the fixtures, by the words and classes of the tiny data.

    The BERT has a row more than there are words; the ViT's images are larger than the student's.
    """
    folder = tmp_path_factory.mktemp("teachers")
    for name in ("vit", "bert"):
        shutil.copytree(FIXTURES / name, folder / name)
    (folder / "bert" / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    config = content_of(folder / "vit" / "config.json")
    config["id2label"] = {"0": "Cat", "1": "dog, Canis familiaris", "2": "n01440764"}
    (folder / "vit" / "config.json").write_text(json.dumps(config))
    return folder


def test_given_teachers_are_used_and_others_refused(
    folders, sources, tmp_path, monkeypatch, capsys
):
    """Of the same weights; but for its name, nothing else of a teacher may change."""
    taught = {}

    def stop(run, stream, teachers, *others):
        taught.update(teachers)
        raise Stopped("begun")

    monkeypatch.setattr(pretraining, "_train", stop)
    own = shutil.copytree(folders, tmp_path / "teachers")
    flags = [f"--image_teacher={own / 'vit'}", f"--text_teacher={own / 'bert'}"]

    def begin():
        status = pretrain(sources, tmp_path / "run", "--variant=vitbert_no_gm", *flags)
        return status, capsys.readouterr().err.splitlines()[-1]

    assert begin()[0] == EXIT_STOPPED
    for kind, name in (("image", "vit"), ("text", "bert")):
        weights = {w.numpy().tobytes() for w in taught[kind].weights}
        assert {w.numpy().tobytes() for w in load(str(own / name)).network.weights} <= weights
    before = content_of(tmp_path / "run" / "config.json")
    for kind, file, key, value in (
        ("image", "vit/preprocessor_config.json", "image_mean", [0.1, 0.2, 0.3]),
        ("text", "bert/config.json", "hidden_act", "relu"),
        ("", "vit/config.json", "_name_or_path", "elsewhere"),
    ):
        content = content_of(own / file)
        (own / file).write_text(json.dumps({**content, key: value}))
        status, line = begin()
        assert status == (EXIT_BAD_INPUT if kind else EXIT_STOPPED), line
        assert f"{kind}_teacher" in line or not kind
        assert content_of(tmp_path / "run" / "config.json") == before
        (own / file).write_text(json.dumps(content))
