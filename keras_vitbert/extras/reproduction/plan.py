"""From rows of tables to the runs that fill them."""

import dataclasses
import hashlib
import json
import os
from typing import Any

from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.configs.run import Experiment
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.experiment import experiment
from keras_vitbert.extras.reproduction.scales import Scale
from keras_vitbert.extras.reproduction.tables import FULL, JOINT, RAND, Recipe, tables

_TEACHERS = {"image_teacher": "vit", "text_teacher": "bert"}


def run_name(kind: str, recipe: Recipe, seed: int, task: str = "") -> str:
    """The name of a run: its folder, and its key in `results.json`."""
    return "/".join(filter(None, (kind, task, f"{recipe.name}-s{seed}")))


@dataclasses.dataclass(frozen=True)
class Run:
    """An experiment that is run once, in a folder of its own; or a figure that is drawn."""

    name: str  # its folder, which begins with its kind: pretrain, finetune, probe or figures
    inputs: dict[str, Any]  # of `keras_vitbert.experiments.experiment.open_run`, or see `one_run`
    of: str = ""  # what `keras_vitbert.experiments.experiment.experiment` takes
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()  # runs whose folders it reads
    rate_of: str = ""  # the run whose learning rate it takes
    tpu: str | None = None

    @property
    def kind(self) -> str:
        """What it does."""
        return self.name.partition("/")[0]

    @property
    def experiment(self) -> Experiment:
        """What is run."""
        return experiment(self.of, **self.values)

    def settings(self, output: str) -> str:
        """A digest of all that makes the run, except the data and the runs that it needs."""
        flat = {}
        if self.of:  # fields that later versions add do not count until they are changed
            config = self.experiment
            task = {} if self.kind == "pretrain" else {"task": self.of}
            usual = flatten(type(config)(**task))
            flat = {name: value for name, value in flatten(config).items() if value != usual[name]}
        made_of = json.dumps([self.kind, flat, self.inputs], ensure_ascii=False)
        made_of = made_of.replace(f"{output}/", "")
        return hashlib.sha256(made_of.encode()).hexdigest()[:16]


class Plan:
    """The runs that tables and figures need.

    Args:
        scale: what is trained, and on what.
        output: the folder of all runs, absolute.
        seeds: for every row; 0 for those of the scale.
        originals: checkpoints of other projects, see `tables`.
        tpus: of a kind of run its TPU.

    Attributes:
        tables: all by name.
        asked: names of what was added.
        runs: by name, each after all that it needs.
    """

    def __init__(
        self,
        scale: Scale,
        output: str,
        seeds: int = 0,
        originals: dict[str, str] | None = None,
        tpus: dict[str, str | None] | None = None,
    ):
        self.scale, self.output, self.tables = scale, output, tables(originals or {})
        self.asked: list[str] = []
        self.runs: dict[str, Run] = {}
        self._seeds, self._tpus = seeds, tpus or {}

    def seeds(self, table: str) -> range:
        """The seeds of a table's rows."""
        return range(self._seeds or self.scale.seeds[table])

    def add(self, name: str) -> None:
        """Adds what fills a table, or what draws `figure3` to `figure6`."""
        self.asked.append(name)
        if name not in self.tables:
            self._drawing(name.removeprefix("figure"))
            return
        table = self.tables[name]
        for seed in self.seeds(name):
            for row in table.rows:
                for task in self.scale.tasks_of(table):
                    self._probing(row.recipe, task, seed)
                    self._fine_tuning(row.recipe, task, seed)
                if not table.tasks:
                    self._pretraining(row.recipe, seed)

    def _drawing(self, number):
        """Adds a figure of `vitbert`, or Figure 6 of `vitbert` and `joint`, fine-tuned."""
        images, name = "", f"figures/{number}-{FULL.name}-s0"
        if number != "6":
            needs = [self._pretraining(FULL, 0)]
        else:
            needs, name, firsts = [], "figures/6-s0", {}
            for task in self.scale.tasks:
                firsts.setdefault(task.kind, task)
            for task in firsts.values():
                needs += [self._fine_tuning(recipe, task, 0) for recipe in (FULL, JOINT)]
            images = firsts["images"].inputs["data_dir"]
        inputs = {"number": number, "runs": [*map(self._folder, needs)], "images": images}
        self._add(name, inputs, needs=tuple(needs))

    def _pretraining(self, recipe, seed):
        """The name of a pre-training, which is added with its teachers."""
        name = run_name("pretrain", recipe, seed)
        if name not in self.runs:
            needs = {}
            if VARIANTS[recipe.variant].distillation:
                for role, variant in _TEACHERS.items():
                    needs[role] = self._pretraining(Recipe(variant), seed)
            values = {**self.scale.pretraining, **dict(recipe.changes)}
            values |= {"variant": recipe.variant, "seed": seed}
            inputs = {role: self._folder(teacher) for role, teacher in needs.items()}
            self._add(name, inputs, self.scale.config, values, tuple(needs.values()))
        return name

    def _fine_tuning(self, recipe, task, seed):
        """The name of a fine-tuning, which is added.

        The first seed picks the learning rate, on held-out training examples, and all seeds are
        reported with it: the same effort for every row.
        """
        name = run_name("finetune", recipe, seed, task.name)
        if name not in self.runs:
            sweep, rate_of = task.sweeps and seed == 0, ""
            if task.sweeps and seed:
                rate_of = self._fine_tuning(recipe, task, 0)
            values, options = {**task.values, "seed": seed}, {"sweep": True} if sweep else {}
            self._downstream(name, recipe, task, seed, values, options, rate_of)
        return name

    def _probing(self, recipe, task, seed):
        name = run_name("probe", recipe, seed, task.name)
        if name not in self.runs:
            self._downstream(name, recipe, task, seed, {"seed": seed})

    def _downstream(self, name, recipe, task, seed, values, options=None, rate_of=""):
        """Adds a run that starts from a checkpoint."""
        needs, start = (), {"checkpoint": recipe.checkpoint or RAND}
        if recipe.variant == RAND:
            start["architecture"] = self.scale.config
        elif not recipe.checkpoint:
            needs = (self._pretraining(recipe, seed),)
            start["checkpoint"] = self._folder(needs[0])
        knows_text = recipe.variant != RAND and VARIANTS[recipe.variant].text
        if task.kind == "text" and not knows_text:
            start["vocabulary"] = self.scale.vocabulary
        inputs = {**start, **task.inputs, **(options or {})}
        self._add(name, inputs, task.experiment, values, needs, rate_of)

    def _add(self, name, *rest, **more):
        tpu = self._tpus.get(name.partition("/")[0])
        self.runs[name] = Run(name, *rest, **more, tpu=tpu)

    def _folder(self, name):
        return os.path.join(self.output, name)
