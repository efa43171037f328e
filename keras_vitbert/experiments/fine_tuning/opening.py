"""Opens a fine-tuning: its checkpoint, its data, and the settings that follow from both."""

from typing import Any

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.experiments.fine_tuning import recommended
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.saved import SavedModel
from keras_vitbert.experiments.fine_tuning.search import FineTuningRun
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.files import check_output_file

_OPTIONS = ("predictions", "given", "sweep", "seeds", "accepted")
_OPTIONS += ("on_divergence", "max_divergences")


def open_fine_tuning(
    config: FineTuning, folder: str, machine: Machine, writes: bool = True, **named: Any
) -> FineTuningRun:
    """Opens a run, new or to be resumed. Nothing is written.

    Args:
        config: what the devices, the checkpoint and the data decide is resolved here.
        folder: of the run.
        machine: where it computes.
        writes: whether the folder may be written to.
        named: fields of `Inputs`; and of `FineTuningRun`: `predictions`, `given`, `sweep`, `seeds`,
            `accepted`, `on_divergence` and `max_divergences`.

    Raises:
        ValueError: the devices cannot do what the config asks for, or the checkpoint or the data
            are missing, damaged or do not fit.
    """
    options = {name: named.pop(name) for name in _OPTIONS if name in named}
    inputs, run_folder = Inputs(**named), RunFolder(folder, machine.workers.is_chief and writes)
    if predictions := options.get("predictions"):
        check_output_file(predictions, inputs.paths(config.task), folder)
    config, pictures = config.for_devices(machine.devices), None
    record = run_folder.record()
    with machine.workers.watched():
        pretrained, config = inputs.pretrained(config)
        chosen = recommended.Chosen(
            config, pretrained.model, record and record["experiment"], machine.replicas
        )
        length, choose = pretrained.max_length(config), None
        if config.kind == "images":

            def choose(store):
                nonlocal config, pictures
                pictures = recommended.look_at(store)
                config = chosen.for_images(store.count, pictures)
                return config

        data = inputs.open(config, pretrained.vocabulary, length, choose=choose)
        if config.kind == "text":
            config = chosen.for_texts(data.train.count)
    return FineTuningRun(
        config=config,
        folder=run_folder,
        machine=machine,
        data=data,
        inputs=inputs,
        pretrained=pretrained,
        chosen=chosen.fields,
        pictures=pictures,
        **options,
    )


def open_saved(
    config: FineTuning, machine: Machine, predictions: str = "", **inputs: Any
) -> SavedModel:
    """Opens the model of a fine-tuned run, to be evaluated.

    Args:
        config: of the run's task, with changes of its evaluation and of the columns of its data.
        machine: where it computes.
        predictions: a CSV file to write all predictions to; "" for none.
        inputs: fields of `Inputs`; the checkpoint is the run's folder.

    Raises:
        ValueError: another field of the config is changed, or the file is one of the inputs.
    """
    for field in config.changed():
        if field not in ("evaluation_batch", "test_examples") and not field.startswith("data."):
            raise ValueError(f"{field}: has no effect on an evaluation, which uses the run's")
    reads = Inputs(**inputs)
    if predictions:
        check_output_file(predictions, reads.paths(config.task))
    config = config.for_devices(machine.devices)
    return SavedModel(given=config, machine=machine, inputs=reads, predictions=predictions)
