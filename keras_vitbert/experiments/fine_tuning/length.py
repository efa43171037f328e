"""How long a trial on a user's own data trains: until held-out examples say that it is enough.

First a constant rate trains on all but a part of the training examples, which is measured now and
then. Once that no longer gets better, or at `most_steps`, the rate falls to 0 over the last part
of the steps, on all training examples: the held-out ones are given back. A constant rate that
falls at the end reaches what a decay over the same steps does, and its length need not be known
before (Hägele et al. 2024).
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import keras

from keras_vitbert.configs.fine_tuning import FineTuning, dotted
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator, Split, logged
from keras_vitbert.runs.callbacks import TrainerCallback
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.optimizers import WarmupPolynomialDecay, averaged
from pipelines.status import doing

_DECAY = 0.3  # the share of the steps in which the rate falls
_PATIENCE = 1 / 3  # of the steps so far, in which a measure must have been best
_FILE = "length.json"
_BETTER = {"loss": -1, "accuracy": 1}  # the sign of a better value
TOO_EARLY = "held-out examples still got better; a larger most_steps than {:,} trains longer"


@dataclasses.dataclass
class Length:
    """The length of a trial, found while it trains; kept in `length.json` in its folder."""

    config: FineTuning
    folder: RunFolder
    measured: list[dict[str, float]]  # `step`, and measures by their names
    reached: int = 0  # the step from which the rate falls; 0 until that is known

    @classmethod
    def read(cls, config: FineTuning, folder: RunFolder) -> "Length":
        """What is known so far, of a trial that begins or goes on."""
        return cls(config, folder, **json.loads(folder.read(_FILE) or '{"measured": []}'))

    def _at_constant_rate(self, steps: int) -> int:
        """How many of the steps precede the fall, a multiple of what is executed at once."""
        executed = max(self.config.steps_per_execution, 1)
        return max(int(steps * (1 - _DECAY)) // executed, 1) * executed

    @property
    def longest(self) -> int:
        """The step at which the rate falls at the latest."""
        return self._at_constant_rate(self.config.most_steps)

    @property
    def limit(self) -> int:
        """The step at which the rate falls, if that is known, else the latest one."""
        return self.reached or self.longest

    @property
    def steps(self) -> int:
        """All steps, once it is known when the rate falls."""
        executed = max(self.config.steps_per_execution, 1)
        falling = self.reached * _DECAY / (1 - _DECAY)
        return self.reached + max(int(falling) // executed, 1) * executed

    @property
    def ended_too_early(self) -> bool:
        """Whether `most_steps` ended it while held-out examples still got better."""
        return self.reached == self.longest and self._still_improves

    @property
    def _still_improves(self) -> bool:
        """Whether a measure of held-out examples was best of late."""
        best = [
            max(self.measured, key=lambda row, name=name: _BETTER[_measure(name)] * row[name])
            for name in self.measured[-1]
            if name != "step"
        ]
        latest = max(row["step"] for row in best)
        return latest >= (1 - _PATIENCE) * self.measured[-1]["step"]

    def add(self, step: int, values: dict[str, float]) -> bool:
        """Adds measures of a step, and returns whether the rate falls from there."""
        self.measured = [row for row in self.measured if row["step"] < step]
        self.measured.append({"step": step, **values})
        enough = step >= self._at_constant_rate(self.config.steps) and not self._still_improves
        if enough or step >= self.limit:
            self.reached = step
        content = {"measured": self.measured, "reached": self.reached}
        self.folder.write(_FILE, json.dumps(content) + "\n")
        return bool(self.reached)

    def constant_rate(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """The rate until it falls, warmed up as in a training of `config.steps`."""
        optimizer = self.config.optimizer
        warmup = min(round(optimizer.warmup * self.config.steps), self.limit - 1)
        return WarmupPolynomialDecay(optimizer.learning_rate, warmup, self.limit, power=0.0)

    def falling_rate(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """The rate of the last steps."""
        peak = self.config.optimizer.learning_rate
        return WarmupPolynomialDecay(peak, self.reached, self.steps)


def _measure(name: str) -> str:
    return name.rpartition(".")[2]


class Measuring(TrainerCallback):
    """Measures held-out examples every tenth of `config.steps`, and ends the constant rate."""

    def __init__(self, length: Length, held_out: Sequence[tuple[str, Evaluator, Split]]):
        super().__init__()
        self.length, self.held_out = length, held_out
        config = length.config
        epochs = max(config.steps // 10 // config.steps_per_epoch, 1)
        self.interval = epochs * config.steps_per_epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        step, values = self.model.step, {}
        if step % self.interval and step < self.length.limit or step < self.length.reached:
            return
        with doing("measuring held-out examples", "validation"), averaged(self.model):
            for section, evaluator, split in self.held_out:
                measures = logged(evaluator.predict(split).measures())
                values |= {dotted(section, name): measures[name] for name in _BETTER}
        if logs is not None:
            logs.update({f"held_out_{name}": value for name, value in values.items()})
        if self.length.add(step, values):
            self.model.stop_training = True
