"""The folder of a run: its settings, its results, and the checks before it is resumed.

config.json     variant, configuration, vocabulary, number of records
vocabulary.txt  a copy, so that the folder is self-contained
classes.txt     the names of the image classes, one a line, if the data provide them
checkpoints/    see `keras_vitbert.runs.checkpoints`
logs/           TensorBoard: train, validation, and hparams for its table of runs
inspection/     the values behind the pictures in TensorBoard
metrics.csv     a line an epoch
records-*.json  with --max_bad_records: which records are used and which are damaged
summary.json    written at the end: it exists exactly when the run is finished

Fine-tuning has such a folder for each trial, in `trials/`; see `keras_vitbert.fine_tuning.trials`.
"""

import csv
import io
import json
import os

import tensorflow as tf

from keras_vitbert.configs.overrides import flatten
from pipelines.command_line import UserError, one_line
from pipelines.files import csv_text, make_folder, write_atomically
from pipelines.text.wordpiece import vocabulary_hash

# Settings that may change when a run is resumed, as they do not change its numbers: keys that begin
# like these. The records are checked by their number.
FREE_OF_PRETRAINING = (
    "config.checkpoint",
    "config.validation_interval",
    "config.steps_per_execution",
    "config.teachers.",
    "config.data.images.train",
    "config.data.images.validation",
    "config.data.text.train",
    "config.data.text.validation",
    "config.data.vocabulary",
    "config.inspection.",
    "records.",
)
# Those of fine-tuning; a trial is named by its learning rate and seed.
FREE_OF_FINE_TUNING = (
    "config.checkpoint",
    "config.evaluation_",
    "config.grid",
    "config.metric",
    "config.optimizer.learning_rate",
    "config.seed",
    "model.",  # follows from the others, and is recorded for readers
    "records.",
)

# What a record holds besides the config.
_FLAGS = {"variant", "initial_weights", "task", "checkpoint", "architecture"}


