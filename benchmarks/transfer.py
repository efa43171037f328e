"""Does pre-training help? `vitbert` against `rand`, fine-tuned alike on CIFAR-10, SST-2 and RTE.

    python -m benchmarks.transfer --cifar10=DIR --glue=DIR --books=DIR --work=DIR \\
        --report=docs/transfer.md

`--cifar10` holds `train/CLASS/*.jpg` with 5,000 images a class (CIFAR-10's training images; its
test images are not used), `--glue` the folders `RTE` and `SST-2` with GLUE's TSV files, `--books`
plain-text novels. It runs the project's own commands in `--work`, prints each, and writes the
report from their results. Run again, it goes on where it stopped. Some two hours on two CPU cores.

Of each class of CIFAR-10 the first 2,400 images are for pre-training and 100 for its validation;
fine-tuning trains on the next 2,000 and is measured on the last 500, which no model has seen.
"""

import json
import os
import pathlib
import shlex
import subprocess
import sys

from absl import app, flags

from pipelines import package_data, sample

FLAGS = flags.FLAGS
flags.DEFINE_string("cifar10", None, "Folder that holds train/CLASS/*.jpg.", required=True)
flags.DEFINE_string("glue", None, "Folder that holds RTE and SST-2.", required=True)
flags.DEFINE_string("books", None, "Folder of novels, *.txt.", required=True)
flags.DEFINE_string("work", None, "Folder for all outputs.", required=True)
flags.DEFINE_string("report", "", "The Markdown file to write; none if empty.")
flags.DEFINE_list("tasks", ["sst2", "rte", "cifar10"], "What to fine-tune on.")
flags.DEFINE_list("inits", ["vitbert", "rand"], "What to start from: vitbert, rand, bert, vit.")

PARTS = {  # of each class of CIFAR-10: the images from, to
    "pretrain/train": (0, 2400),
    "pretrain/validation": (2400, 2500),
    "finetune/train": (2500, 4500),
    "finetune/validation": (4500, 5000),
}
PRETRAINING = (
    "--config=paper:sample",
    "--variant=vitbert",
    "--config.dtype=mixed_bfloat16",
    "--config.model.num_layers=4",
    "--config.model.image_size=32",
    "--config.model.patch_size=4",
    "--config.model.dropout=0.0",
    "--config.data.images.crop_area=(0.5,1.0)",
    "--config.data.images.central_crop=1.0",
    "--config.image_batch=128",
    "--config.text_batch=32",
    "--config.steps=2000",
    "--config.steps_per_epoch=100",
    "--config.validation_interval=500",
    "--config.checkpoint_interval=500",
    "--config.checkpoints_to_keep=1",
    "--config.optimizer.learning_rate=1e-3",
    "--config.optimizer.warmup_steps=100",
    "--config.teachers.image_steps=1500",
    "--config.teachers.text_steps=2000",
    "--config.merge.mask_update_interval=200",
)
TEXT = ("--config.grid=(1e-4,3e-4,1e-3)", "--config.dropout=0.1")
RECIPES = {
    "cifar10": (
        "--config.image_size=32",
        "--config.batch=128",
        "--config.steps=400",
        "--config.grid=(0.01,0.03,0.1)",
        "--config.images.crop_area=(0.5,1.0)",
        "--config.dropout=0.0",
    ),
    "sst2": TEXT,
    "rte": TEXT,
}
SEEDS = 3


def main(_):
    work = pathlib.Path(FLAGS.work)
    commands = prepare(work)
    commands.append(pretrain(work))
    summaries = {}
    for task in FLAGS.tasks:
        for init in FLAGS.inits:
            commands.append(finetune(work, task, init))
            summaries[task, init] = read(work / "finetuned" / f"{task}-{init}" / "summary.json")
    text = report(work, commands, summaries)
    print(text)
    if FLAGS.report:
        os.makedirs(os.path.dirname(FLAGS.report) or ".", exist_ok=True)
        pathlib.Path(FLAGS.report).write_text(text)


