"""The folder of a run and its files.

config.json     configuration, digests, versions and more, see `keras_vitbert.runs.run_settings`
vocabulary.txt  a copy, so that the folder is self-contained
classes.txt     the names of the image classes, one per line, if the data provide them
checkpoints/    see `keras_vitbert.runs.checkpoints`
train/          for TensorBoard, which names curves after their folders; older versions put both
validation/     into a folder logs/. The settings for its table of runs are in validation/
inspection/     the values behind the pictures in TensorBoard
metrics.csv     one line per epoch
divergences.csv a line for each step that was not applied, see `keras_vitbert.runs.divergence`
LOCK            present while a process trains there, see `keras_vitbert.runs.run_lock`
records-*.json  with --max_bad_records: which records are used and which are damaged
summary.json    written at the end: it exists exactly when the run is finished

Fine-tuning has such a folder for each trial, in `trials/`; see `keras_vitbert.fine_tuning.trials`.
"""

import csv
import functools
import json
import os
import time

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from keras_vitbert.runs import identity
from keras_vitbert.runs.run_record import checked_record, checked_result, checked_summary
from keras_vitbert.runs.seals import read_rows, sealed, sealed_rows, unsealed
from pipelines.command_line import one_line
from pipelines.files import (
    json_object,
    make_folder,
    require_end,
    require_files,
    write_atomically,
)
from pipelines.text_tables import csv_text


class RunFolder:
    """A run's folder.

    Args:
        path: str, local or `gs://`.
        writes: bool; only one of several processes that share the folder writes, see
            `keras_vitbert.runs.workers`.

    Attributes:
        logged_from: int, the first step that this process logs, see `summary_writer`.
    """

    def __init__(self, path, writes=True):
        self.path = path
        self.writes = writes
        self.checkpoints = os.path.join(path, "checkpoints")
        self.logged_from = 0
        self._writers = {}

    def make(self, path=None):
        """Makes the folder, or one in it, or checks that it can be written to.

        Args:
            path: str, of the one in it.

        Raises:
            ValueError: it cannot.
        """
        if self.writes:
            make_folder(path or self.path, "output_dir")

    def file(self, name):
        """The path of a file: str.

        Args:
            name: str, in the folder.
        """
        return os.path.join(self.path, name)

    def record(self):
        """The content of `config.json`, or None if there is no run yet.

        Raises:
            ValueError: it is damaged.
        """
        record = self._json("config.json", checked_record)
        if record is not None:
            require_files(self.path)
        return record

    def audit(self, name):
        """What `keep_audit` stored, or None.

        Args:
            name: str.
        """
        return self._json(f"records-{name}.json")

    def keep_audit(self, name, content):
        """Stores which records of a data set are damaged, because finding them takes long.

        Args:
            name: str.
            content: JSON-serialisable dict.
        """
        self.make()
        self.write_json(f"records-{name}.json", content, indent=None)

    def summary(self):
        """The content of `summary.json`, or None if the run is not finished.

        Raises:
            ValueError: it is damaged.
        """
        return self._json("summary.json", checked_summary)

    def result(self):
        """The content of `result.json` of a fine-tuning trial, or None if it is not finished.

        Raises:
            ValueError: it is damaged.
        """
        return self._json("result.json", checked_result)

    def finish(self, summary):
        """Writes `summary.json`, with what the run was made from.

        Args:
            summary: JSON-serialisable dict.

        Returns:
            dict, what was written.
        """
        record = self.record() or {}
        summary = {
            **summary,
            "versions": identity.versions(),
            "replicas": record.get("replicas", 1),
            "inputs": record.get("inputs", {}),
            "accepted_changes": record.get("accepted_changes", []),
        }
        self.write_json("summary.json", summary)
        return summary

    def rows(self, up_to_step, name="metrics.csv", numbers=True):
        """The rows of a log up to a step: list of dict of str.

        A killed run may have written rows after its last checkpoint.

        Args:
            up_to_step: int, the last step wanted.
            name: str, of the file.
            numbers: bool, whether all its values are numbers.

        Raises:
            ValueError: the file is damaged, perhaps cut off.
        """
        text = self.read(name)
        if text is None:
            return []
        try:
            rows = read_rows(text, numbers)
            return [row for row in rows if row["step"] and int(row["step"]) <= up_to_step]
        except (ValueError, KeyError, csv.Error) as error:
            raise self._damaged(name, error) from error

    def write_rows(self, rows, name="metrics.csv"):
        """Replaces a log.

        Args:
            rows: list of dict of column to value.
            name: str, of the file.
        """
        self.write(name, csv_text(sealed_rows(rows)))

    def write_json(self, name, content, indent=2):
        """Writes a JSON object with its seal, see `keras_vitbert.runs.seals`.

        Args:
            name: str, in the folder.
            content: JSON-serialisable dict.
            indent: int, of its lines; None for a single line.
        """
        self.write(name, json.dumps(sealed(content), indent=indent) + "\n")

    def write(self, name, text):
        """Writes a small file.

        Args:
            name: str, in the folder.
            text: str.
        """
        if self.writes:
            write_atomically(self.file(name), text)

    @functools.cached_property
    def logs(self):
        """The parent of the TensorBoard folders: the run's own folder; in older runs, one in it."""
        old = os.path.join(self.path, "logs")
        return old if tf.io.gfile.isdir(old) else self.path

    def summary_writer(self, name):
        """The TensorBoard writer of the folder NAME, or None if this process does not write.

        It is shared, because TensorBoard follows only the newest file of a folder. It makes
        TensorBoard forget what was logged at `logged_from` or later: a killed run may have logged
        steps after its last checkpoint, and these steps are repeated.

        Args:
            name: str, `train` or `validation`.
        """
        if not self.writes:
            return None
        if name not in self._writers:
            writer = tf.summary.create_file_writer(os.path.join(self.logs, name))
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            event = event_pb2.Event(
                wall_time=time.time(), step=self.logged_from, session_log=start
            ).SerializeToString()
            tf.raw_ops.ImportEvent(writer=writer._resource, event=event)
            self._writers[name] = writer
        return self._writers[name]

    def log_scalars(self, name, step, scalars):
        """Writes numbers for TensorBoard, if this process writes.

        Args:
            name: str, see `summary_writer`.
            step: int.
            scalars: dict of tag to number.
        """
        writer = self.summary_writer(name)
        if writer is None:
            return
        # NumPy scalars, because TensorFlow keeps a tensor for good for each Python number.
        with writer.as_default(step=np.int64(step)):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, np.float32(value))
        writer.flush()

    def read(self, name):
        """The content of a small file as str, or None if it does not exist.

        Args:
            name: str, in the folder.
        """
        try:
            if not tf.io.gfile.exists(self.file(name)):
                return None
            require_end(self.file(name))
            with tf.io.gfile.GFile(self.file(name)) as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(name, error) from error
        except tf.errors.OpError as error:  # a remote path may fail instead of being absent
            raise ValueError(
                f"{self.path}: cannot be read ({one_line(error.message)}); fix the path"
            ) from error

    def _json(self, name, checked=lambda content: content):
        text = self.read(name)
        if text is None:
            return None
        try:
            return checked(unsealed(json_object(text)))
        except ValueError as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name, reason):
        return ValueError(f"{self.file(name)} is damaged ({reason}); fix it or use another folder")
