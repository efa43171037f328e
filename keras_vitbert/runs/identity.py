"""What a run is made from: recorded in `config.json` when it begins, compared when it resumes.

format            `run_folder.FORMAT`
experiment        the settings, nested; `variant`, or `task` and `kind`, come first
inputs            the digest of each input by its name, see `keras_vitbert.runs.input_digests`
versions          see `keras_vitbert.runs.versions`
replicas          how many devices shared a batch
dropout_generator see `keras_vitbert.training.example_dropout`; empty without dropout
accepted_changes  what has differed since the run began: `name`, `was`, `is`

Settings and inputs must be equal; what else changes numbers is told. The other keys are for
readers.
"""

import dataclasses
import json
from collections.abc import Collection
from typing import Any

from keras_vitbert.configs.fine_tuning import ImageTask, TextTask
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.run import Experiment
from keras_vitbert.configs.sections import flatten
from keras_vitbert.runs.checkpoints import latest
from keras_vitbert.runs.input_digests import names_digest
from keras_vitbert.runs.run_folder import FORMAT, RunFolder
from keras_vitbert.runs.versions import versions
from pipelines.command_line import say

INITIAL_WEIGHTS = "initial_weights"
# A run that resumes takes its weights from its checkpoint, and these know their tokens by number.
_NEVER_ACCEPTED = (INITIAL_WEIGHTS, "vocabulary")
_WHAT_IT_IS = ("variant", "task", "kind")  # if these differ, so does much that follows from them

# Prefixes of the settings that may change when a run is resumed, as they do not change its results,
# or change only the last digits, which is told.
_FREE = ("checkpoint_interval", "checkpoints_to_keep", "steps_per_epoch", "steps_per_execution")
_FREE += ("jit_compile", "remat", "sharding")
FREE_OF_PRETRAINING = (
    *_FREE,
    "validation_interval",
    "teachers.",
    "data.images.train",  # their content is compared
    "data.images.validation",
    "data.text.train",
    "data.text.validation",
    "data.vocabulary",
    "inspection.",
    "probes.",
)
FREE_OF_FINE_TUNING = (
    *_FREE,
    "evaluation_",
    "grid",
    "metric",
    "optimizer.learning_rate",  # a trial is named by this and its seed
    "seed",
)


def experiment_dict(config: Experiment) -> dict[str, Any]:
    """A run's settings as `config.json` holds them: nested, for a fine-tuning with its kind."""
    kind = {"kind": config.kind} if isinstance(config, ImageTask | TextTask) else {}
    return json.loads(json.dumps({**kind, **config.to_dict()}))


