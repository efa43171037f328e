"""A run in four lines: an experiment by name, opened in a folder, trained.

    from keras_vitbert import experiment, open_run

    run = open_run(experiment("sample", variant="vitbert"), "runs/mine")
    run.train()

The commands are flags to this.
"""

from typing import Any

from keras_vitbert.configs.fine_tuning import get_config
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.run import Experiment
from keras_vitbert.fine_tuning.opening import open_fine_tuning, open_saved
from keras_vitbert.fine_tuning.tasks import TASKS
from keras_vitbert.pretraining.opening import open_pretraining
from keras_vitbert.runs.machine import Machine, open_machine
from keras_vitbert.runs.run import Run

__all__ = ["experiment", "open_run", "open_saved"]


def experiment(name: str, **values: Any) -> Experiment:
    """An experiment by name.

    Args:
        name: a config of pre-training (`sample`, `small`, `paper`, `quick`, `paper:SIZE`,
            `FILE.py`), or a task of fine-tuning (`cifar10`, ..., `rte`; `images` or `texts` for
            your own data).
        values: of fields, `steps=100`; those of sections by `**{"optimizer.learning_rate": 1e-3}`.

    Raises:
        ValueError: there is no such experiment or field, or a value is bad.
    """
    if name in TASKS:
        return get_config(name, TASKS[name].kind).with_values(values)
    return load_config(name).with_values(values)


def open_run(config: Experiment, folder: str, machine: Machine | None = None, **inputs: Any) -> Run:
    """Opens a run, new or to be resumed: devices, data, sizes, initial weights and teachers.

    Args:
        config: see `experiment`.
        folder: of the run.
        machine: where it computes; this machine by default.
        inputs: see `pretraining.opening.open_pretraining`, `fine_tuning.opening.open_fine_tuning`.

    Returns:
        A run with `train()`, `evaluate()` and the `step` that it has reached.

    Raises:
        ValueError: names the field, the input or the file that is wrong.
    """
    machine = machine or open_machine(sharding=config.sharding)
    is_pretraining = isinstance(config, Pretraining)
    open_one = open_pretraining if is_pretraining else open_fine_tuning
    return open_one(config, folder, machine, **inputs)
