"""The paper's tables and figures as rows and columns: what is trained, and what is measured.

Rows of different tables that are trained alike are one recipe, which is run once: row (1, 1) of
Table 2 is `vitbert_no_gm` of Table 1. Its row (0, 1) is `joint`, which is also 0.2 in Table 3.
"""

import dataclasses

# Columns of Table 3 and of the ablation of merges: the validation metrics of a pre-training.
NSP, MLM, IC = "nsp_accuracy", "mlm_accuracy", "image_accuracy"
NATS = "mlm_loss"
RAND = "rand"  # nothing is trained


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is pre-trained.

    Attributes:
        variant: str, a `--variant` of `pretrain`, or `rand` for random weights.
        changes: tuple of (str, value), keys of the config with their values.
        checkpoint: str, a model of another project that is used as it is, or empty.
    """

    variant: str
    changes: tuple[tuple[str, object], ...] = ()
    checkpoint: str = ""

    @property
    def name(self):
        """A name for files, such as `joint-image_loss_ratio=0.1`: str."""
        parts = [f"{key.rpartition('.')[2]}={value}" for key, value in self.changes]
        return "-".join([self.variant, *parts, *["original"] * bool(self.checkpoint)])

    @property
    def is_pretrained_here(self):
        """Whether it is pre-trained here, unlike random weights and models of other projects."""
        return self.variant != RAND and not self.checkpoint

    @property
    def flags(self):
        """The flags of `pretrain` for the changes: tuple of str."""
        return tuple(f"--config.{key}={value}" for key, value in self.changes)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: tuple of str, its first columns.
        recipe: `Recipe`; None for a row that is a part of runs.
        paper: dict of a column to the paper's number, in per cent; empty if it has none.
    """

    label: tuple[str, ...]
    recipe: Recipe | None
    paper: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper, or an ablation of our own.

    Attributes:
        name: str, such as `table1`.
        title: str.
        labels: tuple of str, the heads of the first columns.
        rows: tuple of `Row`.
        tasks: str, which of a scale's tasks its rows are fine-tuned on: `all`, `few`, or empty for
            none; then the columns are NSP, MLM and IC.
        questions: tuple of (str, tuple of str, tuple of str): a question, and the labels of two
            groups of rows. The answer is yes if the first group's mean is above the second's.
        is_ordered: bool, whether rows are ordered by the number in their first label.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    tasks: str = ""
    questions: tuple = ()
    is_ordered: bool = False


JOINT, FULL = Recipe("joint"), Recipe("vitbert")
NO_MASKS = Recipe("vitbert_no_gm")
TEXT_TASKS = ("mnli", "qqp", "qnli", "sst2", "rte")
IMAGE_TASKS = ("cifar10", "cifar100", "imagenet", "flowers", "pets")

