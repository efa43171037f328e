"""What a run is made with: recorded when it begins, compared when it resumes or is finished."""

import dataclasses
import json
from collections.abc import Collection
from typing import Any

from keras_vitbert.configs.fitting import as_argument
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.runs import identity
from keras_vitbert.runs.checkpoints import latest
from pipelines.command_line import say
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


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What a run is made with.

    Attributes:
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
    """

    about: dict
    config: Any
    vocabulary: list[str] | None
    records: dict[str, int]
    free: tuple[str, ...] = identity.FREE_OF_PRETRAINING
    classes: list[str] | None = None
    inputs: dict[str, dict] = dataclasses.field(default_factory=dict)
    accepted: Collection[str] = ()
    replicas: int = 1
    dropout_generator: str = ""
    steps_flag: str = "config.steps"

    def begin(self, folder):
        """Records the settings of a new run, or checks that a resumed run has the same ones.

        Args:
            folder: `RunFolder`.

        Raises:
            ValueError: the folder is not writable, or holds a run with other settings or inputs.
        """
        folder.make()
        old, now = folder.record(), self._record()
        if old is None:
            folder.make(folder.checkpoints)
            if self.vocabulary:
                folder.write("vocabulary.txt", "\n".join(self.vocabulary) + "\n")
            self._keep_classes(folder)
            folder.write_json("config.json", now)
            return
        changes = self._changes(folder, old, now)
        self._require_steps_left(folder, changes)
        identity.compare_versions(folder.path, old.get("versions", {}))
        identity.compare_replicas(folder.path, old.get("replicas", self.replicas), self.replicas)
        compiled = [each["config"].get("jit_compile", AUTO) for each in (old, now)]
        identity.compare_compilation(folder.path, *compiled)
        recomputed = [each["config"].get("remat", False) for each in (old, now)]
        identity.compare_recomputation(folder.path, *recomputed)
        if self.dropout_generator:
            before = old.get("dropout_generator")
            identity.compare_dropout(folder.path, before, self.dropout_generator)
        if changes:
            old |= {key: now[key] for key in (*self.about, "config")}
        old["records"] = {**old.get("records", {}), **now["records"]}
        _keep(folder, old, self.inputs, changes)
        self._keep_classes(folder)

    def compare(self, folder):
        """Checks that a run was made with these settings; nothing is recorded.

        Args:
            folder: `RunFolder`.

        Returns:
            list of the accepted changes, dicts with `was`, `is`, and `key` or `input`.

        Raises:
            ValueError: it was made with other settings or inputs, or does not say with which.
        """
        record = folder.record()
        if record is None:
            raise ValueError(f"{folder.path}/config.json: no such file; use another --output_dir")
        return self._changes(folder, record, self._record())

    def _record(self):
        """The content of `config.json`."""
        record = {
            "schema": identity.SCHEMA,
            "versions": identity.versions(),
            "numerics": identity.NUMERICS,
            "replicas": self.replicas,
            "dropout_generator": self.dropout_generator,
            **self.about,
            "vocabulary_sha256": vocabulary_hash(self.vocabulary) if self.vocabulary else None,
            "records": self.records,
            "inputs": self.inputs,
            "config": self.config.to_dict(),
        }
        return json.loads(json.dumps(record))

    def _changes(self, folder, old, new):
        """The accepted changes from one record to another; see `compare`."""
        identity.require_numerics(folder.path, old, new["config"].get("dtype", "float32"))
        was, now = flatten(old), flatten(new)
        own_keys = list(flatten(self.about))  # first, because they explain the rest
        changes = self._changed_keys(folder, own_keys, was, now)
        own = (folder.read("vocabulary.txt") or "").replace("\r", "").rstrip("\n").split("\n")
        if old["vocabulary_sha256"] not in (None, vocabulary_hash(own)):
            raise ValueError(
                f"{folder.file('vocabulary.txt')}: is not the vocabulary that the run was trained "
                "with; restore the file"
            )
        if old["vocabulary_sha256"] != new["vocabulary_sha256"]:
            raise ValueError(
                f"{folder.path} holds a run with another vocabulary; use that one "
                f"({folder.file('vocabulary.txt')}) or another --output_dir"
            )
        for name, count in old.get("records", self.records).items():
            if name not in self.accepted and self.records.get(name) != count:
                raise ValueError(
                    f"{folder.path} holds a run on {count} {name}, not {self.records.get(name)}; "
                    "give the same files and --max_bad_records, or another --output_dir"
                )
        rest = sorted((was.keys() | now.keys()) - set(own_keys))
        changes += self._changed_keys(folder, rest, was, now)
        known = old.get("inputs", {})
        return changes + identity.compare_inputs(folder.path, known, self.inputs, self.accepted)

    def _changed_keys(self, folder, keys, was, now):
        """The accepted changes of settings: list of dicts with `key`, `was` and `is`."""
        changes = []
        for key in keys:
            old, new = was.get(key), now.get(key)
            if key.startswith((*self.free, *_COMPARED_ELSEWHERE)) or old in (new, AUTO):
                continue  # an older version left "auto" to be decided each time
            if key not in self.accepted:
                is_flag = key.startswith("config.") or key in _FLAGS
                flag = as_argument(self.steps_flag if key == "config.steps" else key, old)
                fix = f"give {flag} or use another" if is_flag else "use another"
                raise ValueError(
                    f"{folder.path} holds a run with {key}={old}, not {new}; {fix} --output_dir"
                )
            changes.append({"key": key, "was": old, "is": new})
        return changes

    def _require_steps_left(self, folder, changes):
        """Refuses to shorten a run to what is done: validation belongs to its last step."""
        [steps] = [c["is"] for c in changes if c.get("key") == "config.steps"] or [None]
        if steps is not None and (done := latest(folder.checkpoints)[1]) >= steps:
            raise ValueError(
                f"--{self.steps_flag}={steps}: {folder.path} has already done {done} steps; give "
                f"at least {done + 1}, or another --output_dir"
            )

    def _keep_classes(self, folder):
        """Writes the names of the classes unless they are there: they may be given later."""
        text = "\n".join(self.classes or []) + "\n"
        if self.classes and folder.read("classes.txt") != text:
            folder.write("classes.txt", text)


def check_inputs(folder, inputs, accepted=()):
    """Compares the inputs of a run with those that it began with, and records new ones.

    Args:
        folder: `RunFolder`.
        inputs, accepted: as in `RunSettings`.

    Raises:
        ValueError: an input differs and is not accepted.
    """
    record = folder.record()
    if record is not None:  # else another process writes it, and has not done so yet
        known = record.get("inputs", {})
        changes = identity.compare_inputs(folder.path, known, inputs, accepted)
        _keep(folder, record, inputs, changes)


def _keep(folder, record, inputs, changes):
    """Writes `config.json` again if there are accepted changes or new inputs."""
    for change in changes:
        say(f"{folder.path}: {identity.told(change)}")
    known = record.get("inputs")
    if known is None:
        say(f"{folder.path} comes from an older version, which recorded no digests of its inputs")
        known = {}
    if changes:
        record["accepted_changes"] = [*record.get("accepted_changes", []), *changes]
    if changes or not inputs.keys() <= known.keys():
        record["inputs"] = {**known, **inputs}
        folder.write_json("config.json", record)
