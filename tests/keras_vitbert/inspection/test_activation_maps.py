import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_vitbert.configs.devices import Devices
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.experiments.pretraining.trainer import build_trainer
from keras_vitbert.inspection.activations import MeanActivations, co_activation
from keras_vitbert.inspection.callbacks import ActivationMaps
from keras_vitbert.inspection.drawing import activation_figures, picture, style
from keras_vitbert.inspection.values import read_values
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.machine import Machine, Workers
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.tiny_runs import config_of

VARIANT = "vitbert_no_kd"


class Killed(Exception):
    def __init__(self, callback):
        self.callback = callback


@pytest.fixture(scope="module")
def opened(sources):
    """Config (10 steps in epochs of 4, batches of 4), stream and vocabulary of the tiny run."""
    config = config_of(sources, "--config.model.num_layers=2", variant=VARIANT)
    data = open_data(config)
    return config, data.stream(config), data.vocabulary


@pytest.fixture(scope="module")
def run(opened):
    """`run(folder, ...) -> (trainer, callback)`.

    Trains to the end from the folder's last checkpoint, or is killed after the maps of a step.
    """

    def run(path, interval=3, examples=5, writes=True, maps=True, kill=None):
        config, stream, vocabulary = opened
        trainer = build_trainer(config, tf.distribute.get_strategy())
        trainer.run_eagerly = True  # quicker: tracing takes longer than ten steps
        folder = RunFolder(str(path), writes)
        callback = ActivationMaps(stream, vocabulary, folder, interval, examples, config.steps)
        if kill is not None:
            show = callback._show

            def show_and_die():
                show()
                if trainer.step == kill:
                    raise Killed(callback)

            callback._show = show_and_die
        tf.io.gfile.makedirs(folder.checkpoints)
        strategy = tf.distribute.get_strategy()
        machine = Machine(strategy, Workers(strategy), Devices())
        a_run = Run(config=config, folder=folder, machine=machine, data=None)
        fit(a_run, trainer, stream, [callback] if maps else [])
        return trainer, callback

    return run


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """An undisturbed run: its folder, trainer and callback."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *run(folder)


def files(folder):
    """The content of the files of values by name, in order."""
    return {path.name: path.read_bytes() for path in sorted((folder / "inspection").iterdir())}


def events(folder):
    """TensorBoard's data of a run's training."""
    accumulator = EventAccumulator(str(folder / "train"), {"images": 0, "tensors": 0})
    return accumulator.Reload()


def recorded(data, tag):
    """dict of step to the tensor that was recorded."""
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in data.Tensors(tag)}


@pytest.mark.slow
def test_values_are_written_before_training_at_intervals_and_at_the_end(whole, opened):
    folder, trainer, callback = whole
    values = read_values(str(folder), "activations")
    assert list(values) == [0, 3, 6, 9, 10]
    names = sorted(path.name for path in (folder / "inspection").iterdir())
    assert names[-1] == "activations-00000010.npz" and len(names) == 5
    for step, arrays in values.items():
        assert arrays["step"] == step
        assert arrays["image"].shape == arrays["text"].shape == (2, 8)
        assert arrays["image"].dtype == np.float32
    assert np.abs(values[0]["text"] - values[10]["text"]).max() > 0.01

    # Those of the end, from what `validation` gives first.
    _, stream, vocabulary = opened
    means = MeanActivations(trainer.network.backbone, tf.distribute.get_strategy(), vocabulary)
    expected = means(stream.validation().take(2))
    for modality in ("image", "text"):
        np.testing.assert_array_equal(values[10][modality], expected[modality])
        np.testing.assert_array_equal(callback.values()[modality], expected[modality])


@pytest.mark.parametrize("examples, batches", [(1, 1), (4, 1), (5, 2), (1000, 4)])
def test_examples_are_whole_batches_and_not_more_than_there_are(opened, examples, batches):
    config, stream, vocabulary = opened
    assert stream.validation_batches == 4 and config.image_batch_size == 4
    callback = ActivationMaps(stream, vocabulary, None, 3, examples, 10)
    callback._model = types.SimpleNamespace(distribute_strategy=tf.distribute.get_strategy())
    assert len(callback._batches) == batches


@pytest.fixture
def shown(finished):
    """The folder of a run whose maps are shown, that of the command."""
    return finished("joint")


@pytest.mark.parametrize(("executed", "begin"), [(1, 0), (1, 5), (2, 0), (4, 8)])
@pytest.mark.parametrize("interval", [1, 3, 5, 100])
def test_steps_that_are_shown(tmp_path, interval, executed, begin):
    """Before training, at the ends of executions with a multiple of the interval, and the end."""
    callback = ActivationMaps(None, None, None, interval, 5, 20)
    model = types.SimpleNamespace(step=begin, steps_per_execution=executed)
    callback._model, found = model, []
    callback._show = lambda: found.append(model.step)
    callback.on_train_begin()
    while model.step < 20:
        model.step += executed
        callback.on_train_batch_end(0)
    ends = range(begin + executed, 21, executed)
    expected = [
        end
        for end in ends
        if end == 20 or any(step % interval == 0 for step in range(end - executed + 1, end + 1))
    ]
    assert found == ([0] if begin == 0 else []) + expected


def test_tensorboard_shows_the_numbers(shown):
    folder, data = shown, events(shown)
    values = read_values(str(folder), "activations")
    changing = set()
    for name in ("overlap", "correlation"):
        numbers = {s: co_activation(x["image"], x["text"])[name] for s, x in values.items()}
        found = recorded(data, f"co_activation/{name}")
        assert list(found) == list(values)
        for step, blocks in numbers.items():
            assert found[step] == pytest.approx(blocks.mean(), abs=1e-6)
        if len({tuple(blocks) for blocks in numbers.values()}) > 1:
            changing.add(name)
    # Which of eight units answers most may well stay the same.
    assert "correlation" in changing


def test_tensorboard_shows_the_pictures(shown):
    folder, data = shown, events(shown)
    for step, arrays in read_values(str(folder), "activations").items():
        with style():
            expected = activation_figures(arrays["image"], arrays["text"], step)
            assert len(expected) == len(arrays["image"]) + 1
            for tag, figure in expected.items():
                _, _, png = recorded(data, tag)[step]
                np.testing.assert_array_equal(tf.io.decode_png(png).numpy(), picture(figure))


@pytest.mark.slow
def test_only_the_writer_writes(run, tmp_path):
    with pytest.raises(Killed) as killed:
        run(tmp_path, writes=False, kill=3)
    assert killed.value.callback._batches  # it has taken part
    assert not (tmp_path / "inspection").exists() and not (tmp_path / "train").exists()


@pytest.mark.slow
def test_a_run_killed_after_its_maps_ends_with_the_same_files(whole, run, tmp_path):
    """Before the first step, and at step 6, whose last checkpoint is that of step 4."""
    for killed_at in (0, 6):
        with pytest.raises(Killed):
            run(tmp_path, kill=killed_at)
        assert files(tmp_path) == {
            name: content
            for name, content in files(whole[0]).items()
            if name <= f"activations-{killed_at:08d}.npz"
        }
    run(tmp_path)
    assert files(tmp_path) == files(whole[0])
