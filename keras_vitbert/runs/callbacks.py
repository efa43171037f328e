"""Callbacks of every training run: throughput, logs, checkpoints."""

from __future__ import annotations

import contextlib
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import keras

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.command_line import Diverged, Stopped, one_line, say, stop_request
from pipelines.status import doing
from tpu.devices import host_values

if TYPE_CHECKING:
    from keras_vitbert.runs.run import Run
    from keras_vitbert.training.base_trainer import BaseTrainer

Logs = dict[str, Any]  # of Keras: values by name


class TrainerCallback(keras.callbacks.Callback):
    """A callback of a `BaseTrainer`."""

    model: BaseTrainer  # pyright: ignore[reportIncompatibleMethodOverride]  (Keras says None)


class Throughput(TrainerCallback):
    """Adds `images_per_second` and `tokens_per_second` to the logs.

    They count the time in training steps, including the wait for data, but not validation,
    checkpoints or the executions that trace a function.
    """

    def __init__(self, images_per_step: int, tokens_per_step: int):
        super().__init__()
        self.per_step = {"images": images_per_step, "tokens": tokens_per_step}
        self.seconds, self.steps = 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if not self.model.traced:
            self.seconds += time.perf_counter() - self._began
            self.steps += self.model.steps_per_execution
        self._add_rates(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._add_rates(logs)

    def _add_rates(self, logs: Logs | None) -> None:
        if logs is not None:
            logs.update(self.rates())

    def rates(self) -> dict[str, float]:
        """The rates since this process started training."""
        rate = self.steps / self.seconds if self.seconds else 0.0
        return {
            f"{kind}_per_second": round(count * rate, 1)
            for kind, count in self.per_step.items()
            if count
        }


class RunLog(TrainerCallback):
    """Writes `metrics.csv` and TensorBoard scalars at the end of every epoch."""

    def __init__(self, folder: RunFolder, resumed_from: int):
        super().__init__()
        self.folder = folder
        self.rows = folder.rows(up_to_step=resumed_from)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        scalars = {name: float(value) for name, value in (logs or {}).items()}
        validation = {n: scalars.pop(n) for n in list(scalars) if n.startswith("val_")}
        rate: Any = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        scalars["learning_rate"] = float(rate)
        more = self.model.log_values()
        curves = {name: more[name] for name in self.model.curves if name in more}
        unprefixed = {name.removeprefix("val_"): x for name, x in validation.items()}
        for writer, values in (("train", {**scalars, **curves}), ("validation", unprefixed)):
            if values:
                tags = {tensorboard_tag(name): value for name, value in values.items()}
                self.folder.log_scalars(writer, self.model.step, tags)
        self.rows.append({"step": self.model.step, **scalars, **more, **validation})
        self.folder.write_rows(self.rows)


def tensorboard_tag(name: str) -> str:
    """The TensorBoard tag of a logged value: TensorBoard groups tags by what precedes a slash."""
    if "/" in name:
        return name
    for group in ("accuracy", "loss", "gradient"):
        if group in name:
            return f"{group}/{name}"
    return f"{'throughput' if 'per_second' in name else name}/{name}"


class Checkpoints(TrainerCallback, contextlib.AbstractContextManager):
    """Saves every `checkpoint_interval` steps, at the end, and when the run is asked to stop.

    At the end of an epoch it saves after validation and the log, so that a resumed run has both.
    A thread writes one checkpoint at a time; until it is written, it takes the memory of one more
    copy of the state on this machine, or of this machine's part of it. Where each process writes
    its part, they agree between steps whether all have, and the chief then completes the
    checkpoint. Leaving the context waits for the last write.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.run = run
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[None] | None = None
        self._taken: checkpoints.Snapshot | None = None  # a part that is being written
        self._epoch_metrics: list[list[Any]] | None = None

    def resume(self, trainer: BaseTrainer) -> int:
        """Loads the last checkpoint, if there is one; returns the step to continue from."""
        folder, workers = self.run.folder, self.run.workers
        place = folder.checkpoints
        step = checkpoints.restore_newest(place, trainer, workers.is_chief, workers.any_asks)
        # A row of the log covers all steps since the row before, even if `steps_per_epoch` changed.
        rows = folder.rows(up_to_step=step)
        if step > (int(rows[-1]["step"]) if rows else 0):
            self._epoch_metrics = [
                [host_values(variable) for variable in mean.variables] for mean in trainer.metrics
            ]
        return step

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        # `fit` has just reset the metrics; an interrupted epoch continues with its own.
        if self._epoch_metrics is not None:
            # In the scope a sum is divided among the replicas; outside, each would get all of it.
            with self.model.distribute_strategy.scope():
                for mean, values in zip(self.model.metrics, self._epoch_metrics, strict=True):
                    for variable, value in zip(mean.variables, values, strict=True):
                        variable.assign(value)
            self._epoch_metrics = None

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.check()
        # The end of an epoch is left to `on_epoch_end`.
        step, config = self.model.step, self.run.config
        if step % config.steps_per_epoch and step != config.steps:
            self._save_if_due()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        usual = self.model.anomaly_guard.is_usual((logs or {}).get("val_loss", math.nan))
        # Averages of the weights may be good while the last step has spoilt the weights themselves,
        # from which training goes on and goes back to. The steps after it show those.
        self._save_if_due(usual and not self.model.optimizer.use_ema)

    def _save_if_due(self, validated: bool = False) -> None:
        step, config = self.model.step, self.run.config
        must_stop = self.run.workers.any_asks(stop_request.requested)
        is_last = step == config.steps or self.model.stop_training
        if must_stop or step % config.checkpoint_interval == 0 or is_last:
            with doing("saving a checkpoint", "saving"):
                self.save(self.model, validated)
                if must_stop or is_last:
                    self.wait()
        if must_stop and step != config.steps:
            place = self.run.folder.checkpoints
            raise Stopped(f"at step {step}, saved in {place}; run the same command again")

    def save(self, trainer: BaseTrainer, validated: bool = False) -> None:
        """Takes a snapshot once the previous checkpoint is written, and begins to write it.

        Raises:
            Exception: the previous checkpoint could not be written.
        """
        self._finish()
        taken, place = checkpoints.snapshot(trainer, validated), self.run.folder.checkpoints
        if taken.part is not None:
            self._taken = taken
            self._pending = self._thread.submit(checkpoints.write_state, place, taken)
        elif self.run.workers.is_chief:
            keep = self.run.config.checkpoints_to_keep
            self._pending = self._thread.submit(checkpoints.write, place, taken, keep)

    def check(self) -> None:
        """Raises the error of a write that has failed, without waiting."""
        if self._taken is not None:
            if not self.run.workers.any_asks(not self._is_written):
                self._finish()
        elif self._is_written:
            self._finish()

    @property
    def _is_written(self) -> bool:
        return self._pending is not None and self._pending.done()

    def wait(self) -> None:
        """Waits, in all processes, until the last checkpoint is written; raises as `save` does."""
        self._finish()
        self.run.workers.wait()

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        taken, self._taken = self._taken, None
        if pending is None:
            return
        if taken is None:
            pending.result()
            return
        self._agree(pending.exception())
        error = None
        if self.run.workers.is_chief:
            place, keep = self.run.folder.checkpoints, self.run.config.checkpoints_to_keep
            try:
                checkpoints.publish(place, taken, keep)
            except Exception as failed:
                error = failed
        self._agree(error)

    def _agree(self, error: BaseException | None) -> None:
        """Raises in all processes if one has failed: the others would wait for it."""
        if self.run.workers.any_asks(error is not None):
            raise error or ValueError("another machine could not write its part of a checkpoint")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._thread:
            # A step that diverged did so in all processes. Other errors need not be everywhere.
            if self._taken is not None and kind and not issubclass(kind, Diverged):
                self._pending = self._taken = None
                say("the last checkpoint was not completed")
            try:
                self._finish()
            except Exception as failed:
                if kind is None:
                    raise
                say(f"the last checkpoint was not written: {one_line(failed)}")
