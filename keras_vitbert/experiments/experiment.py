"""A run in four lines: an experiment by name, opened in a folder, trained.

    from keras_vitbert import experiment, open_run

    run = open_run(experiment("sample", variant="vitbert"), "runs/mine")
    run.train()

The commands are flags to this.
"""

from collections.abc import Collection, Sequence
from typing import Any

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.run import Experiment
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.measuring import evaluate_saved, run_probe
from keras_vitbert.experiments.fine_tuning.search import FineTuningRun, open_fine_tuning
from keras_vitbert.experiments.fine_tuning.tasks import TASKS, find_config
from keras_vitbert.experiments.pretraining.run import PretrainingRun, open_pretraining
from keras_vitbert.runs.machine import Machine, open_machine

_DEVICES = ("tpu", "tpu_address", "deterministic", "wait_seconds")


def experiment(name: str, **values: Any) -> Pretraining | FineTuning:
    """An experiment by name.

    Args:
        name: a config of pre-training (`sample`, `small`, `paper`, `quick`, `paper:SIZE`,
            `FILE.py`), or a task of fine-tuning (`cifar10`, ..., `rte`; `images` or `texts` for
            your own data), or two at once, on images and on texts: `images,texts`.
        values: of fields, `steps=100`; those of sections by `**{"optimizer.learning_rate": 1e-3}`.

    Raises:
        ValueError: there is no such experiment or field, or a value is bad.
    """
    if name.partition(",")[0] in TASKS:
        return find_config(name).with_values(values)
    return load_config(name).with_values(values)


def open_run(
    config: Pretraining | FineTuning, folder: str, **named: Any
) -> PretrainingRun | FineTuningRun:
    """Opens a run, new or to be resumed: devices, data, sizes, initial weights and teachers.

    Args:
        config: see `experiment`.
        folder: of the run.
        named: a `machine`, or arguments of `runs.machine.open_machine` (this machine by default);
            and arguments of `pretraining.run.open_pretraining`, or of
            `fine_tuning.search.open_fine_tuning` and `fine_tuning.inputs.Inputs`.

    Returns:
        A run with `train()`, `evaluate()` and the `step` that it has reached.

    Raises:
        ValueError: names the field, the input or the file that is wrong.
    """
    machine = _machine(config, named)
    if isinstance(config, Pretraining):
        return open_pretraining(config, folder, machine, **named)
    return open_fine_tuning(config, folder, machine, **named)


def evaluate_run(
    config: FineTuning, predictions: str = "", **named: Any
) -> dict[str, dict[str, float]]:
    """Evaluates the model of a fine-tuned run on data; for `named`, see `open_run`."""
    for field in config.changed():
        if field not in ("evaluation_batch", "test_examples") and not field.startswith("data."):
            raise ValueError(f"{field}: has no effect on an evaluation, which uses the run's")
    return evaluate_saved(config, _machine(config, named), Inputs.pop_from(named), predictions)


def probe_task(
    config: FineTuning,
    shots: Sequence[int],
    draws: int = 1,
    given: Collection[str] = (),
    **named: Any,
) -> dict[str, Any]:
    """Probes a checkpoint on a task, see `measuring.run_probe`; for `named`, see `open_run`."""
    return run_probe(config, _machine(config, named), Inputs.pop_from(named), shots, draws, given)


def _machine(config: Experiment, named: dict[str, Any]) -> Machine:
    """The machine among named arguments, which it takes out; else it opens one."""
    devices = {name: named.pop(name) for name in _DEVICES if name in named}
    return named.pop("machine", None) or open_machine(sharding=config.sharding, **devices)
