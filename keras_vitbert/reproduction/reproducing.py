"""Puts a reproduction together: from names of tables to runs, results and their page."""

import os
from typing import Any

from keras_vitbert.reproduction import pictures, report
from keras_vitbert.reproduction.plan import Plan, Run
from keras_vitbert.reproduction.prepared import prepared
from keras_vitbert.reproduction.results import Results
from keras_vitbert.reproduction.running import missing, run_missing
from keras_vitbert.reproduction.scales import get_scale
from keras_vitbert.reproduction.tables import tables
from keras_vitbert.runs.run_lock import held
from pipelines.files import make_folder, write_atomically
from pipelines.status import say


class Reproduction:
    """The tables and figures that are asked for at a scale.

    Args:
        scale: see `get_scale`.
        asked: names of `tables`, and `figure3` to `figure6`.
        output: the folder of all runs, absolute.
        results: the file `results.json`.
        seeds: for every row; 0 for those of the scale.
        values: of the config of every pre-training.
        sources: where data are, see `get_scale`.
        originals: checkpoints of other projects, see `tables`.
        tpus: of a kind of run its TPU.

    Attributes:
        runs: by name, each after all that it needs.

    Raises:
        ValueError: the results are those of other settings.
    """

    def __init__(
        self,
        scale: str,
        asked: list[str],
        output: str,
        results: str,
        *,
        seeds: int = 0,
        values: dict[str, Any],
        sources: dict[str, str],
        originals: dict[str, str],
        tpus: dict[str, str | None],
    ):
        self.scale = get_scale(scale, os.path.join(output, "data"), values, **sources)
        self.results = Results(results, scale)
        self._output, self._asked, self._tpus = output, asked, tpus
        self._tables = tables(originals)
        self._plan = Plan(self.scale, output, seeds)
        for name in asked:
            if name in self._tables:
                self._plan.add_table(self._tables[name])
            else:
                self._plan.add_figure(name.removeprefix("figure"))
        self.runs: dict[str, Run] = self._plan.runs
        settings = {name: run.settings(output) for name, run in self.runs.items()}
        self.results.require({}, settings)

    def missing(self) -> set[str]:
        """The names of the runs that are still to be run."""
        return {run.name for run in missing(self.runs, self.results, self._output)}

    def run(self, parallel: int = 1) -> None:
        """Prepares the data, runs what is missing, and writes the page of all results.

        Args:
            parallel: how many run at a time.

        Raises:
            ValueError, Stopped: see `run_missing`.
        """
        make_folder(os.path.dirname(self.results.path) or ".")
        try:
            if self.missing():
                make_folder(self._output)
                with held(self._output):
                    self._run(parallel)
        finally:  # if it is stopped, with what is done so far
            if self.results.units:
                self._write_page()

    def _run(self, parallel):
        if self.scale.build:
            digests = prepared(os.path.join(self._output, "data"), self.scale.build)
            self.results.require(digests, {})
        run_missing(self.runs, self.results, self._output, self._tpus, parallel)

    def filled(self) -> list[report.Filled]:
        """What was asked for, and all else that has results."""
        units, seeds = self.results.units, self._plan.seeds
        found = [
            report.fill(table, units, self.scale.tasks_of(table), seeds(table.name))
            for table in self._tables.values()
        ]
        found = [one for one in found if one.table.name in self._asked or one.is_begun]
        most = max((seeds(table) for table in self._tables), key=len)
        return [*found, *filter(None, [report.fill_depth(units, most)])]

    def _write_page(self):
        filled, stem = self.filled(), os.path.splitext(self.results.path)[0]
        write_atomically(f"{stem}.md", report.page(filled, self.results))
        for one in filter(lambda one: one.is_begun, filled):
            pictures.draw(one, f"{stem}-{one.table.name}")
        say(f"{stem}.md and its pictures are written")