# arXiv 2112.07074, Table 1: the text tasks, the image tasks; their averages and that of both.
_TABLE_1 = (
    ("Rand. Init.", RAND, (43.4, 75.5, 49.4, 80.5, 51.6), (68.0, 39.2, 19.5, 27.8, 9.1),
     (60.1, 32.7, 46.4)),
    ("BERT", "bert", (84.4, 90.6, 91.0, 92.5, 81.9), (68.8, 38.0, 17.9, 16.3, 9.5),
     (88.1, 30.1, 59.1)),
    ("ViT", "vit", (51.6, 75.7, 49.5, 68.0, 52.0), (98.1, 87.1, 77.9, 89.5, 93.8),
     (59.4, 89.3, 74.3)),
    ("Joint", "joint", (78.4, 88.4, 87.4, 80.5, 60.3), (97.5, 84.8, 74.2, 88.5, 93.0),
     (79.0, 87.6, 83.3)),
    ("ViT-BERT", "vitbert", (81.8, 88.9, 89.7, 90.4, 64.6), (98.3, 84.8, 78.3, 89.7, 93.7),
     (83.1, 89.0, 86.0)),
    ("w/o KD", "vitbert_no_kd", (81.9, 89.6, 90.0, 89.2, 58.8), (97.4, 82.3, 75.4, 88.2, 92.2),
     (81.9, 87.1, 84.5)),
    ("w/o GM", "vitbert_no_gm", (80.8, 89.6, 88.9, 91.1, 57.4), (97.6, 85.3, 79.1, 90.3, 92.8),
     (81.6, 89.0, 85.3)),
)  # fmt: skip
# Table 2, without masks: distillation ratio, temperature; text, vision, average.
_TABLE_2 = (
    (0, 1, 79.0, 87.6, 83.3),
    (0.3, 1, 78.9, 87.9, 83.4),
    (0.5, 1, 79.4, 88.4, 83.9),
    (0.7, 1, 81.7, 88.7, 85.2),
    (1, 1, 81.6, 89.0, 85.3),
    (1, 0, 80.8, 88.0, 84.4),
    (1, 0.1, 78.5, 86.5, 82.5),
    (1, 10, 75.7, 88.9, 82.3),
    (1, 100, 67.2, 75.3, 71.3),
)
# Table 3: r of eq. 9; NSP, MLM, IC, mean of MLM and IC.
_TABLE_3 = (
    (0.1, 98.7, 64.4, 71.1, 67.8),
    (0.2, 98.8, 63.6, 73.3, 68.5),
    (0.3, 98.7, 63.4, 73.0, 68.2),
    (0.4, 98.6, 62.9, 72.5, 67.7),
    (0.5, 98.3, 61.7, 73.8, 67.8),
    (0.6, 98.5, 60.5, 73.6, 67.1),
    (0.7, 98.4, 60.2, 73.5, 66.9),
    (0.8, 96.7, 54.6, 74.1, 64.4),
    (0.9, 95.2, 46.2, 73.6, 59.9),
)
# Figure 2 has no numbers in the text.
MASK_RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
MASK_KINDS = {"magnitude": (), "random": (("merge.name", "random_mask"),)}
# Of merges with the same direction (docs/merging.md), only one is taken.
MERGES = {
    "pcgrad by block": (("merge.name", "pcgrad"), ("merge.per_block", True)),
    "mask of each tensor": (("merge.mask_scope", "tensor"),),
    "conflict_free": (("merge.name", "conflict_free"),),
    "cagrad by block": (("merge.name", "cagrad"), ("merge.per_block", True)),
    "mask drawn again": (("merge.mask_cumulative", False),),
}


def _table_1(given):
    """Table 1; `given`: dict of `bert` and `vit` to a checkpoint of another project."""
    rows = []
    for label, variant, text, images, averages in _TABLE_1:
        paper = dict(zip((*TEXT_TASKS, *IMAGE_TASKS), (*text, *images), strict=True))
        paper |= dict(zip(("text", "images", "average"), averages, strict=True))
        rows.append(Row((label,), Recipe(variant), paper))
        if variant in given:
            recipe = Recipe(variant, checkpoint=given[variant])
            rows.append(Row((f"{label}, original",), recipe, paper))
    return Experiment(
        "table1",
        "Fine-tuning on tasks of one modality (Table 1)",
        ("pre-training",),
        tuple(rows),
        tasks="all",
        questions=(
            ("Does distillation help?", ("ViT-BERT", "w/o GM"), ("Joint", "w/o KD")),
            ("Do masks help?", ("ViT-BERT", "w/o KD"), ("Joint", "w/o GM")),
            ("Do both together help?", ("ViT-BERT",), ("Joint",)),
            ("Does joint pre-training help at all?", ("ViT-BERT",), ("Rand. Init.",)),
            ("What does a modality of its own give?", ("BERT",), ("ViT-BERT",)),
            ("What does a modality of its own give?", ("ViT",), ("ViT-BERT",)),
        ),
    )


