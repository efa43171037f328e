"""The paper's tables and figures as rows and columns: what is trained, and what is measured.

Rows of different tables that are trained alike are one recipe, which is run once: row (1, 1) of
Table 2 is `vitbert_no_gm` of Table 1. Its row (0, 1) is `joint`, which is also 0.2 in Table 3.
"""

import dataclasses

# Columns of pre-training: its validation metrics.
NSP, MLM, IC, NATS = "nsp_accuracy", "mlm_accuracy", "image_accuracy", "mlm_loss"
TEXT, IMAGES, AVERAGE, MEAN = "text", "images", "average", "mean of MLM and IC"
RAND = "rand"  # nothing is trained
PAPER = ("table1", "table2", "table3", "figure2", "merging")  # the tables of most scales
TRANSFER = ("controls", "answers")  # those of the scale `transfer`


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is pre-trained."""

    variant: str  # of `keras_vitbert.configs.pretraining.VARIANTS`, or `rand`
    changes: tuple[tuple[str, object], ...] = ()  # fields of the config with their values

    @property
    def name(self) -> str:
        """A name for files, such as `joint-image_loss_ratio=0.1`."""
        changes = [f"{field.rpartition('.')[2]}={value}" for field, value in self.changes]
        # `layerwise` had the name that `docs/reproduction/small.json` keeps.
        return "-".join([self.variant, *changes]).replace("=layerwise", "=tensor")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table."""

    label: tuple[str, ...]  # its first columns
    recipe: Recipe
    # The paper's numbers by column, in per cent.
    paper: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label as one text."""
        return ", ".join(self.label)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table or figure of the paper, or an ablation of our own."""

    name: str
    title: str
    heads: tuple[str, ...]  # of the first columns
    rows: list[Row]
    # A question, and the names of two groups of rows. The answer is yes if the first group's mean
    # is above the second's.
    questions: list[tuple[str, list[str], list[str]]]
    has_tasks: bool = True  # or only what pre-training measures
    is_ordered: bool = False  # whether rows are ordered by the number in their first label
    averaged: bool = True  # whether modalities' means and frozen features are columns, too


JOINT, FULL, NO_MASKS = Recipe("joint"), Recipe("vitbert"), Recipe("vitbert_no_gm")
OF_TEACHERS = (("steps", 6_000),)  # what they change, at the scale `transfer`
RANDOM_MASK = (("merge.name", "random_mask"),)
TEXT_TASKS = ("mnli", "qqp", "qnli", "sst2", "rte")
IMAGE_TASKS = ("cifar10", "cifar100", "imagenet", "flowers", "pets")
_AVERAGES = (TEXT, IMAGES, AVERAGE)

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
MASK_RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of Figure 2, which has no numbers in the text
# Of merges with the same direction (docs/merging.md), only one is taken.
MERGES = {
    "pcgrad by block": (("merge.name", "pcgrad"), ("merge.per_block", True)),
    "mask of each tensor": (("merge.mask_scope", "layerwise"),),
    "conflict_free": (("merge.name", "conflict_free"),),
    "cagrad by block": (("merge.name", "cagrad"), ("merge.per_block", True)),
    "mask drawn again": (("merge.mask_cumulative", False),),
}


def tables() -> dict[str, Table]:
    """All tables by name."""
    every = (_table_1(), _table_2(), _table_3(), _figure_2(), _merging(), *_transfer())
    return {table.name: table for table in every}


def _table_1() -> Table:
    rows, columns = [], (*TEXT_TASKS, *IMAGE_TASKS, *_AVERAGES)
    for label, variant, text, images, averages in _TABLE_1:
        paper: dict[str, float] = dict(zip(columns, (*text, *images, *averages), strict=True))
        rows.append(Row((label,), Recipe(variant), paper))
    questions = [
        ("Does distillation help?", ["ViT-BERT", "w/o GM"], ["Joint", "w/o KD"]),
        ("Do masks help?", ["ViT-BERT", "w/o KD"], ["Joint", "w/o GM"]),
        ("Do both together help?", ["ViT-BERT"], ["Joint"]),
        ("Does joint pre-training help at all?", ["ViT-BERT"], ["Rand. Init."]),
        ("What does a modality of its own give?", ["BERT"], ["ViT-BERT"]),
        ("What does a modality of its own give?", ["ViT"], ["ViT-BERT"]),
    ]
    title = "Fine-tuning on tasks of one modality (Table 1)"
    return Table("table1", title, ("pre-training",), rows, questions)


