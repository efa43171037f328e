"""What happens after a step that was not applied, see `keras_vitbert.training.anomaly_guard`.

`divergences.csv` in the run's folder has a line for each: the reason, the variables whose gradients
are not finite, and the records of its batch. What follows depends on `Run.on_divergence`:

stop      the run ends with status 3;
skip      training continues as if the batch had not existed;
restore   weights, moments and masks return to those of the last good checkpoint, and training
          continues after the step: data and learning rate continue, what was learnt since is lost.

After `Run.max_divergences` of such steps, a run ends with status 3 all the same. Their number is
part of a checkpoint: a run that is killed and resumed ends where an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.callbacks import Checkpoints, TrainerCallback
from pipelines.command_line import Diverged, say

if TYPE_CHECKING:
    from keras_vitbert.runs.run import Run, Stream
    from keras_vitbert.training.anomaly_guard import BadStep
    from keras_vitbert.training.base_trainer import BaseTrainer

_FILE = "divergences.csv"


def counts(trainer: BaseTrainer) -> dict[str, int]:
    """How often a run diverged, for its summary."""
    guard = trainer.anomaly_guard
    return {
        "not_applied": int(guard.bad_steps.numpy()),
        "restores": int(guard.restores.numpy()),
    }


class DivergenceGuard(TrainerCallback):
    """Records each bad step, and stops, continues, or goes back."""

    def __init__(self, run: Run, stream: Stream, keeper: Checkpoints):
        super().__init__()
        self.keeper, self.folder, self.stream = keeper, run.folder, stream
        self.policy, self.limit = run.on_divergence, run.max_divergences

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        bad_steps = self.model.bad_steps
        if not bad_steps:
            return
        self._write(bad_steps)
        first = f"step {bad_steps[0].step + 1} was not applied ({bad_steps[0].reason})"
        details = f"see {self.folder.path}/{_FILE}"
        if self.policy == "stop":
            raise Diverged(
                f"{first}, {details}: go on with on_divergence=skip or restore, or begin again "
                "with a lower optimizer.learning_rate"
            )
        so_far, skips = counts(self.model), self.policy == "skip"
        count = so_far["not_applied"] if skips else so_far["restores"] + 1
        if count > self.limit:
            raise Diverged(f"{first}; max_divergences={self.limit} is reached; {details}")
        done = "skipped"
        if not skips:
            self.keeper.wait()
            name = checkpoints.go_back(self.folder.checkpoints, self.model)
            if not name:
                raise Diverged(f"{first}; no checkpoint has been shown to be good; {details}")
            done = f"back to the weights of {name}"
        say(f"{first}: {done}, {count} of at most {self.limit}; {details}")

    def _write(self, bad_steps: Sequence[BadStep]) -> None:
        """Adds lines to the file; replaces those of steps that are repeated."""
        known = self.folder.rows(bad_steps[0].step, _FILE)
        names = [variable.path for variable in self.model.network.trainable_variables]
        rows = [
            {
                "step": bad.step + 1,
                "reason": bad.reason,
                "loss": bad.loss,
                "gradient_norm": bad.gradient_norm,
                "largest_update": bad.largest_update,
                "variables": " ".join(names[i] for i in bad.variables),
                **{
                    kind: "; ".join(records)
                    for kind, records in self.stream.batch_records(bad.step).items()
                },
            }
            for bad in bad_steps
        ]
        self.folder.write_rows([*known, *rows], _FILE)
