"""The fine-tuning recipes: for images, for text, for both at once; and what each task changes.

    python -m keras_vitbert.finetune --checkpoint=runs/paper --task=pets [--config.KEY=VALUE ...]

Values that are not from the paper are marked, as in `keras_vitbert.configs.pretraining`;
`docs/fine_tuning.md` explains the fields.
"""

import dataclasses
from typing import Any, ClassVar, Self

from keras_vitbert.configs.data import Views
from keras_vitbert.configs.devices import Devices, require_shares
from keras_vitbert.configs.merges import Merge
from keras_vitbert.configs.model import AS_DROPOUT, IMAGE_HEADS, TEXT_HEADS, check_attention_dropout
from keras_vitbert.configs.optimizers import FineTuningOptimizer
from keras_vitbert.configs.run import Experiment
from keras_vitbert.configs.sections import Section, choice, flatten, ranged
from pipelines.text.casing import CASES

IMAGES, TEXTS = "images", "texts"  # the tasks of a user's own data
METRICS = ("accuracy", "f1", "mcc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSettings(Section):
    """The settings of a task, whether it is tuned alone or with another one."""

    task: str  # of `keras_vitbert.experiments.fine_tuning.tasks.TASKS`
    # Reported, and used to pick the learning rate; or f1, mcc
    metric: str = choice("accuracy", METRICS)
    head: str = "paper"  # a two-layer MLP; or vit, deit, for text bert: as published models have
    label_smoothing: float = ranged(0.0, "[0, 1)")
    batch: int

    kind: ClassVar[str]  # `images` or `text`
    modality: ClassVar[str]  # `image` or `text`
    HEADS: ClassVar[tuple[str, ...]]
    # Fields that follow from the data and the checkpoint, with the values that ask for it.
    CHOSEN: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_chosen("batch")
        self.require_known("head", self.HEADS)

    @property
    def is_own(self) -> bool:
        """Whether the data are a user's own."""
        return self.task in (IMAGES, TEXTS)

    @property
    def is_open(self) -> bool:
        """Whether the fields in `CHOSEN` may be left to the data."""
        return True

    def open_fields(self) -> list[str]:
        """The fields whose values are still to be chosen."""
        return [f for f, empty in self.CHOSEN.items() if self.is_open and self.value(f) == empty]

    def require_chosen(self, *fields: str) -> None:
        """Requires values above 0, or not empty, of fields that are not still to be chosen."""
        for field in fields:
            value, is_open = self.value(field), field in self.open_fields()
            self.require(is_open or value > type(value)(), field, "above 0")

    @property
    def in_pairs(self) -> bool:
        """Whether images are mixed in pairs."""
        return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageColumns(Section):
    """Columns of a table of images; empty: the usual ones."""

    image_column: str = ""
    label_column: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSettings(TaskSettings):
    """The settings of a task on images."""

    image_size: int = 384  # pixels
    batch: int = 512
    images: Views = Views(central_crop=1.0)
    data: ImageColumns = ImageColumns()

    kind: ClassVar[str] = "images"
    modality: ClassVar[str] = "image"
    HEADS: ClassVar[tuple[str, ...]] = IMAGE_HEADS
    CHOSEN: ClassVar[dict[str, Any]] = {"image_size": 0, "images.crop_area": (), "batch": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_chosen("image_size", "images.crop_area")
        if self.in_pairs:
            self.require(self.batch % 2 == 0, "batch", "even to mix images in pairs")

    @property
    def in_pairs(self) -> bool:
        return self.images.in_pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextColumns(Section):
    """Columns of a table of texts, empty for the usual ones, and their case."""

    sentence_columns: str = ""  # one or two names, comma-separated
    label_column: str = ""
    case: str = choice("auto", CASES)  # as the checkpoint's vocabulary; or lower, cased

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name for name in self.sentence_columns.split(",") if name]
        self.require(len(names) <= 2, "sentence_columns", "one or two names")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSettings(TaskSettings):
    """The settings of a task on texts."""

    max_length: int = 0  # tokens; 0: the checkpoint's maximum
    # Lengths that batches are padded to.
    bucket_boundaries: tuple[int, ...] = (32, 64, 128, 256, 512)
    batch: int = 32  # not in the paper
    data: TextColumns = TextColumns()

    kind: ClassVar[str] = "text"
    modality: ClassVar[str] = "text"
    HEADS: ClassVar[tuple[str, ...]] = TEXT_HEADS
    CHOSEN: ClassVar[dict[str, Any]] = {"batch": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.max_length == 0 or self.max_length >= 5
        self.require(fits, "max_length", "0 (as the checkpoint) or at least 5")
        ascending = tuple(sorted(set(self.bucket_boundaries))) == self.bucket_boundaries
        fits = ascending and all(length >= 5 for length in self.bucket_boundaries)
        self.require(fits, "bucket_boundaries", "ascending lengths of at least 5 tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuning(Experiment):
    """What all fine-tuning has in common."""

    dropout: float = ranged(0.1, "[0, 1)")
    attention_dropout: float = AS_DROPOUT  # of attention weights; -1: as dropout
    stochastic_depth: float = ranged(0.0, "[0, 1)")  # of the last block; less in earlier ones
    lora_rank: int = ranged(0, "[0, inf)")  # 0: all weights are trained
    # Training goes on from `steps` up to so many while held-out training examples get better, and
    # is given these back at the end; 0: it ends at `steps`; -1: as fits own data.
    most_steps: int = ranged(0, "[-1, inf)")
    grid: tuple[float, ...]  # learning rates of a sweep
    # Of the training examples, held out by a sweep; not in the paper.
    validation_fraction: float = ranged(0.1, "(0, 1)")
    evaluation_batch: int = ranged(256, "[1, inf)")
    # Of each split that is reported, always the same random ones; 0: all
    test_examples: int = ranged(0, "[0, inf)")
    # Steps; 0: only at the end; -1: 20 times, if that is cheap.
    evaluation_interval: int = ranged(-1, "[-1, inf)")
    # Between two points of the curves; 0: a twentieth, at most 100.
    steps_per_epoch: int = ranged(0, "[0, inf)")
    checkpoint_interval: int = ranged(1_000, "[1, inf)")
    checkpoints_to_keep: int = ranged(1, "[1, inf)")
    optimizer: FineTuningOptimizer

    ENDS: ClassVar[tuple[str, ...]] = (*Experiment.ENDS, "evaluation_interval")
    kind: ClassVar[str]  # `images`, `text` or `both`

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.seed < 2**31, "seed", "below 2**31")
        self.require_within("[0, inf)", "steps")
        fits = self.most_steps < 1 or self.most_steps >= self.steps
        self.require(fits, "most_steps", f"0, or at least steps, which is {self.steps}")
        check_attention_dropout(self)
        distinct = len(set(self.grid)) == len(self.grid)
        fits = bool(self.grid) and distinct and min(self.grid) > 0
        self.require(fits, "grid", "one or more distinct rates above 0")
        # A run that ends before evaluates at its end alone.
        is_in_run = not 0 < self.steps <= self.evaluation_interval
        if self.steps_per_epoch > 0 and self.evaluation_interval > 0 and is_in_run:
            self.require_multiple("evaluation_interval", "steps_per_epoch")

    @property
    def tasks(self) -> dict[str, TaskSettings]:
        """The settings of each task, by the section that holds them; "" for the config itself."""
        raise NotImplementedError

    @property
    def task_names(self) -> str:
        """The tasks' names, comma-separated."""
        return ",".join(settings.task for settings in self.tasks.values())

    def open_fields(self) -> list[str]:
        """The fields whose values are still to be chosen."""
        raise NotImplementedError

    @property
    def modalities(self) -> list[str]:
        """Those of the tasks: `image`, `text`, or both."""
        return [settings.modality for settings in self.tasks.values()]

    def steps_for(self, count: int) -> int:
        """The training steps with so many training examples."""
        return self.steps

    @property
    def augmentations(self) -> tuple[dict, ...]:
        every = self.tasks.values()
        return next((t.images.augmentations for t in every if isinstance(t, ImageSettings)), ())

    def check_batch(self, replicas: int) -> None:
        """Refuses a batch that the replicas cannot share evenly."""
        for section, task in self.tasks.items():
            field = dotted(section, "batch")
            require_shares(field, task.batch, replicas, self.accumulation, task.in_pairs)

    def changed(self) -> list[str]:
        """The fields that differ from the tasks' own."""
        flat, own = flatten(self), flatten(get_config(self.task_names, self.kind))
        return [field for field in flat if flat[field] != own[field]]

    def for_devices(self, devices: Devices) -> Self:
        """See `Experiment.for_devices`; where XLA compiles, each length would be a program."""
        config = super().for_devices(devices)
        one_length = devices.on_tpu or devices.on_jax
        return config.with_values(
            {
                dotted(section, "bucket_boundaries"): ()
                for section, task in self.tasks.items()
                if isinstance(task, TextSettings) and one_length
            }
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleTask(FineTuning, TaskSettings):
    """Fine-tuning on one task, whose settings are the config's own."""

    @property
    def is_open(self) -> bool:
        return self.is_own

    @property
    def tasks(self) -> dict[str, TaskSettings]:
        return {"": self}

    def open_fields(self) -> list[str]:
        return TaskSettings.open_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(ImageSettings, SingleTask):
    """Fine-tuning on images, by the paper's recipe."""

    steps: int = 10_000
    grid: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)  # missing in our copy of the paper
    optimizer: FineTuningOptimizer = FineTuningOptimizer(
        name="sgd",
        learning_rate=0.01,  # not in the paper, which searches
        schedule="cosine",
        warmup=0.0,
        weight_decay=0.0,
    )

    CHOSEN: ClassVar[dict[str, Any]] = {
        **ImageSettings.CHOSEN,
        "steps": 0,
        "most_steps": -1,
        "optimizer.learning_rate": 0.0,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_chosen("steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask(TextSettings, SingleTask):
    """Fine-tuning on texts, by the paper's recipe."""

    steps: int = 0  # 0: those of `epochs`
    epochs: float = 3.0
    grid: tuple[float, ...] = (2e-5, 3e-5, 5e-5, 1e-4)  # missing in our copy of the paper
    optimizer: FineTuningOptimizer = FineTuningOptimizer(
        learning_rate=5e-5  # not in the paper, which searches
    )

    CHOSEN: ClassVar[dict[str, Any]] = {
        "epochs": 0.0,
        "most_steps": -1,
        "optimizer.learning_rate": 0.0,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_chosen("epochs")

    def steps_for(self, count: int) -> int:
        return self.steps or max(round(self.epochs * count / self.batch), 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointTasks(FineTuning):
    """Fine-tuning of one encoder on images and texts at once; not in the paper."""

    image: ImageSettings = ImageSettings(task=IMAGES)
    text: TextSettings = TextSettings(task=TEXTS)
    merge: Merge = Merge(name="sum")
    steps: int = 0
    grid: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    optimizer: FineTuningOptimizer = FineTuningOptimizer(
        learning_rate=0.0, warmup=0.1, weight_decay=0.01
    )

    kind: ClassVar[str] = "both"
    CHOSEN: ClassVar[dict[str, Any]] = {
        **{f"image.{field}": empty for field, empty in ImageSettings.CHOSEN.items()},
        **{f"text.{field}": empty for field, empty in TextSettings.CHOSEN.items()},
        "steps": 0,
        "most_steps": -1,
        "optimizer.learning_rate": 0.0,
        "merge.image_loss_ratio": 0.0,
        "merge.mask_update_interval": Merge.mask_update_interval,
    }

    @property
    def tasks(self) -> dict[str, TaskSettings]:
        return {"image": self.image, "text": self.text}

    def open_fields(self) -> list[str]:
        unread = self.unread()
        return [f for f, empty in self.CHOSEN.items() if self.value(f) == empty and f not in unread]

    def unread(self) -> dict[str, str]:
        """See `Experiment.unread`."""
        of_merge = {f"merge.{field}": reason for field, reason in self.merge.unread().items()}
        return of_merge | super().unread()


def dotted(section: str, name: str) -> str:
    """A name in a section of a config, or in the config itself."""
    return f"{section}.{name}" if section else name


def classes_file(section: str) -> str:
    """The name, without its suffix, of the file that names the classes of a section's task."""
    return "text_classes" if section == "text" else "classes"


# What a task changes. The steps of the vision tasks are the paper's.
_OF_TASK: dict[str, dict[str, Any]] = {
    "cifar10": {"steps": 10_000},
    "cifar100": {"steps": 10_000},
    "imagenet": {"steps": 20_000, "validation_fraction": 0.01},
    "pets": {"steps": 500},
    "flowers": {"steps": 500},
    IMAGES: {  # not in the paper
        **ImageTask.CHOSEN,
        "grid": (1e-4, 3e-4, 1e-3, 3e-3),
        "optimizer.name": "adamw",
        "optimizer.warmup": 0.1,
        "optimizer.weight_decay": 0.01,
    },
    TEXTS: {**TextTask.CHOSEN, "grid": (3e-5, 1e-4, 3e-4, 1e-3)},  # not in the paper
}


def get_config(task: str, kind: str) -> FineTuning:
    """The config of a task of `experiments.fine_tuning.tasks.TASKS`, of `images` or `text`.

    Of `both` kinds, for two tasks on images and on texts, in this order and comma-separated.
    """
    if kind == "both":
        image, _, text = task.partition(",")
        config = JointTasks(image=ImageSettings(task=image), text=TextSettings(task=text))
        return config.with_values(JointTasks.CHOSEN)
    recipe = ImageTask if kind == "images" else TextTask
    return recipe(task=task).with_values(_OF_TASK.get(task, {}))
