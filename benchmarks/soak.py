"""Watches the memory, open files and disk of a long run.

    python -m benchmarks.soak [--minutes=45] [--output=soak.csv]

A process trains `vitbert` on the sample with everything that TensorBoard can show, at short
intervals, and saves a checkpoint a minute; then SIGTERM stops it. Its first minute finds out how
many steps that is; the run is then resumed. Every ten seconds a row of the CSV records what the
process holds. Slopes are Theil-Sen estimates (medians of the slopes of all pairs of rows), over the
whole run and over its second half, when all caches are warm. What counts is anonymous memory, which
is what the process has asked for. The rest is pages of files, which the system lends and takes
back. It ends with status 1 if anonymous memory grows faster than --bound in the second half, or if
open files or threads grow at all.
"""

import argparse
import csv
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

FLAGS = [
    *("--config=sample", "--variant=vitbert", "--config.steps=1000000"),
    *("--config.image_batch=16", "--config.text_batch=8"),
    *("--config.steps_per_epoch=5", "--config.validation_interval=100"),
    *("--config.teachers.image_steps=60", "--config.teachers.text_steps=60"),
    *("--config.merge.mask_ratio_per_update=0.005", "--config.merge.mask_update_interval=50"),
    *("--config.inspection.activation_interval=10", "--config.inspection.gradient_interval=5"),
    "--config.inspection.gradient_histograms=true",
]
EVERY = 10  # seconds between two rows
COLUMNS = ("resident_mb", "proportional_mb", "anonymous_mb", "files", "threads", "disk_mb")


class Training:
    """The command in a process of its own.

    Args:
        folder: path of the run.
        *flags: str, more of the command's flags.
    """

    def __init__(self, folder, *flags):
        self.folder = folder
        self._log = open(f"{folder}.log", "ab")
        command = [sys.executable, "-m", "keras_vitbert.pretrain", f"--output_dir={folder}"]
        self.process = subprocess.Popen(
            [*command, *FLAGS, *flags], stdout=self._log, stderr=subprocess.STDOUT
        )

    def rows(self):
        """The rows of `metrics.csv` so far."""
        file = self.folder / "metrics.csv"
        return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []

    def wait_for(self, rows):
        """Waits for a number of rows; returns the step of the last one."""
        while len(self.rows()) < rows:
            self.require_running()
            time.sleep(0.2)
        return int(self.rows()[-1]["step"])

    def require_running(self):
        """Ends the benchmark if the run has ended."""
        if self.process.poll() is not None:
            log = pathlib.Path(f"{self.folder}.log").read_text()
            sys.exit(f"the run ended with status {self.process.returncode}\n{log[-2000:]}")

    def stop(self):
        """Stops it as a user would."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(300) != 75:
            self.require_running()
        self._log.close()

    def holds(self):
        """What it holds now: dict of `COLUMNS` to numbers, memory and disk in MB."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        found = re.findall(r"^(\w+): +(\d+) kB", (proc / "smaps_rollup").read_text(), re.MULTILINE)
        mb = {name: int(kilobytes) / 1024 for name, kilobytes in found}
        disk = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                try:
                    disk += os.stat(os.path.join(folder, name)).st_size
                except FileNotFoundError:  # replaced or removed meanwhile
                    continue
        return {
            "resident_mb": mb["Rss"],
            "proportional_mb": mb["Pss"],
            "anonymous_mb": mb["Anonymous"],
            "files": len(os.listdir(proc / "fd")),
            "threads": len(os.listdir(proc / "task")),
            "disk_mb": disk / 2**20,
        }


def slope(hours, values):
    """The Theil-Sen estimate: the median slope of all pairs of points.

    Args:
        hours, values: `(rows,)`.
    """
    first, second = np.triu_indices(len(hours), 1)
    return float(np.median((values[second] - values[first]) / (hours[second] - hours[first])))


def grows(values):
    """Whether the minimum of the last third is above that of the third before.

    The minimum, because files are open for a moment while they are written.

    Args:
        values: `(rows,)`.
    """
    third = len(values) // 3
    return bool(values[-third:].min() > values[third:-third].min())


def watch(training, minutes, output):
    """Writes a row every ten seconds.

    Args:
        training: `Training`.
        minutes: float.
        output: path of the CSV.

    Returns:
        (`(rows,)` hours, dict of a column to `(rows,)`, number of checkpoints seen).
    """
    rows, checkpoints, began = [], set(), time.monotonic()
    with open(output, "w", newline="") as file:
        writer = csv.DictWriter(file, ("seconds", "step", *COLUMNS))
        writer.writeheader()
        while time.monotonic() - began < 60 * minutes:
            training.require_running()
            logged = training.rows()
            row = {"seconds": time.monotonic() - began, "step": logged[-1]["step"]}
            row |= training.holds()
            writer.writerow({name: round(float(value), 2) for name, value in row.items()})
            file.flush()
            rows.append(row)
            checkpoints.add((training.folder / "checkpoints" / "LAST").read_text())
            time.sleep(EVERY)
    table = {name: np.array([row[name] for row in rows], float) for name in COLUMNS}
    return np.array([row["seconds"] for row in rows]) / 3600, table, len(checkpoints)


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--bound", type=float, default=30, help="MB/hour of anonymous memory")
    parser.add_argument("--output", default="soak.csv", help="the CSV")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work) / "run"
        training = Training(folder, "--config.checkpoint_interval=1000000")
        before, began = training.wait_for(2), time.monotonic()
        time.sleep(60)
        steps = int(training.rows()[-1]["step"]) - before
        a_minute = max(1, round(steps * 60 / (time.monotonic() - began)))
        training.stop()
        first = len(training.rows())
        training = Training(folder, f"--config.checkpoint_interval={a_minute}")
        training.wait_for(first + 1)
        hours, table, checkpoints = watch(training, arguments.minutes, arguments.output)
        rows = training.rows()
        training.stop()
        pictures = len(list((folder / "inspection").iterdir()))
    print(
        f"{60 * hours[-1]:.1f} minutes, {int(rows[-1]['step']):,} steps, {len(rows):,} epochs, "
        f"{checkpoints} checkpoints, {pictures} rounds of pictures"
    )
    half = len(hours) // 2
    heads = ("first", "half way", "last", "an hour", "second half")
    print(" " * 16 + "".join(f"{head:>12}" for head in heads))
    for name, values in table.items():
        numbers = [values[0], values[half], values[-1], slope(hours, values)]
        numbers.append(slope(hours[half:], values[half:]))
        print(f"{name:<16}" + "".join(f"{number:>12.1f}" for number in numbers))
    bad = [name for name in ("files", "threads") if grows(table[name])]
    if slope(hours[half:], table["anonymous_mb"][half:]) > arguments.bound:
        bad.append(f"anonymous memory, by more than {arguments.bound:g} MB an hour")
    print(f"GROWS: {', '.join(bad)}" if bad else "nothing grows")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
