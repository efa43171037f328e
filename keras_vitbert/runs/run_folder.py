"""The folder of a run and its files.

config.json     settings, digests of inputs, versions, see `keras_vitbert.runs.identity`
vocabulary.txt  a copy, so that the folder is self-contained
classes.txt     the names of the image classes, one per line, if the data provide them
checkpoints/    see `keras_vitbert.runs.checkpoints`
train/          for TensorBoard, which names curves after their folders
validation/     likewise; the settings for its table of runs, too
inspection/     the values behind the pictures in TensorBoard
metrics.csv     one line per epoch
divergences.csv a line for each step that was not applied, see `keras_vitbert.runs.divergence`
LOCK            present while a process trains there, see `keras_vitbert.runs.run_lock`
summary.json    written at the end: it exists exactly when the run is finished

Fine-tuning has such a folder for each trial, in `trials/`; see `experiments.fine_tuning.trials`.
"""

import csv
import json
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from keras_vitbert.runs.provenance import versions
from pipelines.command_line import one_line
from pipelines.files import json_object, make_folder, require_end, write_atomically
from pipelines.text_tables import csv_reader, csv_text

FORMAT = 1  # of config.json


class RunFolder:
    """A run's folder, local or `gs://`; of the processes that share it, one writes."""

    def __init__(self, path: str, writes: bool = True):
        self.path = path
        self.writes = writes
        self.checkpoints = os.path.join(path, "checkpoints")
        self.logged_from = 0  # the first step that this process logs, see `summary_writer`
        self._writers: dict[str, Any] = {}

    def make(self) -> None:
        """Makes the folder, or checks that it can be written to."""
        if self.writes:
            make_folder(self.path)

    def file(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def record(self) -> dict[str, Any] | None:
        """The content of `config.json`, see `keras_vitbert.runs.identity`; None without a run."""
        record = self._json("config.json")
        if record is not None and record.get("format") != FORMAT:
            raise ValueError(
                f"{self.file('config.json')} is not of format {FORMAT}: another version of this "
                "project wrote it, or it is damaged"
            )
        return record

    def summary(self) -> dict[str, Any] | None:
        """The content of `summary.json`, or None if the run is not finished."""
        return self._json("summary.json")

    def result(self) -> dict[str, Any] | None:
        """The content of `result.json` of a fine-tuning trial, or None if it is not finished."""
        return self._json("result.json")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes `summary.json`, with the run's inputs and versions."""
        record = self.record() or {}
        kept = {key: record[key] for key in ("replicas", "inputs", "accepted_changes")}
        self.write_json("summary.json", {**summary, "versions": versions(), **kept})

    def rows(self, up_to_step: int, name: str = "metrics.csv") -> list[dict[str, Any]]:
        """The rows of a log up to a step; a killed run may have logged after its checkpoint."""
        text = self.read(name)
        if text is None:
            return []
        try:
            header, *lines = filter(None, csv_reader(text))
            if not text.endswith("\n"):
                raise ValueError("a line is cut off")
            rows = [dict(zip(header, line, strict=True)) for line in lines]
            return [row for row in rows if int(row["step"]) <= up_to_step]
        except (ValueError, KeyError, csv.Error) as error:
            raise self._damaged(name, error) from error

    def write_rows(self, rows: list[dict[str, Any]], name: str = "metrics.csv") -> None:
        """Replaces a log by rows of column to value."""
        self.write(name, csv_text(rows))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON object."""
        self.write(name, json.dumps(content, indent=2) + "\n")

    def write(self, name: str, text: str | bytes) -> None:
        """Writes a small file, if this process writes."""
        if self.writes:
            write_atomically(self.file(name), text)

    def summary_writer(self, name: str) -> Any:
        """The TensorBoard writer of `train` or `validation`; None if this process does not write.

        It is shared, because TensorBoard follows only the newest file of a folder. It makes
        TensorBoard forget what was logged at `logged_from` or later: a killed run may have logged
        steps after its last checkpoint, and these steps are repeated.
        """
        if not self.writes:
            return None
        if name not in self._writers:
            writer = tf.summary.create_file_writer(self.file(name))
            events: Any = event_pb2  # has no stubs
            start = events.SessionLog(status=events.SessionLog.START)
            event = events.Event(wall_time=time.time(), step=self.logged_from, session_log=start)
            tf.raw_ops.ImportEvent(writer=writer._resource, event=event.SerializeToString())
            self._writers[name] = writer
        return self._writers[name]

    def log_scalars(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers by tag for TensorBoard, if this process writes."""
        writer = self.summary_writer(name)
        if writer is None:
            return
        # NumPy scalars, because TensorFlow keeps a tensor for good for each Python number.
        with writer.as_default(step=np.int64(step)):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, np.float32(value))
        writer.flush()

    def read(self, name: str) -> str | None:
        """The content of a small file, or None if it does not exist."""
        try:
            if not tf.io.gfile.exists(self.file(name)):
                return None
            require_end(self.file(name))
            with tf.io.gfile.GFile(self.file(name)) as file:
                return file.read()
        except UnicodeDecodeError as error:
            raise self._damaged(name, error) from error
        except tf.errors.OpError as error:  # a remote path may fail instead of being absent
            raise ValueError(f"{self.path}: cannot be read ({one_line(error.message)})") from error

    def _json(self, name: str) -> dict[str, Any] | None:
        text = self.read(name)
        try:
            return None if text is None else json_object(text)
        except ValueError as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, reason: Exception) -> ValueError:
        return ValueError(f"{self.file(name)} is damaged ({reason}); fix it or use another folder")
