"""A run in four lines: an experiment by name, opened in a folder, trained.

    from keras_vitbert import experiment, open_run

    run = open_run(experiment("sample", variant="vitbert"), "runs/mine")
    run.train()

The commands are flags to this.
"""

from typing import Any

from keras_vitbert.configs.fine_tuning import FineTuning, get_config
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.run import Experiment
from keras_vitbert.experiments.fine_tuning import opening
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.probes import Probe
from keras_vitbert.experiments.fine_tuning.saved import SavedModel
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.pretraining.run import open_pretraining
from keras_vitbert.runs.machine import open_machine
from keras_vitbert.runs.run import Run

_DEVICES = ("tpu", "tpu_address", "deterministic", "wait_seconds")


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


def open_run(config: Experiment, folder: str, **named: Any) -> Run:
    """Opens a run, new or to be resumed: devices, data, sizes, initial weights and teachers.

    Args:
        config: see `experiment`.
        folder: of the run.
        named: a `machine`, or arguments of `runs.machine.open_machine` (this machine by default);
            and those of `pretraining.run.open_pretraining` or
            `fine_tuning.opening.open_fine_tuning`.

    Returns:
        A run with `train()`, `evaluate()` and the `step` that it has reached.

    Raises:
        ValueError: names the field, the input or the file that is wrong.
    """
    machine = _machine(config, named)
    is_pretraining = isinstance(config, Pretraining)
    open_one = open_pretraining if is_pretraining else opening.open_fine_tuning
    return open_one(config, folder, machine, **named)


def open_saved(config: FineTuning, **named: Any) -> SavedModel:
    """Opens the model of a fine-tuned run with data, to `evaluate()` it.

    Args:
        config: of the run's task, with changes of its evaluation and of the columns of its data.
        named: see `open_run`, and `fine_tuning.opening.open_saved`.
    """
    return opening.open_saved(config, _machine(config, named), **named)


def open_probe(config: FineTuning, given: frozenset[str] = frozenset(), **named: Any) -> Probe:
    """Opens a checkpoint with the data of a task, for `Probe.run`.

    Args:
        config: of the task.
        given: fields that somebody set; without `image_size`, it is the checkpoint's.
        named: see `open_run`, and `fine_tuning.inputs.Inputs`.
    """
    return Probe(config, given, _machine(config, named), Inputs(**named))


def _machine(config, named):
    """The machine among named arguments, which it takes out; else it opens one."""
    devices = {name: named.pop(name) for name in _DEVICES if name in named}
    return named.pop("machine", None) or open_machine(sharding=config.sharding, **devices)
