"""One run of a reproduction: `python -m keras_vitbert.extras.reproduction.one_run JSON`.

The JSON has what `running` gives it, as `results.json` records it.
"""

import json
import os
import sys
from typing import Any

from pipelines.command_line import quiet_loading, run
from pipelines.files import make_folder, write_atomically


def main(argv: list[str]) -> None:
    """Pre-trains, fine-tunes, probes, or draws a figure."""
    asked = json.loads(argv[0])
    kind, folder, inputs = asked["kind"], asked["folder"], asked["inputs"]
    with quiet_loading():
        from keras_vitbert.experiments.experiment import experiment, open_run, probe_task
        from keras_vitbert.extras.paper_figures.runs import open_runs
        from keras_vitbert.extras.paper_figures.writing import draw_figures

    if kind == "figures":
        runs = open_runs(inputs["runs"], images=inputs["images"])
        draw_figures(runs, folder, [inputs["number"]], ["png", "svg"])
        return
    config: Any = experiment(asked["experiment"], **asked["values"])
    if kind == "probe":
        make_folder(folder)
        summary = probe_task(config, (5, 25, 0), draws=3, tpu=asked["tpu"], **inputs)
        write_atomically(os.path.join(folder, "summary.json"), json.dumps(summary, indent=1) + "\n")
    else:
        a_run: Any = open_run(config, folder, tpu=asked["tpu"], **inputs)
        a_run.train()


if __name__ == "__main__":
    sys.exit(run(main))
