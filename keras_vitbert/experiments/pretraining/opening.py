"""Opens a pre-training: its data, the sizes that follow from them, and its folder."""

from typing import Any

from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.experiments.pretraining.run import PretrainingRun
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.status import doing


def open_pretraining(
    config: Pretraining,
    folder: str,
    machine: Machine,
    *,
    image_teacher: str = "",
    text_teacher: str = "",
    skip_damaged: int = 0,
    cache_dir: str = "",
    writes: bool = True,
    **options: Any,
) -> PretrainingRun:
    """Opens a run, new or to be resumed. Nothing is written but what the data need.

    Args:
        config: what the devices and the data decide is resolved here.
        folder: of the run.
        machine: where it computes.
        image_teacher, text_teacher: see `PretrainingRun.teacher_paths`; "" for none.
        skip_damaged, cache_dir: see `pretraining.data.open_data`.
        writes: whether the folder may be written to.
        options: further fields of `PretrainingRun`.

    Raises:
        ValueError: the devices cannot do what the config asks for, or data are missing or damaged.
    """
    config = config.for_devices(machine.devices)
    run_folder = RunFolder(folder, machine.workers.is_chief and writes)
    with machine.workers.watched(), doing("opening the data"):
        data = open_data(config, cache_dir, skip_damaged)
    config = config.with_sizes(data.sizes).as_variant(config.variant)
    if data.case:
        config = config.with_values({"data.case": data.case})
    return PretrainingRun(
        config=config,
        folder=run_folder,
        machine=machine,
        data=data,
        teacher_paths={"image": image_teacher, "text": text_teacher},
        **options,
    )
