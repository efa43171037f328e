"""Kills runs at random moments, resumes them, and compares them with runs that were never stopped.

    python -m benchmarks.crashes [--kills=70] [--seed=0] [--jobs=pretrain,sweep]

Four tiny jobs take turns: `pretrain` with the teachers that it trains, `finetune` with two seeds, a
sweep, and `pipelines.text_examples`. Each is killed by SIGKILL or stopped by SIGTERM at random
moments, several times in a row, and then runs to its end. Checkpoints are written slowly, so that
many kills hit a write. It compares, to the bit, all checkpoints, metrics and predictions, all data
files, and the points that TensorBoard shows. It ends with status 1 if anything differs.
"""

import argparse
import collections
import pathlib
import random
import signal
import sys
import tempfile
import time

from tests.forked import Forked

ENDS = {0: "finished", -signal.SIGKILL: "killed", 75: "stopped", -signal.SIGTERM: "ended"}
MOST_IN_A_ROW = 5


def command(module, argv):
    """Runs a command of the project, which writes checkpoints slowly, in a process of its own."""
    import importlib

    from keras_vitbert.runs import checkpoints
    from pipelines import command_line

    write = checkpoints.write_atomically

    def slow(path, content):
        time.sleep(0.3)
        write(path, content)
        time.sleep(0.3)

    checkpoints.write_atomically = slow
    return command_line.run(importlib.import_module(module).main, argv)


def jobs(work):
    """Dict of a name to a function from an output folder to (module, arguments).

    The jobs run on tiny data in `work`.
    """
    from pipelines.text.wordpiece import SPECIAL_TOKENS
    from tests.keras_vitbert import tiny_runs, tiny_tasks

    sources, texts, images = (work / name for name in ("sources", "texts", "images"))
    sources.mkdir()
    tiny_runs.write_sources(sources)
    tiny_tasks.write_texts(texts)
    tiny_tasks.write_images(images)
    checkpoint = work / "joint"
    assert tiny_runs.pretrain(sources, checkpoint, "--variant=joint") == 0
    documents = work / "documents.jsonl"
    words = " ".join(f"word{n}" for n in range(31))
    line = f'{{"title": "t", "paragraphs": ["{words}.", "{words}."]}}\n'
    documents.write_text(line * 400)
    vocabulary = work / "vocabulary.txt"
    vocabulary.write_text("\n".join([*SPECIAL_TOKENS, *words.split(), "."]) + "\n")
    start = f"--checkpoint={checkpoint}"
    return {
        "pretrain": lambda folder: (
            "keras_vitbert.pretrain",
            tiny_runs.arguments(sources, f"--output_dir={folder}", "--variant=vitbert"),
        ),
        "finetune": lambda folder: (
            "keras_vitbert.finetune",
            [start, "--task=texts", f"--data_dir={texts}", *tiny_tasks.TEXT_FLAGS]
            + ["--seeds=2", "--config.checkpoint_interval=2", f"--output_dir={folder}"],
        ),
        "sweep": lambda folder: (
            "keras_vitbert.finetune",
            [start, "--task=images", f"--data_dir={images}", *tiny_tasks.IMAGE_FLAGS]
            + ["--sweep", f"--config.grid={tiny_tasks.RATES}", "--config.checkpoint_interval=2"]
            + [f"--output_dir={folder}"],
        ),
        "text_examples": lambda folder: (
            "pipelines.text_examples",
            [f"--documents={documents}", f"--vocabulary={vocabulary}", f"--output={folder}/x"]
            + ["--shards=4", "--max_length=32", "--max_predictions=5", "--unit_megabytes=0.02"]
            + ["--", "--direct_num_workers=1"],
        ),
    }


def content(folder):
    """What must be equal in a finished job: dict of a name to bytes, rows or points."""
    from tests.keras_vitbert.tiny_runs import checkpoint_values, metrics_rows
    from tests.keras_vitbert.whole_runs import shown_points

    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.name == "LAST":
            run = file.parents[1]
            values = checkpoint_values(run)
            found |= {f"{name}: {key}": value.tobytes() for key, value in values.items()}
            found[f"{name}: points"] = {
                tag: steps for tag, steps in shown_points(run).items() if steps
            }
        elif file.name == "metrics.csv":
            found[name] = metrics_rows(file.parent)
        elif file.name == "predictions.csv" or file.parent == folder and file.name[0] == "x":
            found[name] = file.read_bytes()
    return found


def main(argv=None):
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=70, help="how many at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", default="", help="which take turns (default: all)")
    arguments = parser.parse_args(argv)
    draw = random.Random(arguments.seed)
    counts, differences = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        known = {}
        for name, job in jobs(work).items():
            if name not in (arguments.jobs or name).split(","):
                continue
            folder = work / f"{name}-unbroken"
            began = time.monotonic()
            status, errors = Forked(command, *job(folder)).end(600)
            assert status == 0, errors
            known[name] = job, content(folder), time.monotonic() - began
            print(f"{name}: {known[name][2]:.1f} s, {len(known[name][1])} parts", flush=True)
        rounds = 0
        while sum(counts.values()) < arguments.kills:
            name = list(known)[rounds % len(known)]
            job, wanted, seconds = known[name]
            folder, ends = work / f"{name}-{rounds}", []
            for _ in range(draw.randint(1, MOST_IN_A_ROW)):
                process = Forked(command, *job(folder))
                time.sleep(draw.uniform(0, seconds))
                number = draw.choice((signal.SIGKILL, signal.SIGTERM))
                alive = process.send(number)
                status, errors = process.end(600)
                if status == 0:  # before the signal, or in the last step
                    break
                assert alive and status in ENDS, (status, errors)
                ends.append(ENDS[status])
                counts[name, ENDS[status]] += 1
            status, errors = Forked(command, *job(folder)).end(600)
            found = content(folder)
            differing = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
            same = status == 0 and not differing
            differences += not same
            outcome = "equal" if same else f"DIFFERS: status {status}, {differing[:5]}, {errors}"
            print(f"{name}: {', '.join(ends) or 'finished'}: {outcome}", flush=True)
            rounds += 1
    for (name, end), count in sorted(counts.items()):
        print(f"{name:<14}{end:<10}{count:>4}")
    print(f"{sum(counts.values())} kills in {rounds} runs, {differences} of which differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
