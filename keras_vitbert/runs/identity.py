"""A run's identity: recorded in `config.json` when it begins, compared when it resumes.

format            `run_folder.FORMAT`
experiment        the settings, nested; `variant`, or `task` and `kind`, come first
inputs            the digest of each input by its name, see `keras_vitbert.runs.provenance`
versions          see `keras_vitbert.runs.provenance`
replicas          how many devices shared a batch
dropout_generator see `keras_vitbert.training.example_dropout`; empty without dropout
accepted_changes  what has differed since the run began: `name`, `was`, `is`

Settings and inputs must be equal; what else changes numbers is told. The other keys are for
readers.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from keras_vitbert.configs.fine_tuning import FineTuning, ImageTask, JointTasks, TextTask
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.run import Experiment
from keras_vitbert.configs.sections import flatten
from keras_vitbert.runs.checkpoints import latest
from keras_vitbert.runs.provenance import names_digest, versions
from keras_vitbert.runs.run_folder import FORMAT, RunFolder
from pipelines.command_line import say

INITIAL_WEIGHTS = "initial_weights"
# A run that resumes takes its weights from its checkpoint, and these know their tokens by number.
_NEVER_ACCEPTED = (INITIAL_WEIGHTS, "vocabulary")

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
    *("metric", "image.metric", "text.metric"),
    "optimizer.learning_rate",  # a trial is named by this and its seed
    "seed",
)


def experiment_dict(config: Experiment) -> dict[str, Any]:
    """A run's settings as `config.json` holds them: nested, for a fine-tuning with its kind."""
    kind = {"kind": config.kind} if isinstance(config, FineTuning) else {}
    return json.loads(json.dumps({**kind, **config.to_dict()}))


def config_of(record: Mapping[str, Any]) -> Any:
    """The `Pretraining` or `FineTuning` in the content of a `config.json`."""
    settings = dict(record["experiment"])
    kind = settings.pop("kind", "")
    recipes = {"": Pretraining, "images": ImageTask, "text": TextTask, "both": JointTasks}
    return recipes[kind].from_dict(settings)


@dataclasses.dataclass(frozen=True)
class Identity:
    """A run's settings and inputs, see above."""

    experiment: dict[str, Any]  # of `experiment_dict`
    inputs: dict[str, str]  # digests by name, without those of the vocabulary and the classes
    vocabulary: list[str] | None = None  # its tokens; None for a run without text
    classes: Mapping[str, list[str]] | None = None  # their names, by `classes` or another name
    free: tuple[str, ...] = FREE_OF_PRETRAINING  # prefixes of the settings that may differ
    accepted: Collection[str] = ()  # names of settings and inputs that may differ all the same
    about: dict[str, Any] = dataclasses.field(default_factory=dict)  # for later readers
    replicas: int = 1
    dropout_generator: str = ""

    def begin(self, folder: RunFolder) -> None:
        """Records a new run, or refuses a resumed one that is not the same; writes nothing then."""
        folder.make()
        began, now = folder.record(), self._record()
        changes = self.changes(folder) if began else []
        for name, names in self._named().items():
            text = "\n".join(names) + "\n"
            if folder.read(f"{name}.txt") != text:
                folder.write(f"{name}.txt", text)
        record = {**now, **(began or {}), **{key: now[key] for key in self.about}}
        if began:
            _tell_what_computes(folder, began, now)
        record["inputs"] = {**record["inputs"], **now["inputs"]}
        if changes:
            described = _describe(changes, record["inputs"])
            say(f"{folder.path} goes on, though it began with {described}")
            record["experiment"] = now["experiment"]
            record["accepted_changes"] = [*record["accepted_changes"], *changes]
        if record != began:
            folder.write_json("config.json", record)

    def changes(self, folder: RunFolder, later: Collection[str] = ()) -> list[dict[str, Any]]:
        """The accepted changes since the run in a folder began: dicts with `name`, `was`, `is`.

        Other changes are refused. `later` names inputs that the run has yet to make itself.
        """
        began, now = folder.record(), self._record()
        if began is None:
            raise ValueError(f"{folder.file('config.json')}: no such file")
        known = {n: digest for n, digest in began["inputs"].items() if n not in later}
        was = self._compared_settings(began) | known
        # Classes may be named later; weights to start from come too late.
        inputs = {n: d for n, d in now["inputs"].items() if n in known or n == INITIAL_WEIGHTS}
        current = self._compared_settings(now) | inputs
        changes = [
            {"name": name, "was": was.get(name), "is": current.get(name)}
            for name in sorted(was.keys() | current.keys())
            if was.get(name) != current.get(name)
        ]
        accepted = {name.removeprefix("config.") for name in self.accepted} - {*_NEVER_ACCEPTED}
        if refused := [change for change in changes if change["name"] not in accepted]:
            described = _describe(refused, {**known, **now["inputs"]})
            raise ValueError(
                f"{folder.path} holds a run with {described}; give what it began with, or another "
                "folder, or name the changes in accept_changes"
            )
        steps, done = self.experiment["steps"], latest(folder.checkpoints)[1]
        if was.get("steps", steps) != steps and done >= steps:  # it validates at its last step
            raise ValueError(f"steps={steps}: {folder.path} has already done {done}")
        return changes

    def _compared_settings(self, record: Mapping[str, Any]) -> dict[str, Any]:
        settings = flatten(record["experiment"])
        return {name: x for name, x in settings.items() if not name.startswith(self.free)}

    def _named(self) -> dict[str, list[str]]:
        """The lists of names that have a file and a digest of their own."""
        named = {"vocabulary": self.vocabulary or [], **(self.classes or {})}
        return {name: names for name, names in named.items() if names}

    def _record(self) -> dict[str, Any]:
        """The content of `config.json`."""
        digests = {name: names_digest(names) for name, names in self._named().items()}
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


def _describe(changes: Iterable[Mapping[str, Any]], inputs: Mapping[str, str]) -> str:
    """What a run began with and is no longer so."""
    return "; ".join(
        f"other {each['name']}"
        if each["name"] in inputs
        else f"{each['name']}={each['was']}, not {each['is']}"
        for each in changes
    )


def _tell_what_computes(folder: RunFolder, began: dict[str, Any], now: dict[str, Any]) -> None:
    """Tells what differs besides settings and inputs, and changes numbers."""
    was, current = (
        {
            **record["versions"],
            **{key: record[key] for key in ("replicas", "dropout_generator")},
            **{key: record["experiment"][key] for key in ("jit_compile", "remat")},
        }
        for record in (began, now)
    )
    changed = [
        f"{name} {was[name]}, now {value}"
        for name, value in current.items()
        if value != "" and was.get(name, value) != value
    ]
    if changed:
        say(f"{folder.path} began with {'; '.join(changed)}: its numbers may differ")
