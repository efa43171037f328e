"""Texts of a run, and the HParams tab as TensorBoard's own code reads it."""

import time

import pytest
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from keras_vitbert.configs import sample
from keras_vitbert.inspection.run_texts import (
    RunTexts,
    finish_session,
    layers_table,
    settings_table,
)
from keras_vitbert.runs.run_folder import RunFolder


class Model:
    """What the callback asks of a trainer."""

    def __init__(self, network, step=0):
        self.network = network
        self.step = step


def start(path, network, step=0, variant="joint", **settings):
    config = sample.get_config()
    config.update(settings)
    folder = RunFolder(str(path))
    texts = RunTexts(folder, {"variant": variant}, config)
    texts.set_model(Model(network, step))
    texts.on_train_begin()
    texts.on_train_begin()  # of another call of `fit`
    return folder


def provider(path):
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(path))
    multiplexer.Reload()
    return data_provider.MultiplexerDataProvider(multiplexer, str(path))


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
    assert list(texts) == ["logs/train"]
    assert {tag: len(found) for tag, found in texts["logs/train"].items()} == {
        "configuration": 1,
        "model": 1,
    }
    [configuration] = texts["logs/train"]["configuration"]
    assert "| variant | `joint` |" in configuration
    assert "| optimizer.learning_rate | `0.002` |" in configuration
    assert texts["logs/train"]["model"] == [layers_table(network)]


def test_a_model_is_a_table_of_its_layers(network):
    head, rule, *rows, _, total = layers_table(network).splitlines()
    assert (head, rule) == ("| layer | type | parameters |", "| --- | --- | --- |")
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert sum(int(count.replace(",", "")) for *_, count in cells) == network.count_params()
    assert total == f"{network.count_params():,} parameters in all"
    names = [name for name, *_ in cells]
    assert len(set(names)) == len(names)
    for part in ("image_embedding", "text_embedding", "block_0", "block_1", "final_norm"):
        assert sum(part in name for name in names) == 1


def test_a_settings_table_keeps_its_columns():
    table = settings_table({"a": (1, 2), "b": "x|y", "c": "", "d": 0}).splitlines()
    assert table[2:] == ["| a | `(1, 2)` |", "| b | `x\\|y` |", "| c |  |", "| d | `0` |"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, network):
    """Two runs that are done, of which one was started twice, and one that is not."""
    path = tmp_path_factory.mktemp("runs")
    finish_session(start(path / "first", network), {"image_accuracy": 0.5, "mlm_loss": 6.5}, 500)
    start(path / "second", network, image_batch=64)
    # TensorBoard reads files in the order of their names, which hold the time in whole seconds.
    began = int(time.time())
    while int(time.time()) == began:
        time.sleep(0.05)
    second = start(path / "second", network, step=9, image_batch=64, checkpoint_interval=3)
    finish_session(second, {"image_accuracy": 0.75, "mlm_loss": 5.0}, 500)
    start(path / "third", network, variant="vit")
    finish_session(RunFolder(str(path / "third"), writes=False), {"image_accuracy": 1.0}, 500)
    return path


def hparams(path):
    """(TensorBoard's experiment, its session groups by name)."""
    found = backend_context.Context(base_plugin.TBContext(data_provider=provider(path)))
    request = context.RequestContext()
    metadata = found.hparams_metadata(request, "")
    listed = found.hparams_from_data_provider(request, "", limit=None)
    experiment = found.experiment_from_metadata(request, "", True, metadata, listed)
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=[
            api_pb2.STATUS_UNKNOWN,
            api_pb2.STATUS_SUCCESS,
            api_pb2.STATUS_RUNNING,
        ],
        include_metrics=True,
    )
    groups = list_session_groups.Handler(request, found, "", asked).run().session_groups
    return experiment, {group.name.removesuffix("/logs/hparams"): group for group in groups}


def test_the_table_of_runs(runs):
    experiment, groups = hparams(runs)
    assert set(groups) == {"first", "second", "third"}
    differing = {info.name for info in experiment.hparam_infos if info.differs}
    assert differing == {"variant", "image_batch"}  # TensorBoard keeps to a run's first start
    assert len(experiment.hparam_infos) > 50
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert metrics == {"validation/image_accuracy", "validation/mlm_loss"}

    def metric_values(name):
        return {value.name.tag: value.value for value in groups[name].metric_values}

    assert metric_values("first") == {
        "validation/image_accuracy": 0.5,
        "validation/mlm_loss": 6.5,
    }
    assert metric_values("second")["validation/image_accuracy"] == 0.75
    assert metric_values("third") == {}
    settings = groups["second"].hparams
    assert settings["image_batch"].number_value == 64
    assert settings["checkpoint_interval"].number_value == 100
    assert groups["third"].hparams["variant"].string_value == "vit"
    statuses = {name: group.sessions[0].status for name, group in groups.items()}
    done, running = api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN
    assert statuses == {"first": done, "second": done, "third": running}
