"""Texts of a run, and the HParams tab as TensorBoard's own code reads it."""

import pytest
from tensorboard import context
from tensorboard.plugins.hparams import api_pb2

from keras_vitbert.configs import sample
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.inspection.sessions import hparams, provider


class Model:
    """What the callback asks of a trainer."""

    def __init__(self, network, step=0):
        self.network = network
        self.step = step


def start(path, network, step=0, variant="joint", **settings):
    config = sample.get_config().with_values({"variant": variant, **settings})
    folder = RunFolder(str(path))
    folder.logged_from = step and step + 1  # as `loop.fit` sets it
    texts = RunTexts(folder, {}, config)
    texts.set_model(Model(network, step))
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory, network):
    """Two runs that are done, one that is not, and one that failed."""
    path = tmp_path_factory.mktemp("runs")
    first = start(path / "first", network)
    first.log_scalars("validation", 400, {"accuracy/image_accuracy": 0.25})
    finish(first, {"accuracy/image_accuracy": 0.5, "loss/mlm_loss": 6.5})
    second = start(path / "second", network, image_batch_size=64)
    finish(second, {"accuracy/image_accuracy": 0.75, "loss/mlm_loss": 5.0})
    start(path / "third", network, variant="vit")
    finish(RunFolder(str(path / "third"), writes=False), {"accuracy/image_accuracy": 1.0})
    finish_session(start(path / "fourth", network), succeeded=False)
    return path


def finish(folder, validation):
    folder.log_scalars("validation", 500, validation)
    finish_session(folder)


def test_the_table_of_runs(runs):
    experiment, groups = hparams(runs)
    assert set(groups) == {"first", "second", "third", "fourth"}
    differing = {info.name for info in experiment.hparam_infos if info.differs}
    assert differing == {"variant", "image_batch_size"}
    assert len(experiment.hparam_infos) > 50

    def metric_values(name):
        return {value.name.tag: value.value for value in groups[name].metric_values}

    assert metric_values("first") == {
        "accuracy/image_accuracy": 0.5,
        "loss/mlm_loss": 6.5,
    }
    assert metric_values("second")["accuracy/image_accuracy"] == 0.75
    assert metric_values("third") == {}
    settings = groups["second"].hparams
    assert settings["image_batch_size"].number_value == 64
    assert groups["third"].hparams["variant"].string_value == "vit"
    statuses = {name: group.sessions[0].status for name, group in groups.items()}
    done, running = api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN
    assert statuses == {
        "first": done,
        "second": done,
        "third": running,
        "fourth": api_pb2.STATUS_FAILURE,
    }
