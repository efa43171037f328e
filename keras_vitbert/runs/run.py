"""What a run of pre-training and one of fine-tuning have in common."""

import dataclasses
from typing import Any

from keras_vitbert.configs.run import Experiment
from keras_vitbert.runs.checkpoints import latest
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.workers import Workers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """An opened run; the subclasses add what is trained."""

    config: Experiment  # resolved for the devices and the data
    folder: RunFolder
    machine: Machine
    data: Any  # open: `pretraining.data.Data` or `fine_tuning.task_data.TaskData`
    on_divergence: str = "stop"  # or skip, restore, see `runs.divergence`
    max_divergences: int = 10  # the most steps to skip, or times to restore
    accepted: tuple[str, ...] = ()  # what may differ from what the run began with

    def __post_init__(self):
        if self.on_divergence not in (known := ("stop", "skip", "restore")):
            raise ValueError(f"on_divergence={self.on_divergence}: must be one of {known}")

    def train(self, dry_run: bool = False) -> dict[str, Any]:
        """Trains to the end, from the start or from the last checkpoint, and prints a report."""
        raise NotImplementedError

    def evaluate(self) -> dict[str, Any]:
        """Measures what was trained on the data that it was not trained on."""
        raise NotImplementedError

    @property
    def step(self) -> int:
        """The step of the last checkpoint; 0 without one."""
        return latest(self.folder.checkpoints)[1]

    @property
    def workers(self) -> Workers:
        """The processes that share the run."""
        return self.machine.workers

    @property
    def strategy(self) -> Any:
        """See `tpu.strategy.get_strategy`."""
        return self.machine.strategy

    @property
    def replicas(self) -> int:
        """How many devices share a batch."""
        return self.machine.replicas

    @property
    def peak_flops(self) -> float | None:
        """The most operations a second; None where that is not known."""
        return self.machine.peak_flops(self.config.dtype)
