"""Pre-training from given weights."""

import dataclasses

import numpy as np
import pytest

from keras_vitbert import convert
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.experiments.pretraining.initial_weights import open_initial, start_from
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.model.transfer import transfer
from keras_vitbert.trained.loading import load
from pipelines.command_line import run
from tests.keras_vitbert.tiny_runs import config_of, pretrain
from tests.keras_vitbert.trained.stored_models import FIXTURES


@pytest.fixture(scope="module")
def data(sources):
    return open_data(config_of(sources))


@pytest.fixture(scope="module")
def vit_preset(sources, tmp_path_factory):
    """A backbone without a text side, for images of half the size."""
    model = {**config_of(sources).model.to_dict(), "image_size": 4, "vocabulary_size": None}
    for name in ("num_classes", "image_head", "text_head"):
        del model[name]
    folder = str(tmp_path_factory.mktemp("presets") / "vit")
    ViTBertBackbone(**model).save_to_preset(folder)
    return folder


def test_what_is_not_given_stays_random(sources, data, vit_preset, capsys):
    initial = open_initial(vit_preset, config_of(sources, variant="joint"), data)
    told = "encoder kept, image_embedding interpolated, text_embedding fresh"
    assert told in capsys.readouterr().err
    target = build_network(config_of(sources).model.to_dict()).backbone
    before = {variable.path: np.array(variable.value) for variable in target.weights}
    transfer(initial.backbone, target)
    given = {v.path: np.array(v.value) for v in ViTBertBackbone.from_preset(vit_preset).weights}
    for variable in target.weights:
        path = variable.path
        if path.startswith("text_embedding"):
            np.testing.assert_array_equal(variable.value, before[path])
        elif path == "image_embedding/position_embedding":
            assert np.ptp(np.asarray(variable.value)[0, 1:], axis=0).max() < 1e-6  # of one patch
            np.testing.assert_allclose(variable.value[:, :2], given[path], atol=1e-6)
        else:
            np.testing.assert_array_equal(variable.value, given[path])


def test_another_vocabulary_is_refused(sources, data, finished):
    other = dataclasses.replace(data, vocabulary=[*data.vocabulary[:-1], "other"])
    with pytest.raises(ValueError, match="vocabulary"):
        open_initial(str(finished("joint")), config_of(sources, variant="joint"), other)


def test_another_architecture_is_refused(sources, data, vit_preset):
    flag = "--config.model.num_heads=4"
    with pytest.raises(ValueError, match=vit_preset):
        open_initial(vit_preset, config_of(sources, flag, variant="joint"), data)


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
    trained = load(str(FIXTURES / "vit"))
    names = ["tench", "great white shark", "hen"]
    size = {"image_size": 9, "hidden_dim": 15, "num_heads": 5, "intermediate_dim": 21}
    same = {"layer_norm_epsilon": 1e-3, "patch_bias": True, "image_head": "vit"}
    normal = {name: getattr(trained.backbone, name) for name in ("image_mean", "image_std")}
    for classes, done in ((names, "kept"), (names[::-1], None), (names[:2], None), (None, None)):
        network = make_network(text=False, **size, **same, **normal)
        assert start_from(trained, network, classes).get("image_head") == done
        kernels = network.image_head.logits.kernel, trained.network.image_head.logits.kernel
        assert np.array_equal(*kernels) == bool(done)
