"""Opens a fine-tuning: its checkpoint, its data, and the settings that follow from both."""

import dataclasses
from typing import Any

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.fine_tuning import recommended
from keras_vitbert.fine_tuning.pretrained import Pretrained, open_pretrained
from keras_vitbert.fine_tuning.search import FineTuningRun
from keras_vitbert.fine_tuning.task_data import TaskData, open_task
from keras_vitbert.fine_tuning.tasks import Task, find_task, inputs_of
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.files import check_output_file
from pipelines.status import doing
from pipelines.text.casing import case_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a fine-tuning or a probe reads."""

    checkpoint: str  # what `keras_vitbert.load` takes, or `rand`
    architecture: str = ""  # of `rand`, see `open_pretrained`
    vocabulary: str = ""  # a file, for text if the checkpoint has none
    data_dir: str = ""  # own data, or TFDS' data folder
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # paths by split
    download: bool = False  # whether TFDS may fetch missing data
    skip_damaged: int = 0  # rows of tables that may be left out

    def paths(self, task: Task) -> list[str]:
        """Everything that is read, for outputs that must not be one of them."""
        named = [self.checkpoint, self.architecture, self.vocabulary]
        return [*named, *inputs_of(task, self.data_dir, self.files)]

    def pretrained(self, config: FineTuning) -> tuple[Pretrained, FineTuning]:
        """Opens the checkpoint; the config gets the case of its texts."""
        with doing(f"opening {self.checkpoint}"):
            opened = open_pretrained(
                self.checkpoint, self.architecture, self.vocabulary, config.kind
            )
        if config.kind == "text":
            where, asked = self.vocabulary or self.checkpoint, config.value("data.case")
            case = case_of(where, opened.vocabulary, asked, opened.case)
            config = config.with_values({"data.case": case})
        return opened, config

    def open(self, config: FineTuning, pretrained: Pretrained, **options: Any) -> TaskData:
        """Opens the data; `options` are further arguments of `open_task`."""
        max_length = 0
        if config.kind == "text":
            max_length = pretrained.fine_tuned_model("text", config)["max_sequence_length"]
        with doing("opening the data"):
            return open_task(
                *(find_task(config.task), config, pretrained.vocabulary, max_length),
                data_dir=self.data_dir,
                download=self.download,
                skip_damaged=self.skip_damaged,
                files=self.files,
                **options,
            )


def open_fine_tuning(
    config: FineTuning,
    folder: str,
    machine: Machine,
    *,
    predictions: str = "",
    given: frozenset[str] = frozenset(),
    writes: bool = True,
    sweep: bool = False,
    seeds: int = 1,
    divergence: Any = None,
    accepted: tuple[str, ...] = (),
    **inputs: Any,
) -> FineTuningRun:
    """Opens a run, new or to be resumed. Nothing is written.

    Args:
        config: what the devices, the checkpoint and the data decide is resolved here.
        folder: of the run.
        machine: where it computes.
        predictions: a CSV file to write all predictions to; "" for none.
        given: fields that somebody set, for the report of what was chosen.
        sweep, seeds, divergence, accepted: see `FineTuningRun`.
        writes: whether the folder may be written to.
        inputs: fields of `Inputs`.

    Raises:
        ValueError: the devices cannot do what the config asks for, or the checkpoint or the data
            are missing, damaged or do not fit.
    """
    reads = Inputs(**inputs)
    task = find_task(config.task)
    if predictions:
        check_output_file(predictions, reads.paths(task), folder)
    config = config.for_devices(machine.devices)
    run_folder = RunFolder(folder, machine.workers.is_chief and writes)
    record = run_folder.record()
    recorded = record and record["experiment"]
    pictures = None
    with machine.workers.watched():
        pretrained, config = reads.pretrained(config)
        chosen = recommended.Chosen(config, pretrained.model, recorded, machine.replicas)
        if config.kind == "images":

            def choose(store):
                nonlocal config, pictures
                pictures = recommended.look_at(store)
                config = chosen.for_images(store.count, pictures)
                return config

            data = reads.open(config, pretrained, choose=choose)
        else:
            data = reads.open(config, pretrained)
            config = chosen.for_texts(data.train.count)
    return FineTuningRun(
        config=config,
        folder=run_folder,
        machine=machine,
        data=data,
        task=task,
        pretrained=pretrained,
        sweep=sweep,
        seeds=seeds,
        chosen=chosen.fields,
        pictures=pictures,
        given=given,
        predictions=predictions,
        accepted=accepted,
        **({"divergence": divergence} if divergence else {}),
    )
