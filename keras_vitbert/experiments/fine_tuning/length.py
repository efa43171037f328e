"""How long a trial on a user's own data trains: until held-out examples say that it is enough.

The first half of a training of `steps` learns from all but a part of the training examples, which
is measured now and then. While that gets better, the learning rate stands still where it is. Then,
or at the latest so that all ends at `most_steps`, the second half follows, stretched as the first
one was, on all training examples: the held-out ones are given back. Where nothing gets better
halfway, the rates are those of a training of `steps`. A rate that stands still and falls at the
end reaches what a decay over the same steps does (Hägele et al. 2024).
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_vitbert.configs.fine_tuning import FineTuning, dotted
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator, Split, logged
from keras_vitbert.experiments.fine_tuning.trainer import schedule
from keras_vitbert.runs.callbacks import TrainerCallback
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.optimizers import averaged
from pipelines.status import doing

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

    @property
    def _executed(self) -> int:
        return max(self.config.steps_per_execution, 1)

    @property
    def interval(self) -> int:
        """Steps between measures: a tenth of `config.steps`, in whole epochs of the log."""
        epoch = self.config.steps_per_epoch
        return max(self.config.steps // 10 // epoch, 1) * epoch

    @property
    def half(self) -> int:
        """The step from which the rate stands still; if possible, one with measures."""
        half = self.config.steps // 2
        unit = self.interval if half >= self.interval else self._executed
        return max(half // unit, 1) * unit

    @property
    def longest(self) -> int:
        """The step from which the rate falls at the latest."""
        longest = self.half * self.config.most_steps // self.config.steps
        return longest // self._executed * self._executed

    @property
    def limit(self) -> int:
        """The step from which the rate falls, if that is known, else the latest one."""
        return self.reached or self.longest

    @property
    def steps(self) -> int:
        """All steps, if the rate falls from `limit`."""
        rest = (self.config.steps - self.half) * self.limit // self.half
        return self.limit + max(rest // self._executed, 1) * self._executed

    @property
    def ended_too_early(self) -> bool:
        """Whether `most_steps` ended it while held-out examples still got better."""
        return self.reached == self.longest and self._still_improves

    @property
    def _still_improves(self) -> bool:
        """Whether a measure of held-out examples was best of late."""
        latest = self.measured[-1]
        for name in latest.keys() - {"step"}:
            sign = _BETTER[name.rpartition(".")[2]]
            best = max(self.measured, key=lambda row, n=name, sign=sign: sign * row[n])
            if best["step"] >= (1 - _PATIENCE) * latest["step"]:
                return True
        return False

    def add(self, step: int, values: dict[str, float]) -> bool:
        """Adds measures of a step, and returns whether the rate falls from there."""
        self.measured = [row for row in self.measured if row["step"] < step]
        self.measured.append({"step": step, **values})
        enough = step >= self.half and not self._still_improves
        if enough or step >= self.limit:
            self.reached = step
        content = {"measured": self.measured, "reached": self.reached}
        self.folder.write(_FILE, json.dumps(content) + "\n")
        return bool(self.reached)

    def rate(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """The rate of a training of `steps`, which stands still up to `limit`."""
        steps = self.config.steps
        stretched = (self.steps - self.limit) / max(steps - self.half, 1)
        return _Held(schedule(self.config.optimizer, steps), self.half, self.limit, stretched)


class _Held(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that stands still from a step until another; its rest takes longer by a factor."""

    def __init__(self, whole: Any, step: int, until: int, stretched: float):
        self.whole, self.step, self.until, self.stretched = whole, step, until, stretched

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rest: Any = ops.maximum(step - self.until, 0.0)
        rest /= self.stretched
        return self.whole(ops.minimum(step, float(self.step)) + rest)


class Measuring(TrainerCallback):
    """Measures held-out examples every tenth of `config.steps`, and says when the rate falls."""

    def __init__(self, length: Length, held_out: Sequence[tuple[str, Evaluator, Split]]):
        super().__init__()
        self.length, self.held_out = length, held_out

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        length, step, values = self.length, self.model.step, {}
        if step % length.interval and step < length.limit or step < length.reached:
            return
        with doing("measuring held-out examples", "validation"), averaged(self.model):
            for section, evaluator, split in self.held_out:
                measures = logged(evaluator.predict(split).measures())
                values |= {dotted(section, name): measures[name] for name in _BETTER}
        if logs is not None:
            logs.update({f"held_out_{name}": value for name, value in values.items()})
        if length.add(step, values):
            self.model.stop_training = True
