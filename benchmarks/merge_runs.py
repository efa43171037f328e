"""The sample run with each merge: a table of the results.

    python -m benchmarks.merge_runs --output=DIR [--runs=sum,mask,nash] [--seeds=0,1,2]
                                    [--at_once=1]

Each run is the README's, with `--config.merge.name` and, for those with options, the flags in
`RUNS`. All have the same data and the same teachers, which the first run trains. It prints a
Markdown table with the mean and the range over the seeds. Started again, it resumes where it
stopped. A run takes some two minutes on two CPU cores, without the pictures for TensorBoard, which
do not change any result.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from keras_vitbert.configs.merges import ENTRIES, WEIGHTINGS
from pipelines.prepare import sample

# Merges that are more than a name.
RUNS = {
    "mask by image": ["name=mask", "mask_rank=image"],
    "mask by ratio": ["name=mask", "mask_rank=ratio"],
    "mask by sign": ["name=mask", "mask_rank=sign"],
    "mask per tensor": ["name=mask", "mask_scope=tensor"],
    "mask drawn again": ["name=mask", "mask_cumulative=False"],
    "soft mask": ["name=mask", "mask_softness=0.2"],
    "mask+pcgrad": ["name=mask+pcgrad"],
    "mask+nash": ["name=mask+nash"],
    "pcgrad per block": ["name=pcgrad", "per_block=True"],
    "nash per block": ["name=nash", "per_block=True"],
    "cagrad per block": ["name=cagrad", "per_block=True"],
    "sum at r 0.5": ["name=sum", "image_loss_ratio=0.5"],
}
_NO_PICTURES = (
    "--config.inspection.activation_interval=0",
    "--config.inspection.gradient_interval=0",
    "--noconfig.inspection.mask_pictures",
)
METRICS = ("image_accuracy", "mlm_loss", "mlm_accuracy", "nsp_accuracy")


def main():
    """Runs what is missing, then prints the table."""
    names = {name: [f"name={name}"] for name in (*WEIGHTINGS, *ENTRIES)} | RUNS
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--runs", default=",".join(names), help="names, see RUNS")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--at_once", type=int, default=1, help="how many runs at once")
    values = parser.parse_args()
    wanted = values.runs.split(",")
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"no such run: {unknown[0]}; the runs are {', '.join(names)}")
    seeds = [int(seed) for seed in values.seeds.split(",")]

    def run(name, seed, *flags):
        folder = values.output / f"{name.replace(' ', '_')}-{seed}"
        if not (folder / "summary.json").exists():
            argv = [f"--config.merge.{option}" for option in names[name]]
            argv += [f"--config.seed={seed}", f"--output_dir={folder}", *_NO_PICTURES, *flags]
            command = [sys.executable, "-m", "keras_vitbert.pretrain", *argv]
            with open(f"{folder}.log", "w") as log:
                subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
        return json.loads((folder / "summary.json").read_text())

    values.output.mkdir(parents=True, exist_ok=True)
    run("sum", 0)
    teachers = values.output / "sum-0" / "teachers"
    shared = [f"--image_teacher={teachers / 'vit'}", f"--text_teacher={teachers / 'bert'}"]
    shared += _sample_as_files()
    jobs = [(name, seed) for seed in seeds for name in wanted]
    with ThreadPoolExecutor(values.at_once) as pool:
        found = list(pool.map(lambda job: run(*job, *shared), jobs))
    results = {}
    for (name, _), summary in zip(jobs, found, strict=True):
        results.setdefault(name, []).append(summary["validation"])
    print("| merge | " + " | ".join(METRICS) + " |\n| --- |" + " ---: |" * len(METRICS))
    for name, runs in results.items():
        cells = [_cell([metrics[key] for metrics in runs]) for key in METRICS]
        print(f"| {name} | " + " | ".join(cells) + " |")


def _sample_as_files():
    """Flags: with `data.source=sample`, another seed gives other splits and another vocabulary."""
    prepared = sample.prepare()
    values = {
        "source": "files",
        "images.train": prepared.image_train,
        "images.validation": prepared.image_validation,
        "text.train": prepared.text_train,
        "text.validation": prepared.text_validation,
        "vocabulary": prepared.vocabulary,
    }
    return [f"--config.data.{name}={value}" for name, value in values.items()]


def _cell(values):
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"


if __name__ == "__main__":
    main()