def prepare(work):
    """Splits CIFAR-10, and makes the data of pre-training; returns the commands."""
    for folder in sorted(pathlib.Path(FLAGS.cifar10, "train").iterdir()):
        images = sorted(folder.iterdir())
        for part, (begin, end) in PARTS.items():
            target = work / "cifar" / part / folder.name
            target.mkdir(parents=True, exist_ok=True)
            for image in images[begin:end]:
                if not (target / image.name).exists():
                    os.link(image, target / image.name)
    dump = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
    documents, words = work / "documents", work / "vocab.txt"
    images = [f"--folder={work / 'cifar/pretrain'}", f"--output={work / 'images'}"]
    books = [f"--folder={FLAGS.books}", f"--output={documents / 'books'}", "--shards=6"]
    wiki = [f"--dump={dump}", f"--output={documents / 'wiki'}", "--shards=5"]
    commands = [
        run("pipelines.imagenet", *images, "--train_shards=8", "--validation_shards=1"),
        run("pipelines.books", *books),
        run("pipelines.wikipedia", *wiki),
    ]
    vocabulary = [f"--documents={documents}/*-of-*", f"--output={words}", "--size=8000"]
    commands.append(run("pipelines.vocabulary", *vocabulary, skip=words.exists()))
    for name, pattern, duplication in (("train", "*[1-9]-of-*", 4), ("validation", "*0-of-*", 1)):
        commands.append(
            run(
                "pipelines.text_examples",
                f"--documents={documents}/{pattern}",
                f"--vocabulary={words}",
                f"--output={work / 'text' / name}",
                "--shards=1",
                f"--duplication={duplication}",
                "--max_length=128",
            )
        )
    return commands


def pretrain(work):
    data = [
        f"--config.data.{kind}.{split}={work / folder / split}-*"
        for kind, folder in (("images", "images"), ("text", "text"))
        for split in ("train", "validation")
    ]
    data.append(f"--config.data.vocabulary={work / 'vocab.txt'}")
    output = f"--output_dir={work / 'run-vitbert'}"
    return run("keras_vitbert.pretrain", output, *PRETRAINING, *data)


def finetune(work, task, init):
    pretrained = work / "run-vitbert"
    begin = {
        "vitbert": [f"--checkpoint={pretrained}"],
        "vit": [f"--checkpoint={pretrained / 'teachers/vit'}"],
        "bert": [f"--checkpoint={pretrained / 'teachers/bert'}"],
        "rand": ["--checkpoint=rand", f"--architecture={pretrained}"],
    }[init]
    data = {
        "cifar10": work / "cifar" / "finetune",
        "sst2": pathlib.Path(FLAGS.glue, "SST-2"),
        "rte": pathlib.Path(FLAGS.glue, "RTE"),
    }[task]
    output = work / "finetuned" / f"{task}-{init}"
    return run(
        "keras_vitbert.finetune",
        *begin,
        f"--task={task}",
        f"--data_dir={data}",
        f"--output_dir={output}",
        "--sweep",
        f"--seeds={SEEDS}",
        f"--predictions={output}.csv",
        "--config.dtype=mixed_bfloat16",
        *RECIPES[task],
    )


def run(module, *arguments, skip=False):
    """Runs a command of the project, unless it is done; returns it as typed in a shell."""
    shown = shlex.join(["python", "-m", module, *arguments])
    print(f"+ {shown}", flush=True)
    if not skip:
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)
    return shown


def read(path):
    return json.loads(path.read_text())


