"""From the results of units to the numbers in the cells of tables."""

import dataclasses
from statistics import mean

from keras_vitbert.reproduction.experiments import IC, MLM, NATS, NSP, by_depth
from keras_vitbert.reproduction.results import DONE
from keras_vitbert.reproduction.statistics import estimate

TEXT, IMAGES, AVERAGE, MEAN = "text", "images", "average", "mean of MLM and IC"
PROBE = "probe: "  # begins the columns of frozen features
PROBES = (PROBE + TEXT, PROBE + IMAGES)
HEADS = {NSP: "NSP", MLM: "MLM", NATS: "MLM, nats", IC: "IC"}  # for columns with longer names


@dataclasses.dataclass(frozen=True)
class Filled:
    """An experiment with its numbers.

    Attributes:
        experiment: `keras_vitbert.reproduction.experiments.Experiment`.
        columns: tuple of str.
        values: nested dict of a row's index, a column and a seed to float; also of columns that
            are not shown. A column computed from others has the seeds that all of them have.
        asked: tuple of str, the columns that answer the questions.
        pretraining: `Filled` of the same rows in pre-training; None if the columns are those.
        averages: dict of a column that is an average to the tuple of columns that it averages.
    """

    experiment: object
    columns: tuple[str, ...]
    values: dict[int, dict[str, dict[int, float]]]
    asked: tuple[str, ...] = ()
    pretraining: "Filled | None" = None
    averages: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def measured(self, column):
        """What is measured in a column, whose name may mean other tasks elsewhere: tuple of str."""
        if column not in self.averages:
            return (column,)
        return tuple(name for part in self.averages[column] for name in self.measured(part))

    def estimate(self, place, column):
        """`statistics.Estimate` of a cell, or None if nothing is known."""
        values = self.values[place][column]
        return estimate(values.values()) if values else None

    @property
    def is_begun(self):
        """Whether anything is known: bool."""
        return any(seeds for row in self.values.values() for seeds in row.values())

    def place(self, label):
        """The index of the row with a label, as in the questions of the experiment: int."""
        labels = [", ".join(row.label) for row in self.experiment.rows]
        return labels.index(label)


def of_pretraining(experiment, results, unit_name, seeds):
    """The cells of an experiment that is measured in pre-training itself.

    Args:
        experiment: `Experiment`.
        results: `Results`.
        unit_name: callable that takes a recipe and a seed, and returns the name of its unit; None
            if it is not trained here.
        seeds: iterable of int.

    Returns:
        `Filled`.
    """
    values = {}
    for place, row in enumerate(experiment.rows):
        found = {column: {} for column in (NSP, MLM, NATS, IC)}
        for seed in seeds:
            entry = results.units.get(unit_name(row.recipe, seed))
            if entry is not None and entry["outcome"] == DONE:
                for column in found.keys() & entry["validation"].keys():
                    found[column][seed] = entry["validation"][column]
        found[MEAN] = _means([found[MLM], found[IC]])
        values[place] = found
    return Filled(experiment, (NSP, MLM, NATS, IC, MEAN), values, (MEAN,))


def of_tasks(experiment, results, fine_tuned, probed, tasks, seeds, pretraining=None):
    """The cells of an experiment that is measured on tasks.

    Args:
        experiment: `Experiment`.
        results: `Results`.
        fine_tuned: callable that takes a recipe, a task and a seed, and returns a unit's name.
        probed: likewise, for a probe of frozen features; its columns begin with `PROBE`.
        tasks: list of `Task`.
        seeds: iterable of int.
        pretraining: `Filled` or None, kept in the result.

    Returns:
        `Filled`, with averages as in the paper: of the tasks of a modality, and of both averages.
    """
    averages = {
        before + kind: tuple(before + task.name for task in tasks if task.kind == kind)
        for kind in (TEXT, IMAGES)
        for before in ("", PROBE)
    }
    averages[AVERAGE] = (TEXT, IMAGES)
    values = {}
    for place, row in enumerate(experiment.rows):
        found = {}
        for task in tasks:
            for column, unit_name in ((task.name, fine_tuned), (PROBE + task.name, probed)):
                names = {seed: unit_name(row.recipe, task, seed) for seed in seeds}
                entries = {seed: results.units.get(name) for seed, name in names.items()}
                found[column] = {
                    seed: entry["value"]
                    for seed, entry in entries.items()
                    if entry is not None and entry["outcome"] == DONE
                }
        for column, names in averages.items():
            found[column] = _means([found[name] for name in names])
        values[place] = found
    columns = (*averages[TEXT], TEXT, *averages[IMAGES], IMAGES, AVERAGE, *PROBES)
    return Filled(experiment, columns, values, (TEXT, IMAGES, *PROBES), pretraining, averages)


def of_blocks(entries):
    """How far the modalities share each block, by activations and by masks.

    Args:
        entries: dict of a seed to the entry of its pre-training.

    Returns:
        `Filled`; None if no run has measured activations.
    """
    found = {seed: entry for seed, entry in entries.items() if entry.get("co_activation")}
    if not found:
        return None
    experiment = by_depth(len(next(iter(found.values()))["co_activation"]["overlap"]))
    values = {}
    for place in range(len(experiment.rows)):
        values[place] = {
            name: {seed: entry["co_activation"][name][place] for seed, entry in found.items()}
            for name in ("overlap", "correlation")
        }
        values[place]["cleared"] = {
            seed: entry["mask"]["sparsity_per_block"][f"block_{place}"]
            for seed, entry in found.items()
        }
    columns = ("overlap", "correlation", "cleared")
    return Filled(experiment, columns, values, columns)


def _means(cells):
    """The mean of several cells, seed by seed: dict of a seed to float."""
    if not cells:
        return {}
    seeds = set(cells[0]).intersection(*cells[1:])
    return {seed: mean(cell[seed] for cell in cells) for seed in sorted(seeds)}