class RunFolder:
    """A run's folder.

    Args:
        path: str, local or `gs://`.
        writes: bool; only one of several processes that share the folder writes, see
            `keras_vitbert.runs.workers`.
    """

    def __init__(self, path, writes=True):
        self.path = path
        self.writes = writes
        self.checkpoints = os.path.join(path, "checkpoints")
        self.logs = os.path.join(path, "logs")
        self._writers = {}

    def begin(self, about, config, vocabulary, records, free=FREE_OF_PRETRAINING, classes=None):
        """Records the settings of a new run, or checks that a resumed run has the same.

        Args:
            about: JSON-serialisable dict of what is trained, such as `{"variant": "vitbert"}`.
            config: `ConfigDict`.
            vocabulary: list of str, or None for a run without text.
            records: dict of a source's name to its number of training records.
            free: tuple of str, how the flat keys begin whose values may change.
            classes: list of str, the names of the image classes, or None.

        Raises:
            UserError: the folder is not writable, or holds a run with other settings.
        """
        self._make(self.path)
        record = {
            **about,
            "vocabulary_sha256": vocabulary_hash(vocabulary) if vocabulary else None,
            "records": records,
            "config": config.to_dict(),
        }
        record = json.loads(json.dumps(record))
        old = self.record()
        if old is None:
            self._make(self.checkpoints)
            if vocabulary:
                self.write("vocabulary.txt", "\n".join(vocabulary) + "\n")
            if classes:
                self.write("classes.txt", "\n".join(classes) + "\n")
            self.write("config.json", json.dumps(record, indent=2) + "\n")
            return
        old_vocabulary, new_vocabulary = old["vocabulary_sha256"], record["vocabulary_sha256"]
        is_alike = all(old.get(key) == record[key] for key in about)
        if is_alike and old_vocabulary != new_vocabulary:
            raise UserError(
                f"{self.path} holds a run with another vocabulary; use that one "
                f"({self._file('vocabulary.txt')}) or another --output_dir"
            )
        for name, count in old.get("records", records).items():
            if is_alike and records.get(name) != count:
                raise UserError(
                    f"{self.path} holds a run on {count} {name}, not {records.get(name)}; give the "
                    "same files and --max_bad_records, or another --output_dir"
                )
        old, new = flatten(old), flatten(record)
        for key in [*flatten(about), *sorted(set(old) | set(new))]:  # which explains the rest
            if not key.startswith(free) and old.get(key) != new.get(key):
                is_flag = key.startswith("config.") or key in _FLAGS
                fix = f"give --{key}={old.get(key)} or use another" if is_flag else "use another"
                raise UserError(
                    f"{self.path} holds a run with {key}={old.get(key)}, not {new.get(key)}; "
                    f"{fix} --output_dir"
                )

    def record(self):
        """The content of `config.json`, or None if there is no run yet."""
        record = self._json("config.json")
        if record is not None:
            self.check_record(record)
        return record

    def check_record(self, record):
        """Refuses an incomplete `config.json`.

        Args:
            record: dict, its content.

        Raises:
            UserError: says what it holds.
        """
        if not {"vocabulary_sha256", "config"} < set(record):
            raise self._damaged("config.json", f"it holds {', '.join(record) or 'nothing'}")

    def audit(self, name):
        """What `keep_audit` stored, or None.

        Args:
            name: str.
        """
        return self._json(f"records-{name}.json")

    def keep_audit(self, name, content):
        """Stores which records of a data set are damaged, as finding out takes long.

        Args:
            name: str.
            content: JSON-serialisable dict.
        """
        self._make(self.path)
        self.write(f"records-{name}.json", json.dumps(content) + "\n")

    def summary(self):
        """The content of `summary.json`, or None if the run is not finished."""
        return self._json("summary.json")

    def finish(self, summary):
        """Writes `summary.json`.

        Args:
            summary: JSON-serialisable dict.
        """
        self.write("summary.json", json.dumps(summary, indent=2) + "\n")

    def rows(self, up_to_step):
        """The rows of `metrics.csv` up to a step: list of dict of str.

        A killed run may have written rows after its last checkpoint.

        Args:
            up_to_step: int, the last one wanted.
        """
        try:
            rows = csv.DictReader(io.StringIO(self.read("metrics.csv") or ""))
            return [row for row in rows if row["step"] and int(row["step"]) <= up_to_step]
        except (ValueError, KeyError, csv.Error) as error:
            raise self._damaged("metrics.csv", error) from error

    def write_rows(self, rows):
        """Replaces `metrics.csv`.

        Args:
            rows: list of dict of column to value.
        """
        self.write("metrics.csv", csv_text(rows))

    def write(self, name, text):
        """Writes a small file.

        Args:
            name: str, in the folder.
            text: str.
        """
        if self.writes:
            write_atomically(self._file(name), text)

    def summary_writer(self, name):
        """The TensorBoard writer of `logs/NAME`, or None if this process does not write.

        It is shared, as TensorBoard follows only the newest file of a folder.

        Args:
            name: str, `train`, `validation` or `hparams`.
        """
        if not self.writes:
            return None
        if name not in self._writers:
            self._writers[name] = tf.summary.create_file_writer(os.path.join(self.logs, name))
        return self._writers[name]

    def read(self, name):
        """The content of a small file as str, or None if it does not exist.

        Args:
            name: str, in the folder.
        """
        try:
            if not tf.io.gfile.exists(self._file(name)):
                return None
            with tf.io.gfile.GFile(self._file(name)) as file:
                return file.read()
        except tf.errors.OpError as error:  # a remote path may fail instead of being absent
            raise UserError(
                f"{self.path}: cannot be read ({one_line(error.message)}); fix the path"
            ) from error

    def _make(self, folder):
        if self.writes:
            make_folder(folder, "output_dir")

    def _file(self, name):
        return os.path.join(self.path, name)

    def _json(self, name):
        text = self.read(name)
        if text is None:
            return None
        try:
            content = json.loads(text)
        except ValueError as error:
            raise self._damaged(name, error) from error
        if not isinstance(content, dict):
            raise self._damaged(name, "not a JSON object")
        return content

    def _damaged(self, name, reason):
        return UserError(f"{self._file(name)} is damaged ({reason}); fix it or use another folder")