def report(work, commands, summaries):
    """The page, from the results of the commands."""
    made = read(work / "run-vitbert" / "summary.json")
    folders = {name: work / "run-vitbert" / "teachers" / name for name in ("vit", "bert")}
    teachers = {name: read(folder / "summary.json") for name, folder in folders.items()}
    minutes = {"vitbert": made["seconds"], **{n: t["seconds"] for n, t in teachers.items()}}
    lines = [
        "# Does pre-training help?",
        "",
        "Written by `python -m benchmarks.transfer`; no number here was typed by hand. Its help",
        "describes the examples; the commands that it ran are at the end.",
        "",
        f"`vitbert` is a small model ({made['parameters']:,} parameters with its heads), trained",
        "briefly on two CPU cores. `rand` is the same architecture with random weights.",
        "Both are fine-tuned alike: the learning rate of each is picked on a tenth of the training",
        f"examples, then {SEEDS} runs with different seeds train on all of them.",
        "",
        "| task | from | learning rate | steps | median | minimum | maximum | commonest class |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (task, init), summary in summaries.items():
        majority = summary["splits"][summary["split"]]["majority_accuracy"]
        values = (summary[name] for name in ("value", "minimum", "maximum"))
        lines.append(
            f"| {task} | {init} | {summary['learning_rate']:g} | {summary['steps']} | "
            + " | ".join(f"{value:.4f}" for value in values)
            + f" | {majority:.4f} |"
        )
    lines += ["", "Accuracy on the split that is reported:", ""]
    for task in dict.fromkeys(task for task, _ in summaries):
        runs = [summary for (t, _), summary in summaries.items() if t == task]
        examples = runs[0]["splits"][runs[0]["split"]]["examples"]
        lines.append(
            f"- {task}: {examples:,} examples of `{runs[0]['split']}`, "
            f"{runs[0]['training_examples']:,} to train on; {difference(*runs[:2])}"
        )
    lines += [
        "",
        "The accuracy of each learning rate on the examples that it was picked on:",
        "",
        "| task | from | accuracy by rate |",
        "| --- | --- | --- |",
    ]
    for (task, init), summary in summaries.items():
        rates = ", ".join(
            f"{rate}: " + ("diverged" if value is None else f"{value:.4f}")
            for rate, value in summary["sweep"].items()
        )
        lines.append(f"| {task} | {init} | {rates} |")
    lines += ["", "## The pre-training", "", "| run | steps | minutes | validation |"]
    lines.append("| --- | ---: | ---: | --- |")
    for name, summary in {"vitbert": made, **teachers}.items():
        validation = ", ".join(f"{k} {v:.4f}" for k, v in summary["validation"].items())
        lines.append(f"| {name} | {summary['steps']} | {minutes[name] / 60:.0f} | {validation} |")
    base = ", ".join(f"{k} {v:.4f}" for k, v in made["baselines"].items())
    lines += [
        "",
        f"Baselines: {base}. The minutes of `vitbert` include those of its teachers; other work",
        "may have run on the machine.",
        "",
        "## The commands",
        "",
        "`WORK`, `CIFAR10`, `GLUE` and `BOOKS` are the folders that the benchmark was given.",
        "",
        "```sh",
    ]
    folders = {
        "WORK": FLAGS.work,
        "CIFAR10": FLAGS.cifar10,
        "GLUE": FLAGS.glue,
        "BOOKS": FLAGS.books,
    }
    for command in commands:
        for name, folder in folders.items():
            command = command.replace(folder.rstrip("/"), name)
        command = command.replace(package_data.find_package_file(*sample.WIKIPEDIA_FILE), "DUMP")
        for begin in ("--", "'--"):
            command = command.replace(f" {begin}", f" \\\n    {begin}")
        lines.append(command)
    lines.append("```")
    return "\n".join(lines) + "\n"


def difference(one, other=None):
    """The difference of two medians, and whether the seeds' ranges overlap."""
    if other is None:
        return "nothing to compare with"
    apart = one["value"] - other["value"]
    overlap = one["minimum"] <= other["maximum"] and other["minimum"] <= one["maximum"]
    spread = "overlap: the seeds alone may explain it" if overlap else "do not overlap"
    return f"medians {apart:+.4f} apart, and the ranges {spread}"


if __name__ == "__main__":
    app.run(main)
