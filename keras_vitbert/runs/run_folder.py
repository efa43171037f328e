"""The folder of a run: its settings, its results, and the checks before it is resumed.

config.json     variant, configuration, digests of inputs, numbers of records, replicas, versions
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

from keras_vitbert.configs.overrides import flatten
from keras_vitbert.runs import identity
from keras_vitbert.runs.checkpoints import latest
from keras_vitbert.runs.run_record import checked_record, checked_result, checked_summary
from keras_vitbert.runs.seals import read_rows, sealed, sealed_rows, unsealed
from pipelines.command_line import UserError, one_line, say
from pipelines.files import csv_text, json_object, make_folder, write_atomically
from pipelines.text.casing import AUTO
from pipelines.text.wordpiece import vocabulary_hash

# Keys that are compared differently or not at all. Older versions recorded the path of
# `initial_weights`.
_COMPARED_ELSEWHERE = (
    *("inputs.", "versions.", "schema", "numerics", "accepted_changes", "vocabulary_sha256"),
    *("initial_weights", "replicas", "dropout_generator", "checkpoint_origin.", "columns."),
)

# What a record holds besides the config.
_FLAGS = {"variant", "task", "checkpoint", "architecture"}


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

    def make(self):
        """Makes the folder, or checks that it can be written to.

        Raises:
            UserError: it cannot.
        """
        self._make(self.path)

    def begin(
        self,
        about,
        config,
        vocabulary,
        records,
        free=identity.FREE_OF_PRETRAINING,
        classes=None,
        inputs=None,
        accepted=(),
        replicas=1,
        dropout_generator="",
        steps_flag="config.steps",
        finished=False,
    ):
        """Records the settings of a new run, or checks that a resumed run has the same ones.

        Args:
            about: JSON-serialisable dict of what is trained, such as `{"variant": "vitbert"}`.
            config: `ConfigDict`.
            vocabulary: list of str, or None for a run without text.
            records: dict of a source's name to its number of training records.
            free: tuple of str, prefixes of the flat keys whose values may change.
            classes: list of str, the names of the image classes, or None.
            inputs: dict of a name to an input that the run is made from, see
                `keras_vitbert.runs.identity`.
            accepted: collection of str, keys of the config (`config.KEY`) or names of inputs whose
                values may differ all the same; the changes are then recorded.
            replicas: int, how many devices share a batch.
            dropout_generator: str, see `identity.compare_dropout`; empty without dropout.
            steps_flag: str, the flag that sets `config.steps`.
            finished: bool, whether the run does not go on: then nothing is recorded.

        Returns:
            list of the accepted changes, dicts with `was`, `is`, and `key` or `input`.

        Raises:
            UserError: the folder is not writable, or holds a run with other settings or inputs.
        """
        if not finished:
            self.make()
        inputs = inputs or {}
        record = {
            "schema": identity.SCHEMA,
            "versions": identity.versions(),
            "numerics": identity.NUMERICS,
            "replicas": replicas,
            "dropout_generator": dropout_generator,
            **about,
            "vocabulary_sha256": vocabulary_hash(vocabulary) if vocabulary else None,
            "records": records,
            "inputs": inputs,
            "config": config.to_dict(),
        }
        record = json.loads(json.dumps(record))
        old = self.record()
        if old is None:
            self._make(self.checkpoints)
            if vocabulary:
                self.write("vocabulary.txt", "\n".join(vocabulary) + "\n")
            self._keep_classes(classes)
            self.write_json("config.json", record)
            return []
        identity.require_numerics(self.path, old, record["config"].get("dtype", "float32"))
        was, now = flatten(old), flatten(record)
        own_keys = list(flatten(about))  # first, because they explain the rest
        changes = self._changes(own_keys, was, now, free, accepted, steps_flag)
        if old["vocabulary_sha256"] != record["vocabulary_sha256"]:
            raise UserError(
                f"{self.path} holds a run with another vocabulary; use that one "
                f"({self._file('vocabulary.txt')}) or another --output_dir"
            )
        for name, count in old.get("records", records).items():
            if name not in accepted and records.get(name) != count:
                raise UserError(
                    f"{self.path} holds a run on {count} {name}, not {records.get(name)}; give the "
                    "same files and --max_bad_records, or another --output_dir"
                )
        rest = sorted((was.keys() | now.keys()) - set(own_keys))
        changes += self._changes(rest, was, now, free, accepted, steps_flag)
        changes += identity.compare_inputs(self.path, old.get("inputs", {}), inputs, accepted)
        if finished:
            return changes
        self._require_steps_left(changes, steps_flag)
        identity.compare_versions(self.path, old.get("versions", {}))
        identity.compare_replicas(self.path, old.get("replicas", replicas), replicas)
        key = "config.jit_compile"
        identity.compare_compilation(self.path, was.get(key, AUTO), now.get(key, AUTO))
        if dropout_generator:
            identity.compare_dropout(self.path, old.get("dropout_generator"), dropout_generator)
        if changes:
            old |= {key: record[key] for key in (*about, "config")}
        old["records"] = {**old.get("records", {}), **record["records"]}
        self._keep(old, inputs, changes)
        self._keep_classes(classes)
        return changes

    def _changes(self, keys, was, now, free, accepted, steps_flag):
        """The accepted changes of settings: list of dicts with `key`, `was` and `is`."""
        changes = []
        for key in keys:
            old, new = was.get(key), now.get(key)
            if key.startswith((*free, *_COMPARED_ELSEWHERE)) or old in (new, AUTO):
                continue  # an older version left "auto" to be decided each time
            if key not in accepted:
                is_flag = key.startswith("config.") or key in _FLAGS
                flag = steps_flag if key == "config.steps" else key
                fix = f"give --{flag}={old} or use another" if is_flag else "use another"
                raise UserError(
                    f"{self.path} holds a run with {key}={old}, not {new}; {fix} --output_dir"
                )
            changes.append({"key": key, "was": old, "is": new})
        return changes

    def _require_steps_left(self, changes, steps_flag):
        """Refuses to shorten a run to what is done: validation belongs to its last step."""
        [steps] = [c["is"] for c in changes if c.get("key") == "config.steps"] or [None]
        if steps is not None and (done := latest(self.checkpoints)[1]) >= steps:
            raise UserError(
                f"--{steps_flag}={steps}: {self.path} has already done {done} steps; give at "
                f"least {done + 1}, or another --output_dir"
            )

    def check_inputs(self, inputs, accepted=()):
        """Compares the inputs of a run with those that it began with, and records new ones.

        Args:
            inputs, accepted: as in `begin`.

        Raises:
            UserError: an input differs and is not accepted.
        """
        record = self.record()
        if record is not None:  # else another process writes it, and has not done so yet
            known = record.get("inputs", {})
            changes = identity.compare_inputs(self.path, known, inputs, accepted)
            self._keep(record, inputs, changes)

    def _keep(self, record, inputs, changes):
        """Writes `config.json` again if there are accepted changes or new inputs."""
        for change in changes:
            say(f"{self.path}: {identity.told(change)}")
        known = record.get("inputs")
        if known is None:
            say(f"{self.path} comes from an older version, which recorded no digests of its inputs")
            known = {}
        if changes:
            record["accepted_changes"] = [*record.get("accepted_changes", []), *changes]
        if changes or not inputs.keys() <= known.keys():
            record["inputs"] = {**known, **inputs}
            self.write_json("config.json", record)

    def _keep_classes(self, classes):
        """Writes the names of the classes unless they are there: they may be given later."""
        text = "\n".join(classes or []) + "\n"
        if classes and self.read("classes.txt") != text:
            self.write("classes.txt", text)

    def record(self):
        """The content of `config.json`, or None if there is no run yet.

        Raises:
            UserError: it is damaged.
        """
        return self._json("config.json", checked_record)

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
        self._make(self.path)
        self.write_json(f"records-{name}.json", content, indent=None)

    def summary(self):
        """The content of `summary.json`, or None if the run is not finished.

        Raises:
            UserError: it is damaged.
        """
        return self._json("summary.json", checked_summary)

    def result(self):
        """The content of `result.json` of a fine-tuning trial, or None if it is not finished.

        Raises:
            UserError: it is damaged.
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
            UserError: the file is damaged, perhaps cut off.
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
            write_atomically(self._file(name), text)

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
            if not tf.io.gfile.exists(self._file(name)):
                return None
            with tf.io.gfile.GFile(self._file(name)) as file:
                return file.read()
        except UnicodeDecodeError as error:
            raise self._damaged(name, error) from error
        except tf.errors.OpError as error:  # a remote path may fail instead of being absent
            raise UserError(
                f"{self.path}: cannot be read ({one_line(error.message)}); fix the path"
            ) from error

    def _make(self, folder):
        if self.writes:
            make_folder(folder, "output_dir")

    def _file(self, name):
        return os.path.join(self.path, name)

    def _json(self, name, checked=lambda content: content):
        text = self.read(name)
        if text is None:
            return None
        try:
            return checked(unsealed(json_object(text)))
        except ValueError as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name, reason):
        return UserError(f"{self._file(name)} is damaged ({reason}); fix it or use another folder")
