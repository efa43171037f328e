"""Puts a reproduction together: from names of tables to units, results and pages."""

import os
import random
from statistics import mean

from keras_vitbert.inspection.probes import RIDGE
from keras_vitbert.reproduction import cells
from keras_vitbert.reproduction.experiments import FULL, JOINT, experiments
from keras_vitbert.reproduction.plan import Planner
from keras_vitbert.reproduction.results import DONE, Results, differences
from keras_vitbert.reproduction.running import missing, run_missing
from keras_vitbert.reproduction.units import DATA, ordered
from pipelines.files import make_folder
from pipelines.status import duration

_REPEATED = "repeated"
_PRETRAIN, _PROBE = "keras_vitbert.pretrain", "keras_vitbert.probe"


class Reproduction:
    """The tables and figures that are asked for at a scale.

    Args:
        scale: `keras_vitbert.reproduction.scales.Scale`.
        names: list of str, of `experiments`, and `figure3` to `figure6`.
        seeds: int, for every row; 0 for those of the scale.
        output: str, the folder of all units.
        path: str, of `results.json`.
        given: dict of `bert` and `vit` to checkpoints of other projects.
        others: dict of a module to a tuple of str, further arguments of its units.

    Attributes:
        experiments: list of `Experiment`.
        units: list of `Unit`, each after all that it needs.
        results: `Results`.

    Raises:
        ValueError: the results cannot be used.
    """

    def __init__(self, scale, names, seeds, output, path, given, others):
        self.scale, self.output = scale, output
        self._all = experiments(given)
        self.experiments = [self._all[name] for name in names if name in self._all]
        self.results = Results(path, scale.name, output)
        self._seeds = seeds
        self._planner = Planner(scale, others)
        wanted = []
        for experiment in self.experiments:
            for seed in self.seeds(experiment):
                for row in experiment.rows:
                    wanted += self._units_of(experiment, row.recipe, seed)
        wanted += [self._drawn(name) for name in names if name not in self._all]
        self.units = ordered(self._planner.units, wanted)
        self.results.collect(self.units)

    def _drawn(self, name):
        """The name of the unit that draws a figure of the first seed's runs: str."""
        number = name.removeprefix("figure")
        if number != "6":
            return self._planner.figure(number, FULL, 0)
        seeds = self.seeds(self._all["table1"])
        return self._planner.examples((FULL, JOINT), 0, seeds)

    def seeds(self, experiment):
        """The seeds of an experiment: range."""
        return range(self._seeds or self.scale.seeds[experiment.name])

    def tasks(self, experiment):
        """What the rows of an experiment are fine-tuned on: list of `Task`."""
        if experiment.tasks == "all":
            return list(self.scale.tasks)
        return [
            task for task in self.scale.tasks if experiment.tasks and task.name in self.scale.few
        ]

    def _units_of(self, experiment, recipe, seed):
        if not experiment.tasks:
            return [self._planner.pretraining(recipe, seed)]
        seeds, names = self.seeds(experiment), []
        for task in self.tasks(experiment):
            names.append(self._planner.probing(recipe, task, seed))
            names.append(self._planner.fine_tuning(recipe, task, seed, seeds))
        return names

    def missing(self):
        """The units that are still to be run: list of `Unit`."""
        return missing(self.units, self.results)

    def needed(self):
        """The time and space that the missing units need, by kind: list of str, one line each."""
        by_kind = {}
        for unit in self.missing():
            by_kind.setdefault(unit.name.partition("/")[0], []).append(unit)
        lines = []
        for kind, units in by_kind.items():
            parts = [f"{len(units)} missing", _long(self.seconds(units))]
            if on := self.scale.machines.get(kind):
                parts[-1] += f" on {on}"
            kept = sum(_of_longest(self.scale.gigabytes, unit.name) for unit in units)
            parts += [f"{kept:,.0f} GB"] * bool(kept)
            lines.append(f"{kind}: {', '.join(parts)}")
        return lines

    def seconds(self, units):
        """How long units take, judged by similar finished ones, else by the scale: float."""
        return sum(self._seconds(unit) for unit in units)

    def _seconds(self, unit):
        kind = unit.name.rpartition("-s")[0]
        sweeps = "--sweep" in unit.arguments
        for beginning in (kind, "/".join(kind.split("/")[:2]) + "/", kind.split("/")[0] + "/"):
            known = []
            for name, entry in self.results.units.items():
                if name.startswith(beginning) and "seconds" in entry:
                    # A sweep trains with each rate, and once more with the best one.
                    trainings = len(entry.get("sweep") or ()) + 1
                    if sweeps and trainings > 1:
                        known.append(entry["seconds"])
                    elif not sweeps:
                        known.append(entry["seconds"] / trainings)
            if known:
                return mean(known)
        return 60 * _of_longest(self.scale.minutes, unit.name)

    def run(self, values):
        """Runs what is missing.

        Args:
            values: the command's flags, for the data.

        Raises:
            ValueError, Stopped: see `running.run_missing`.
        """
        if self.missing():
            self._run(self.units, self.results, values)

    def _run(self, units, results, values):
        """Prepares the data, which must be the same for all results, and runs the missing units."""
        make_folder(results.output)
        data = os.path.join(self.output, DATA)
        digests = self.scale.prepare(values, data)
        for each in (self.results, results):
            each.require_data(digests)
        run_missing(units, results, data, numbers_of, self.seconds)
        results.collect(units)

    def repeat(self, count, values):
        """Runs finished units again, with all that they need, in a folder of their own.

        Args:
            count: int, how many; it also determines which ones, so that a stopped run resumes.
            values: the command's flags, for the data.

        Returns:
            (int, how many units have the same numbers; list of str, what differs).

        Raises:
            ValueError, Stopped: see `running.run_missing`; or fewer units are done.
        """
        done = [unit.name for unit in self.units if self._is_done(unit)]
        pool = [name for name in done if name.startswith("finetune/")] or done
        if len(pool) < count:
            raise ValueError(f"--repeat={count}: {len(pool)} are done; give at most that")
        chosen = random.Random(count).sample(sorted(pool), count)
        units = ordered(self._planner.units, chosen)
        output = os.path.join(self.output, _REPEATED)
        results = Results(os.path.join(output, "results.json"), self.scale.name, output)
        self._run(units, results, values)
        known = [unit.name for unit in units if self._is_done(unit)]
        differing = [
            f"{name}: {difference}"
            for name in known
            for difference in differences(self.results.units[name], results.units[name])
        ]
        return len(known) - len({line.partition(":")[0] for line in differing}), differing

    def _is_done(self, unit):
        entry = self.results.units.get(unit.name)
        return entry is not None and entry["outcome"] == DONE and unit.has_summary

    def filled(self):
        """What was asked for, and all else that has results: list of `cells.Filled`."""
        found = [self._filled(experiment) for experiment in self._all.values()]
        found = [one for one in found if one.experiment in self.experiments or one.is_begun]
        seeds = range(max(self._seeds, *self.scale.seeds.values()))
        names = {seed: self._planner.pretraining(FULL, seed) for seed in seeds}
        runs = {
            s: self.results.units[name] for s, name in names.items() if name in self.results.units
        }
        return [*found, *filter(None, [cells.of_blocks(runs)])]

    def _filled(self, experiment):
        seeds, planner = self.seeds(experiment), self._planner

        def pretrained(recipe, seed):
            return planner.pretraining(recipe, seed) if recipe.is_pretrained_here else None

        pretraining = cells.of_pretraining(experiment, self.results, pretrained, seeds)
        if not experiment.tasks:
            return pretraining

        def fine_tuned(recipe, task, seed):
            return planner.fine_tuning(recipe, task, seed, seeds)

        tasks = self.tasks(experiment)
        how = (fine_tuned, planner.probing, tasks, seeds)
        return cells.of_tasks(experiment, self.results, *how, pretraining)


