"""From the results of runs to the numbers in the cells of tables."""

import dataclasses
from collections.abc import Iterable
from statistics import mean

from keras_vitbert.extras.reproduction import statistics
from keras_vitbert.extras.reproduction.plan import Plan, run_name
from keras_vitbert.extras.reproduction.running import DONE
from keras_vitbert.extras.reproduction.scales import Task
from keras_vitbert.extras.reproduction.tables import (
    AVERAGE,
    FULL,
    IC,
    IMAGES,
    MEAN,
    MLM,
    NATS,
    NSP,
    RAND,
    TEXT,
    Table,
    by_depth,
)

PROBE = "probe: "  # begins the columns of frozen features
_HEADS = {NSP: "NSP", MLM: "MLM", NATS: "MLM, nats", IC: "IC"}  # of columns with longer names


def head_of(column: str) -> str:
    """What stands above a column."""
    return _HEADS.get(column, column)


@dataclasses.dataclass(frozen=True)
class Filled:
    """A table with its numbers."""

    table: Table
    columns: tuple[str, ...]  # that are shown
    values: list[dict[str, dict[int, float]]]  # for each row by column and seed
    asked: tuple[str, ...]  # the columns that answer the questions
    pretraining: "Filled | None" = None  # the same rows in pre-training, if the columns are not
    averages: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # and of what

    def estimate(self, place: int, column: str) -> statistics.Estimate | None:
        """A cell, or None if nothing is known."""
        values = self.values[place][column]
        return statistics.estimate(values.values()) if values else None

    def measured(self, column: str) -> tuple[str, ...]:
        """What is measured in a column, whose name may mean other tasks elsewhere."""
        parts = self.averages.get(column)
        return sum(map(self.measured, parts), ()) if parts else (column,)

    @property
    def is_begun(self) -> bool:
        """Whether anything is known."""
        return any(row[column] for row in self.values for column in self.columns)


def fill(table: Table, units: dict, tasks: list[Task], seeds: Iterable[int]) -> Filled:
    """A table with the numbers of its runs.

    Args:
        table: its rows are pre-trained and, if there are tasks, fine-tuned and probed.
        units: see `Results`.
        tasks: their averages are as in the paper: of a modality, and of both averages.
        seeds: of all rows.
    """

    sources = dict.fromkeys((NSP, MLM, NATS, IC), ("pretrain", ""))
    averages: dict[str, tuple[str, ...]] = {MEAN: (MLM, IC)}
    for task in tasks:
        sources |= {task.name: ("finetune", task.name), PROBE + task.name: ("probe", task.name)}
    for before in ("", PROBE) if tasks else ():
        for kind in (TEXT, IMAGES):
            names = tuple(before + task.name for task in tasks if task.kind == kind)
            averages[before + kind] = names
    averages |= {AVERAGE: (TEXT, IMAGES)} if tasks else {}

    def numbers(recipe, column, kind, task):
        for seed in seeds:
            entry = units.get(run_name(kind, recipe, seed, task), {})
            if entry.get("outcome") == DONE:
                yield seed, entry["value"] if task else entry["validation"].get(column)

    values = []
    for row in table.rows:
        values.append(
            {
                column: {s: n for s, n in numbers(row.recipe, column, *source) if n is not None}
                for column, source in sources.items()
            }
        )
        for column, parts in averages.items():
            values[-1][column] = _means(values[-1], parts)
    columns = (NSP, MLM, NATS, IC, MEAN)
    pretraining = Filled(table, columns, values, (MEAN,), averages=averages)
    if not tasks:
        return pretraining
    asked = (TEXT, IMAGES, PROBE + TEXT, PROBE + IMAGES)
    columns = (*averages[TEXT], TEXT, *averages[IMAGES], IMAGES, AVERAGE, *asked[2:])
    return Filled(table, columns, values, asked, pretraining, averages)


def fill_depth(units: dict, seeds: Iterable[int]) -> Filled | None:
    """How far the modalities share each block of `vitbert`; None if no run measured activations."""
    entries = {seed: units.get(run_name("pretrain", FULL, seed), {}) for seed in seeds}
    entries = {seed: entry for seed, entry in entries.items() if entry.get("co_activation")}
    if not entries:
        return None
    columns = ("overlap", "correlation", "cleared")
    table = by_depth(len(next(iter(entries.values()))["co_activation"]["overlap"]))
    values = [{column: {} for column in columns} for _ in table.rows]
    for seed, entry in entries.items():
        for place, row in enumerate(values):
            for column in columns[:2]:
                row[column][seed] = entry["co_activation"][column][place]
            row["cleared"][seed] = entry["mask"]["sparsity_per_block"][f"block_{place}"]
    return Filled(table, columns, values, columns)


def _means(row, columns):
    """The mean of several columns, for each seed that all of them have."""
    cells = [row[column] for column in columns]
    seeds = set(cells[0]).intersection(*cells[1:]) if cells else ()
    return {seed: mean(cell[seed] for cell in cells) for seed in sorted(seeds)}


def fill_all(plan: Plan, units: dict) -> list[Filled]:
    """What was asked for, and all else that has results."""
    found = [
        fill(table, units, plan.scale.tasks_of(table), plan.seeds(name))
        for name, table in plan.tables.items()
    ]
    found = [one for one in found if one.table.name in plan.asked or one.is_begun]
    depth = fill_depth(units, max(map(plan.seeds, plan.tables), key=len))
    return [*found, *([depth] if depth else [])]


def deviations(filled: list[Filled]) -> dict[tuple[str, ...], statistics.Deviation]:
    """The error of a cell by what it measures (`Filled.measured`), from all trained rows."""
    rows = {}  # a recipe counts once, whatever tables it is in
    for one in [*filled, *(one.pretraining for one in filled if one.pretraining)]:
        for row, cells in zip(one.table.rows, one.values, strict=True):
            if row.recipe is not None and row.recipe.variant == RAND:
                continue
            for column, values in cells.items():
                known = rows.setdefault(one.measured(column), {})
                known.setdefault(row.recipe or row.name, {}).update(values)
    return {measured: statistics.deviation(found.values()) for measured, found in rows.items()}
