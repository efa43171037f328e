"""What is trained on what, by scale, and the jobs that fill the tables."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.experiment import experiment
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.extras.reproduction import prepared
from keras_vitbert.extras.reproduction.tables import (
    FULL,
    IMAGE_TASKS,
    JOINT,
    OF_TEACHERS,
    PAPER,
    RAND,
    TEXT_TASKS,
    TRANSFER,
    Recipe,
    Table,
    tables,
)

_TEACHERS = {"image_teacher": "vit", "text_teacher": "bert"}


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that models are fine-tuned on."""

    name: str  # in tables and in the names of runs
    experiment: str  # of `keras_vitbert.experiments.fine_tuning.tasks.TASKS`
    inputs: dict[str, Any]  # what fine-tuning and probes read
    values: dict[str, Any] = dataclasses.field(default_factory=dict)  # of fine-tuning's config
    sweeps: bool = True  # whether sweeps pick the learning rate, see `Plan.sweeps`
    only_in: str = ""  # the table that has it; empty for all

    @property
    def kind(self) -> str:
        """`images` or `text`."""
        return TASKS[self.experiment].kind


@dataclasses.dataclass(frozen=True)
class Scale:
    """A size of reproduction."""

    config: str  # of pre-training, also of the architecture of random weights
    pretraining: dict[str, Any]  # its changed values
    vocabulary: str  # of models that were not trained on text
    tasks: tuple[Task, ...]
    seeds: dict[str, int] = dataclasses.field(default_factory=dict)  # by table, if not 1
    # Fills a folder with the data, if they are not the user's own.
    build: Callable[[str], None] | None = None
    tables: tuple[str, ...] = PAPER
    # What teachers change beside a student; one of each modality then teaches all seeds.
    of_teachers: tuple[tuple[str, object], ...] = ()
    pilot: tuple[int, ...] = ()  # seeds that pick learning rates, and are not reported

    def tasks_of(self, table: Table) -> list[Task]:
        """What the rows of a table are fine-tuned on."""
        return [t for t in self.tasks if table.has_tasks and t.only_in in ("", table.name)]


def get_scale(name: str, data: str, given: dict[str, Any], **sources: str) -> Scale:
    """The scale `sample`, `transfer`, `small` or `paper`; its data are in the folder `data`.

    `given` are values of the config of every pre-training, beside those of the scale; `sources` are
    `cifar10` and `books` of `transfer`, and `data_dir`, of TensorFlow Datasets, of `paper`.
    """
    scales = {"sample": _sample, "transfer": _transfer, "small": _small, "paper": _paper}
    return scales[name](data, given, **sources)


def _sample(data: str, given: dict[str, Any], **_: str) -> Scale:
    values = {
        "steps": 100,
        "steps_per_epoch": 50,
        "validation_interval": 100,
        "checkpoint_interval": 100,
        "teachers.image_steps": 100,
        "teachers.text_steps": 100,
        "optimizer.warmup_steps": 20,
        "merge.mask_update_interval": 5,
        # Two pictures of activations are for Figure 3; the others do not affect results.
        "inspection.activation_interval": 50,
        "inspection.gradient_interval": 0,
    }
    short = {"batch": 64, "steps": 60, "evaluation_interval": 0, "dropout": 0.0}
    digits = {
        **short,
        "image_size": 28,
        "optimizer.learning_rate": 1e-3,
        "images.crop_area": (0.9, 1.0),
        "images.flip": False,
    }
    following = {**short, "optimizer.learning_rate": 3e-4}
    tasks = (
        Task("digits", "images", {"data_dir": f"{data}/digits"}, digits, sweeps=False),
        Task("next", "texts", {"data_dir": f"{data}/next"}, following, sweeps=False),
    )
    vocabulary = f"{data}/vocabulary/vocab.txt"
    return Scale("sample", values | given, vocabulary, tasks, build=prepared.build_sample)