def _table_2():
    rows = []
    for ratio, temperature, *numbers in _TABLE_2:
        changes = []
        if ratio != 1:
            changes.append(("distillation.ratio", ratio))
        if temperature != 1:
            changes.append(("distillation.temperature", temperature))
        # Without distillation there are no teachers either.
        recipe = Recipe(NO_MASKS.variant, tuple(changes)) if ratio else JOINT
        paper = dict(zip(("text", "images", "average"), numbers, strict=True))
        rows.append(Row((f"{ratio:g}", f"{temperature:g}"), recipe, paper))
    return Experiment(
        "table2",
        "Distillation without masks (Table 2)",
        ("ratio", "temperature"),
        tuple(rows),
        tasks="few",
        questions=tuple(
            ("Is more distillation better?", (f"{ratio:g}, 1",), ("0, 1",))
            for ratio in (0.3, 0.5, 0.7, 1)
        )
        + tuple(
            ("Is 1 the best temperature?", ("1, 1",), (f"1, {temperature:g}",))
            for temperature in (0, 0.1, 10, 100)
        ),
    )


def _table_3():
    columns = (NSP, MLM, IC, "mean of MLM and IC")
    rows = [
        Row(
            (f"{ratio:g}",),
            Recipe("joint", (("merge.image_loss_ratio", ratio),) if ratio != 0.2 else ()),
            dict(zip(columns, numbers, strict=True)),
        )
        for ratio, *numbers in _TABLE_3
    ]
    return Experiment(
        "table3",
        "The share of the image loss (Table 3)",
        ("image_loss_ratio",),
        tuple(rows),
        questions=(("Is the paper's best share better than equal ones?", ("0.2",), ("0.5",)),),
        is_ordered=True,
    )


def _figure_2():
    rows = []
    for ratio in MASK_RATIOS:
        changes = (("merge.mask_ratio", ratio),) if ratio != 0.5 else ()
        for kind, name in MASK_KINDS.items():
            rows.append(Row((f"{ratio:g}", kind), Recipe("vitbert", name + changes), {}))
    return Experiment(
        "figure2",
        "How much is masked, and by what (Figure 2)",
        ("mask_ratio", "chosen by"),
        tuple(rows),
        tasks="few",
        questions=(
            (
                "Is magnitude better than chance?",
                tuple(f"{ratio:g}, magnitude" for ratio in MASK_RATIOS),
                tuple(f"{ratio:g}, random" for ratio in MASK_RATIOS),
            ),
            (
                "Do many masked weights cost more than few?",
                tuple(f"{MASK_RATIOS[0]:g}, {kind}" for kind in MASK_KINDS),
                tuple(f"{MASK_RATIOS[-1]:g}, {kind}" for kind in MASK_KINDS),
            ),
        ),
    )


def _merging():
    rows = [
        Row(("sum",), NO_MASKS, {}),
        Row(("mask",), FULL, {}),
        Row(("random_mask",), Recipe("vitbert", (("merge.name", "random_mask"),)), {}),
        *(Row((label,), Recipe("vitbert", changes), {}) for label, changes in MERGES.items()),
    ]
    return Experiment(
        "merging",
        "Ways of merging gradients, with distillation",
        ("merge",),
        tuple(rows),
        tasks="few",
        questions=(
            ("Are masks better than a sum?", ("mask",), ("sum",)),
            ("Is magnitude better than chance?", ("mask",), ("random_mask",)),
            *(("Is a merge better than masks?", (label,), ("mask",)) for label in MERGES),
        ),
    )


def by_depth(blocks):
    """How far images and text share each block of `vitbert`, as Figures 3 and 4 show it.

    Args:
        blocks: int, at least 2.

    Returns:
        `Experiment`; its question has no number in the paper.
    """
    labels = [f"{block}" for block in range(blocks)]
    half = blocks // 2
    return Experiment(
        "depth",
        "Sharing by depth (Figures 3 and 4)",
        ("block",),
        tuple(Row((label,), None, {}) for label in labels),
        questions=(("Does sharing grow with depth?", tuple(labels[-half:]), tuple(labels[:half])),),
    )


def experiments(given):
    """All experiments.

    Args:
        given: dict of `bert` and `vit` to checkpoints of other projects, perhaps empty.

    Returns:
        dict of a name, as on the command line, to an `Experiment`.
    """
    found = (_table_1(given), _table_2(), _table_3(), _figure_2(), _merging())
    return {experiment.name: experiment for experiment in found}