def _table_2() -> Table:
    rows = []
    for ratio, temperature, *numbers in _TABLE_2:
        values = {"distillation.ratio": ratio, "distillation.temperature": temperature}
        changes = tuple((field, value) for field, value in values.items() if value != 1)
        # Without distillation there are no teachers either.
        recipe = Recipe(NO_MASKS.variant, changes) if ratio else JOINT
        label = (f"{ratio:g}", f"{temperature:g}")
        rows.append(Row(label, recipe, dict(zip(_AVERAGES, numbers, strict=True))))
    more, best = "Is more distillation better?", "Is 1 the best temperature?"
    questions = [(more, [f"{ratio:g}, 1"], ["0, 1"]) for ratio in (0.3, 0.5, 0.7, 1)]
    questions += [(best, ["1, 1"], [f"1, {other:g}"]) for other in (0, 0.1, 10, 100)]
    title = "Distillation without masks (Table 2)"
    return Table("table2", title, ("ratio", "temperature"), rows, questions)


def _table_3() -> Table:
    rows = []
    for ratio, *numbers in _TABLE_3:
        changes = (("merge.image_loss_ratio", ratio),) if ratio != 0.2 else ()
        paper: dict[str, float] = dict(zip((NSP, MLM, IC, MEAN), numbers, strict=True))
        rows.append(Row((f"{ratio:g}",), Recipe("joint", changes), paper))
    title, head = "The share of the image loss (Table 3)", "image_loss_ratio"
    questions = [("Is the paper's best share better than equal ones?", ["0.2"], ["0.5"])]
    return Table("table3", title, (head,), rows, questions, has_tasks=False, is_ordered=True)


def _figure_2() -> Table:
    rows = []
    for ratio in MASK_RATIOS:
        changes = (("merge.mask_ratio", ratio),) if ratio != 0.5 else ()
        for kind, name in (("magnitude", ()), ("random", RANDOM_MASK)):
            rows.append(Row((f"{ratio:g}", kind), Recipe("vitbert", name + changes)))

    def rows_of(label: str) -> list[str]:
        return [row.name for row in rows if label in row.label]

    questions = [
        ("Is magnitude better than chance?", rows_of("magnitude"), rows_of("random")),
        ("Do many masked weights cost more than few?", rows_of("0.1"), rows_of("0.9")),
    ]
    title = "How much is masked, and by what (Figure 2)"
    return Table("figure2", title, ("mask_ratio", "chosen by"), rows, questions)


def _merging() -> Table:
    recipes = {"sum": NO_MASKS, "mask": FULL, "random_mask": Recipe("vitbert", RANDOM_MASK)}
    recipes |= {label: Recipe("vitbert", changes) for label, changes in MERGES.items()}
    questions = [
        ("Are masks better than a sum?", ["mask"], ["sum"]),
        ("Is magnitude better than chance?", ["mask"], ["random_mask"]),
        *(("Is a merge better than masks?", [label], ["mask"]) for label in MERGES),
    ]
    rows = [Row((label,), recipe) for label, recipe in recipes.items()]
    title = "Ways of merging gradients, with distillation"
    return Table("merging", title, ("merge",), rows, questions)


def _transfer() -> tuple[Table, Table]:
    """Table 1 without the paper's numbers, which are of other tasks: controls, and all rows."""
    table = _table_1()
    rows = [Row(row.label, row.recipe) for row in table.rows]
    length = f"{dict(OF_TEACHERS)['steps']:,} steps"
    controls = [*rows[:3], *(Row((f"{name}, teacher of {length}",), Recipe(variant, OF_TEACHERS))
                             for name, variant in (("BERT", "bert"), ("ViT", "vit")))]  # fmt: skip
    rows.append(Row(("random mask",), Recipe("vitbert", RANDOM_MASK)))
    chance = ("Is magnitude better than chance?", ["ViT-BERT"], ["random mask"])
    titles = (
        "Controls: what one modality teaches",
        "Answers: Table 1 on unseen classes and chapters",
    )
    return (
        Table("controls", titles[0], table.heads, controls, [], averaged=False),
        Table("answers", titles[1], table.heads, rows, [*table.questions, chance], averaged=False),
    )


def by_depth(blocks: int) -> Table:
    """How far images and text share each block of `vitbert`, as Figures 3 and 4 show it."""
    names = [f"{block}" for block in range(blocks)]
    half = blocks // 2
    questions = [("Does sharing grow with depth?", names[-half:], names[:half])] if half else []
    title = "Sharing by depth (Figures 3 and 4)"
    rows = [Row((name,), Recipe(FULL.variant, (("block", name),))) for name in names]
    return Table("depth", title, ("block",), rows, questions, has_tasks=False)
