"""Pre-training from given weights."""

import numpy as np
import pytest

from keras_vitbert.experiments.pretraining import run as pretraining
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.experiments.pretraining.initial_weights import open_initial
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.model.transfer import transfer
from keras_vitbert.trained.loading import load
from tests.keras_vitbert.tiny_runs import config_of, pretrain


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


def test_all_of_a_run_is_taken(finished, sources, data, capsys):
    source = str(finished("joint"))
    initial = open_initial(source, config_of(sources, variant="joint"), data)
    assert "encoder kept, image_embedding kept" in capsys.readouterr().err
    target = build_network(config_of(sources).model.to_dict()).backbone
    transfer(initial.backbone, target)
    network = load(source).network
    for ours, theirs in zip(target.weights, network.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours.value, theirs.value, err_msg=ours.path)


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


class Seen(Exception):
    pass


@pytest.mark.slow
def test_the_command_begins_with_them(vit_preset, sources, tmp_path, monkeypatch):
    def fit(run, trainer, *arguments, **options):
        given = ViTBertBackbone.from_preset(vit_preset)
        ours = trainer.network.backbone.shared_variables
        for our, their in zip(ours, given.shared_variables, strict=True):
            np.testing.assert_array_equal(our.value, their.value)
        raise Seen

    monkeypatch.setattr(pretraining, "fit", fit)
    flags = [tmp_path / "run", "--variant=joint"]
    with pytest.raises(Seen):
        pretrain(sources, *flags, f"--initial_weights={vit_preset}")
    assert pretrain(sources, *flags) == 2  # goes on with other weights


@pytest.mark.parametrize(
    "flag",
    [
        "--config.model.num_layers=2",
        "--config.model.patch_size=2",
        "--config.model.num_heads=4",
    ],
)
def test_other_architectures_are_refused(flag, sources, data, vit_preset):
    with pytest.raises(ValueError, match=vit_preset):
        open_initial(vit_preset, config_of(sources, flag, variant="joint"), data)


def test_nothing_is_written_where_they_do_not_fit(sources, tmp_path, capsys):
    capsys.readouterr()
    flags = ["--variant=joint", f"--initial_weights={tmp_path}/absent"]
    assert pretrain(sources, tmp_path / "run", *flags) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and f"{tmp_path}/absent" in line
    assert not (tmp_path / "run").exists()