def _of_longest(numbers, name):
    """The number of the longest key that a name begins with; 0 if there is none."""
    fits = [key for key in numbers if name.startswith(key)]
    return numbers[max(fits, key=len)] if fits else 0.0


def _long(seconds):
    """A duration, in days if it is more than two days."""
    days = seconds / 86_400
    return f"{days:,.1f} days" if days > 2 else duration(seconds)


def numbers_of(unit, summary):
    """The part of a unit's summary that is kept.

    Args:
        unit: `Unit`.
        summary: dict, the content of its `summary.json`.

    Returns:
        dict.
    """
    if unit.module == _PRETRAIN:
        names = ("steps", "seconds", "parameters", "validation", "baselines")
        names += ("mask", "co_activation")
        return {name: summary[name] for name in names if name in summary}
    if unit.module == _PROBE:
        first = next(iter(summary["splits"].values()))
        return {
            "value": mean(first["0"][RIDGE]),  # of all training examples
            "metric": "accuracy",
            **{name: summary[name] for name in ("splits", "examples", "training_examples")},
        }
    split = summary["splits"][summary["split"]]
    return {
        "value": summary["value"],
        "metric": summary["metric"],
        "learning_rate": summary["learning_rate"],
        "sweep": summary["sweep"],
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "examples": split["examples"],
        "majority": split["majority_accuracy"],
        "training_examples": summary["training_examples"],
    }