def _transfer(
    data: str, given: dict[str, Any], cifar10: str = "", books: str = "", **_: str
) -> Scale:
    values: dict[str, Any] = {
        f"data.{kind}.{split}": f"{data}/{kind}/{split}-*"
        for kind in ("images", "text")
        for split in ("train", "validation")
    }
    values["data.vocabulary"] = vocabulary = f"{data}/vocabulary/vocab.txt"
    values |= {"model.num_classes": 5, "text_batch_size": 128}  # of 32 tokens, see prepared.py
    common = {"dtype": "mixed_bfloat16", "evaluation_interval": 0, "grid": (1e-4, 3e-4, 1e-3)}
    # By AdamW, as all own images. From random weights, the paper's SGD learns less in this time
    # than ridge regression on their frozen features does.
    images = {**common, "image_size": 32, "batch": 64, "steps": 300, "dropout": 0.0}
    images["images.crop_area"] = (0.5, 1.0)
    tasks = (
        Task("cifar10", "images", {"data_dir": f"{data}/cifar10/task"}, images),
        *(
            Task(name, "texts", {"data_dir": f"{data}/{name}"}, {**common, "steps": steps})
            for name, steps in (("next", 400), ("swapped", 500), ("swapped500", 250))
        ),
    )
    build = functools.partial(prepared.build_transfer, cifar10=cifar10, books=books)
    rest: Any = {"tables": TRANSFER, "of_teachers": OF_TEACHERS, "pilot": (100, 101)}
    rest |= {"seeds": dict.fromkeys(TRANSFER, 5), "build": build}
    return Scale("small", values | given, vocabulary, tasks, **rest)


def _small(data: str, given: dict[str, Any], **_: str) -> Scale:
    """What has been run by earlier versions, for the page of `docs/reproduction/small.json`."""
    tasks = (
        Task("cifar10", "images", {}),
        Task("next", "texts", {}),
        Task("source", "texts", {}, only_in="table1"),
    )
    return Scale("", given, "", tasks, {"table1": 3, "figure2": 2, "merging": 3})


def _paper(data: str, given: dict[str, Any], data_dir: str = "", **_: str) -> Scale:
    names = (*TEXT_TASKS, *IMAGE_TASKS)
    tasks = tuple(Task(name, name, {"data_dir": data_dir}) for name in names)
    return Scale("paper", given, given.get("data.vocabulary", ""), tasks)


def job_name(kind: str, recipe: Recipe, seed: int, task: str = "") -> str:
    """The name of a job: its folder, and its key in `results.json`."""
    return "/".join(filter(None, (kind, task, f"{recipe.name}-s{seed}")))


