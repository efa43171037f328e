"""Texts of a run, and the HParams tab as TensorBoard's own code reads it."""

import types

from tensorboard import context
from tensorboard.plugins.hparams import api_pb2

from keras_vitbert.configs import sample
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.inspection.sessions import hparams, provider


def start(path, network, step=0, variant="joint", **settings):
    config = sample.get_config().with_values({"variant": variant, **settings})
    folder = RunFolder(str(path))
    folder.logged_from = step and step + 1  # as `loop.fit` sets it
    texts = RunTexts(folder, {}, config)
    texts.set_model(types.SimpleNamespace(network=network, step=step))
    texts.on_train_begin()
    texts.on_train_begin()  # of another call of `fit`
    return folder


def texts_of(path):
    """`{run: {tag: [texts]}}`."""
    found = provider(path).read_tensors(
        context.RequestContext(), experiment_id="", plugin_name="text", downsample=100
    )
    return {
        run: {tag: [datum.numpy.item().decode() for datum in data] for tag, data in tags.items()}
        for run, tags in found.items()
    }


def test_texts_are_written_once(tmp_path, network):
    start(tmp_path, network)
    start(tmp_path, network, step=3)
    texts = texts_of(tmp_path)
    assert list(texts) == ["train"]
    [configuration] = texts["train"]["configuration"]
    assert "| variant | `joint` |" in configuration
    assert "| optimizer.learning_rate | `0.002` |" in configuration
    [model] = texts["train"]["model"]
    assert "block_1" in model and f"{network.count_params():,}" in model


def test_the_table_of_runs(tmp_path, network):
    """One that is done, one that is not, and one that failed."""
    folder = start(tmp_path / "first", network)
    folder.log_scalars("validation", 400, {"accuracy/image_accuracy": 0.25})
    folder.log_scalars("validation", 500, {"accuracy/image_accuracy": 0.5, "loss/mlm_loss": 6.5})
    finish_session(folder)
    start(tmp_path / "second", network, variant="vit", image_batch_size=64)
    finish_session(start(tmp_path / "third", network), succeeded=False)
    experiment, groups = hparams(tmp_path)
    differing = {info.name for info in experiment.hparam_infos if info.differs}
    assert differing == {"variant", "image_batch_size"}
    settings = groups["second"].hparams
    assert settings["image_batch_size"].number_value == 64
    assert settings["variant"].string_value == "vit"
    values = {value.name.tag: value.value for value in groups["first"].metric_values}
    assert values == {"accuracy/image_accuracy": 0.5, "loss/mlm_loss": 6.5}
    statuses = {name: group.sessions[0].status for name, group in groups.items()}
    assert statuses == {
        "first": api_pb2.STATUS_SUCCESS,
        "second": api_pb2.STATUS_UNKNOWN,
        "third": api_pb2.STATUS_FAILURE,
    }
