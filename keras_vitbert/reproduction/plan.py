"""From rows of tables to the units that fill them."""

from keras_vitbert.configs.merges import has_masks
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.reproduction.experiments import RAND, Recipe
from keras_vitbert.reproduction.units import Unit

_TEACHERS = {"image": "vit", "text": "bert"}


class Planner:
    """Makes the units of a scale; the same recipe, task and seed are one unit.

    Args:
        scale: `keras_vitbert.reproduction.scales.Scale`.
        others: dict of a module to a tuple of str, arguments for all its units, such as devices.

    Attributes:
        units: dict of a name to a `Unit`.
    """

    def __init__(self, scale, others=None):
        self.scale = scale
        self.units = {}
        self._settings = scale.settings()
        self._others = others or {}

    def pretraining(self, recipe, seed):
        """Adds the pre-training of a recipe, with its teachers; returns the unit's name: str."""
        name = f"pretrain/{recipe.name}-s{seed}"
        if name not in self.units:
            teachers = []
            if VARIANTS[recipe.variant].distillation:
                for kind, variant in _TEACHERS.items():
                    teacher = self.pretraining(Recipe(variant), seed)
                    teachers.append(f"--{kind}_teacher={{{teacher}}}")
            flags = (f"--config={self.scale.config}", *self.scale.pretraining)
            if not has_masks(dict(recipe.changes).get("merge.name", "mask")):  # none to schedule
                flags = (flag for flag in flags if not flag.startswith("--config.merge.mask_"))
            flags = (*flags, f"--variant={recipe.variant}", *recipe.flags, *teachers)
            self._add(name, "keras_vitbert.pretrain", flags, seed, settings=self._settings)
        return name

    def fine_tuning(self, recipe, task, seed, seeds):
        """Adds a fine-tuning; returns the unit's name: str.

        The first seed picks the learning rate, on held-out training examples, and all seeds are
        reported with it: the same effort for every row.
        """
        name = f"finetune/{task.name}/{recipe.name}-s{seed}"
        if name not in self.units:
            first = seeds[0]
            flags = (*self._begin(recipe, task, seed), *task.data, *task.flags)
            rate_of = ""
            if seed == first and task.sweeps:
                flags += ("--sweep",)
            elif seed != first:
                rate_of = self.fine_tuning(recipe, task, first, seeds)
            self._add(name, "keras_vitbert.finetune", flags, seed, rate_of)
        return name

    def probing(self, recipe, task, seed):
        """Adds a probe of frozen features; returns the unit's name: str."""
        name = f"probe/{task.name}/{recipe.name}-s{seed}"
        if name not in self.units:
            flags = (*self._begin(recipe, task, seed), *task.data)
            self._add(name, "keras_vitbert.probe", flags, seed)
        return name

    def figure(self, number, recipe, seed):
        """Adds the drawing of a figure of one pre-training; returns the unit's name: str."""
        run = self.pretraining(recipe, seed)
        return self._drawing(number, (f"--run={{{run}}}",), f"-{recipe.name}", seed)

    def examples(self, recipes, seed, seeds):
        """Adds Figure 6, predictions for an image and a text task; returns the unit's name: str.

        Args:
            recipes: iterable of `Recipe`, to be shown side by side.
            seed: int.
            seeds: see `fine_tuning`.
        """
        tasks, flags = {}, []
        for task in self.scale.tasks:
            if task.kind not in tasks:
                tasks[task.kind] = task
                for recipe in recipes:
                    run = self.fine_tuning(recipe, task, seed, seeds)
                    flags.append(f"--run={{{run}}}")
        data = tasks["images"].data if "images" in tasks else ()
        others = self._others.get("keras_vitbert.finetune", ())
        return self._drawing("6", (*flags, *_images_of(data)), "", seed, _images_of(others))

    def _drawing(self, number, flags, of, seed, others=()):
        name = f"figures/{number}{of}-s{seed}"
        self.units[name] = Unit(
            *(name, "keras_vitbert.figures", (f"--figures={number}", *flags), seed),
            others=others,
            folder_flag="output",
            has_summary=False,
        )
        return name

    def _begin(self, recipe, task, seed):
        """The flags of the checkpoint that a fine-tuning or a probe starts from: list of str."""
        knows_text = recipe.variant != RAND and VARIANTS[recipe.variant].text
        words = [self.scale.vocabulary] if task.kind == "text" and not knows_text else []
        if recipe.variant == RAND:
            return [f"--checkpoint={RAND}", self.scale.architecture, *words]
        checkpoint = recipe.checkpoint or f"{{{self.pretraining(recipe, seed)}}}"
        return [f"--checkpoint={checkpoint}", *words]

    def _add(self, name, module, arguments, seed, rate_of="", settings=()):
        arguments = (*arguments, f"--config.seed={seed}")
        others = self._others.get(module, ())
        self.units[name] = Unit(name, module, arguments, seed, rate_of, others, settings)


def _images_of(flags):
    """The `--images` of a figure for the `--data_dir` of a fine-tuning, if there is one."""
    begin = "--data_dir="
    folders = (flag.removeprefix(begin) for flag in flags if flag.startswith(begin))
    return tuple(f"--images={folder}" for folder in folders)