@dataclasses.dataclass(frozen=True)
class Job:
    """An experiment that is run once, in a folder of its own; or a figure that is drawn."""

    name: str  # its folder, which begins with its kind: pretrain, finetune, probe or figures
    inputs: dict[str, Any]  # of `experiments.experiment.open_run`, or of a figure, see `one_run`
    experiment: str = ""  # the name that `keras_vitbert.experiments.experiment.experiment` takes
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()  # jobs whose folders it reads
    rates_of: tuple[str, ...] = ()  # the jobs whose sweeps pick its learning rate

    @property
    def kind(self) -> str:
        """What it does."""
        return self.name.partition("/")[0]

    def settings(self, output: str) -> str:
        """A digest of all that makes the job, except the data and the jobs that it needs."""
        flat = {}
        if self.experiment:  # fields that later versions add do not count until they are changed
            config = experiment(self.experiment, **self.values)
            task: dict[str, Any] = {} if self.kind == "pretrain" else {"task": self.experiment}
            usual = flatten(type(config)(**task))
            flat = {name: value for name, value in flatten(config).items() if value != usual[name]}
        content = json.dumps([self.kind, flat, self.inputs], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(content.replace(f"{output}/", "").encode()).hexdigest()[:16]


@dataclasses.dataclass
class Plan:
    """The jobs that tables and figures need."""

    scale: Scale
    output: str  # the folder of all jobs, absolute
    rows_seeds: int = 0  # how many, of every row; 0 for those of the scale
    asked: list[str] = dataclasses.field(default_factory=list)  # names of what was added
    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)  # each after all that it needs

    def __post_init__(self) -> None:
        every = tables()
        self.tables = {name: every[name] for name in self.scale.tables}

    def seeds(self, table: str) -> range:
        """The seeds of a table's rows."""
        return range(self.rows_seeds or self.scale.seeds.get(table, 1))

    def add(self, name: str) -> None:
        """Adds the jobs of a table, or of `figure3` to `figure6`."""
        self.asked.append(name)
        if name not in self.tables:
            self._add_figure(name.removeprefix("figure"))
            return
        table = self.tables[name]
        for row in table.rows:
            for seed in self.seeds(name):
                for task in self.scale.tasks_of(table):
                    if table.averaged:
                        self._add_downstream("probe", row.recipe, task, seed)
                    self._add_downstream("finetune", row.recipe, task, seed)
                if not table.has_tasks:
                    self._add_pretraining(row.recipe, seed)

    def _add_figure(self, number: str) -> None:
        """Adds a figure of `vitbert`, or Figure 6 of `vitbert` and `joint`, fine-tuned."""
        images, name = "", f"figures/{number}-{FULL.name}-s0"
        if number != "6":
            needs = [self._add_pretraining(FULL, 0)]
        else:
            needs, name, firsts = [], "figures/6-s0", {}
            for task in self.scale.tasks:
                firsts.setdefault(task.kind, task)
            for task in firsts.values():
                needs += [self._add_downstream("finetune", r, task, 0) for r in (FULL, JOINT)]
            images = firsts["images"].inputs.get("data_dir", "")
        inputs = {"number": number, "runs": [*map(self._folder, needs)], "images": images}
        self.jobs[name] = Job(name, inputs, needs=tuple(needs))

    def _add_pretraining(self, recipe: Recipe, seed: int) -> str:
        """Adds a pre-training with its teachers; returns its name."""
        if recipe.changes and recipe.changes == self.scale.of_teachers:
            seed = 0
        name = job_name("pretrain", recipe, seed)
        if name not in self.jobs:
            needs = {}
            if VARIANTS[recipe.variant].distillation:
                for role, variant in _TEACHERS.items():
                    teacher = Recipe(variant, self.scale.of_teachers)
                    needs[role] = self._add_pretraining(teacher, seed)
            values = {**self.scale.pretraining, **dict(recipe.changes)}
            values |= {"variant": recipe.variant, "seed": seed}
            inputs = {role: self._folder(teacher) for role, teacher in needs.items()}
            self.jobs[name] = Job(name, inputs, self.scale.config, values, tuple(needs.values()))
        return name

    def _add_downstream(self, kind: str, recipe: Recipe, task: Task, seed: int) -> str:
        """Adds a fine-tuning or a probe with what it starts from; returns its name."""
        name = job_name(kind, recipe, seed, task.name)
        if name in self.jobs:
            return name
        needs, rates_of, values = (), (), {"seed": seed}
        inputs: dict[str, Any] = {"checkpoint": RAND, "architecture": self.scale.config}
        if recipe.variant != RAND:
            needs = (self._add_pretraining(recipe, seed),)
            inputs = {"checkpoint": self._folder(needs[0])}
        knows_text = recipe.variant != RAND and VARIANTS[recipe.variant].text
        if task.kind == "text" and not knows_text:
            inputs["vocabulary"] = self.scale.vocabulary
        inputs |= task.inputs
        if kind == "finetune":
            values = {**task.values, "most_steps": 0, **values}  # as long for each row
            sweeps = self.sweeps(recipe, task) if task.sweeps else []
            if (recipe, seed) in sweeps:
                inputs["sweep"] = True
            else:
                rates_of = tuple(self._add_downstream(kind, r, task, s) for r, s in sweeps)
        self.jobs[name] = Job(name, inputs, task.experiment, values, needs, rates_of)
        return name

    def sweeps(self, recipe: Recipe, task: Task) -> list[tuple[Recipe, int]]:
        """The rows and seeds whose sweeps pick a row's learning rate, which all its seeds take."""
        # A pilot picks one for all rows, by random weights and the modality of the task alone. Else
        # each row's first seed does.
        own = Recipe("bert" if task.kind == "text" else "vit")
        pilot = [(row, seed) for row in (own, Recipe(RAND)) for seed in self.scale.pilot]
        return pilot or [(recipe, 0)]

    def _folder(self, name: str) -> str:
        return os.path.join(self.output, name)