def config_of(record: dict[str, Any]) -> Any:
    """The settings in the content of a `config.json` as a config.

    Raises:
        ValueError: a setting is missing, unknown or bad.
    """
    settings = dict(record["experiment"])
    kind = settings.pop("kind", None)
    recipe = {None: Pretraining, "images": ImageTask}.get(kind, TextTask)
    return recipe.from_dict(settings)


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is made from, see above.

    Attributes:
        experiment: of `experiment_dict`.
        inputs: digests by name, without those of the vocabulary and the classes.
        vocabulary: its tokens, or None for a run without text.
        classes: the names of the classes, or None.
        free: prefixes of the dotted settings that may differ.
        accepted: names of settings and inputs that may differ all the same.
        later: names of inputs that the run makes itself, see `add_inputs`.
        about: what later readers need besides, JSON-serialisable.
    """

    experiment: dict[str, Any]
    inputs: dict[str, str]
    vocabulary: list[str] | None = None
    classes: list[str] | None = None
    free: tuple[str, ...] = FREE_OF_PRETRAINING
    accepted: Collection[str] = ()
    later: Collection[str] = ()
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    replicas: int = 1
    dropout_generator: str = ""

    def begin(self, folder: RunFolder) -> None:
        """Records a new run, or checks that a resumed one is the same.

        Raises:
            ValueError: it is not the same; the folder stays as it was.
        """
        folder.make()
        began = folder.record()
        changes = self.changes(folder) if began else []
        if not began:
            folder.make(folder.checkpoints)
        now = self._record()
        for name, names in (("vocabulary.txt", self.vocabulary), ("classes.txt", self.classes)):
            text = "\n".join(names or []) + "\n"
            if names and folder.read(name) != text:
                folder.write(name, text)
        record = {**now, **(began or {}), **{key: now[key] for key in self.about}}
        if began:
            _tell_what_computes(folder, began, now)
            if changes:
                record["experiment"] = now["experiment"]
        _keep(folder, record, now["inputs"], changes)

    def changes(self, folder: RunFolder) -> list[dict[str, Any]]:
        """The accepted changes since the run in a folder began: dicts with `name`, `was`, `is`.

        Raises:
            ValueError: others; names each of them. Or nothing says what it was made from.
        """
        began, now = folder.record(), self._record()
        if began is None:
            raise ValueError(f"{folder.file('config.json')}: no such file")
        was, known = _compared(began, self.free), began["inputs"]
        inputs = {n: d for n, d in now["inputs"].items() if n in known or n == INITIAL_WEIGHTS}
        was |= {n: d for n, d in known.items() if n in inputs or n not in self.later}
        names = known.keys() | inputs.keys()
        changes = _accepted(folder, was, _compared(now, self.free) | inputs, self.accepted, names)
        if any(change["name"] == "steps" for change in changes):
            done = latest(folder.checkpoints)[1]
            if done >= self.experiment["steps"]:  # validation belongs to the last step
                raise ValueError(
                    f"steps={self.experiment['steps']}: {folder.path} has already done {done}"
                )
        return changes

    def _record(self):
        """The content of `config.json`."""
        named = {"vocabulary": self.vocabulary, "classes": self.classes}
        digests = {name: names_digest(names) for name, names in named.items() if names}
        record = {
            "format": FORMAT,
            "experiment": self.experiment,
            "inputs": {**self.inputs, **digests},
            "versions": versions(),
            "replicas": self.replicas,
            "dropout_generator": self.dropout_generator,
            "accepted_changes": [],
            **self.about,
        }
        return json.loads(json.dumps(record))


def add_inputs(folder: RunFolder, inputs: dict[str, str], accepted: Collection[str] = ()) -> None:
    """Records inputs that a run has made itself, or compares them with those that it made before.

    Raises:
        ValueError: one differs and is not accepted.
    """
    record = folder.record()
    if record is not None:  # else another process writes it, and has not done so yet
        known = {name: digest for name, digest in record["inputs"].items() if name in inputs}
        again = {name: inputs[name] for name in known}
        _keep(folder, record, inputs, _accepted(folder, known, again, accepted, inputs))


def _compared(record, free):
    """The settings of a record that must stay: flat dict."""
    settings = flatten(record["experiment"])
    return {name: value for name, value in settings.items() if not name.startswith(free)}


def _accepted(folder, was, now, accepted, inputs):
    """The differences of two flat dicts, of which `inputs` are digests; all must be accepted."""
    names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    changes = [{"name": name, "was": was.get(name), "is": now.get(name)} for name in names]
    accepted = {name.removeprefix("config.") for name in accepted} - set(_NEVER_ACCEPTED)
    refused = [change for change in changes if change["name"] not in accepted]
    if refused:
        refused = [change for change in refused if change["name"] in _WHAT_IT_IS] or refused
        raise ValueError(
            f"{folder.path} holds a run with {_described(refused, inputs)}; give what it began "
            "with, or another folder, or name the changes in accept_changes"
        )
    return changes


def _described(changes, inputs):
    """What a run began with and is no longer so: str."""
    parts = []
    for name, was, now in (each.values() for each in changes):
        if name not in inputs:
            parts.append(f"{name}={was}, not {now}")
        elif was is None:
            parts.append(f"no {name}")
        else:
            parts.append(f"other {name}" if now else f"{name}, which is not given")
    return "; ".join(parts)


def _tell_what_computes(folder, began, now):
    """Tells what differs besides settings and inputs, and changes numbers."""
    was, found = (
        {
            **record["versions"],
            **{key: record[key] for key in ("replicas", "dropout_generator")},
            **{key: record["experiment"][key] for key in ("jit_compile", "remat")},
        }
        for record in (began, now)
    )
    changed = [
        f"{name} {was[name]}, now {value}"
        for name, value in found.items()
        if value != "" and was.get(name, value) != value
    ]
    if changed:
        say(f"{folder.path} began with {'; '.join(changed)}: its numbers may differ")


def _keep(folder, record, inputs, changes):
    """Writes `config.json` with new inputs and changes, if that differs from what it holds."""
    accepted, inputs = [*record["accepted_changes"], *changes], {**record["inputs"], **inputs}
    if changes:
        say(f"{folder.path} goes on, though it began with {_described(changes, inputs)}")
    record = {**record, "inputs": inputs, "accepted_changes": accepted}
    if record != folder.record():
        folder.write_json("config.json", record)
