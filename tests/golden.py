"""Compares what the commands compute and find with what they did when it was recorded.

    python -m tests.golden [--only=PART] [--write]

It prints each difference from golden.json by its dotted path, and exits with 1 if there is one.
`--write` records instead. Parts: sample, resumed, own_data and vitbert_small. Floats are
compared exactly, so records hold for one type of machine and the installed versions.
"""

import argparse
import concurrent.futures
import csv
import hashlib
import json
import os
import pathlib
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
RECORDS = ROOT / "tests" / "golden.json"
CHANGING = ("KERAS_BACKEND", "TF_CONFIG")  # variables of the environment that change a run
CLOCK = {"seconds", "images_per_second", "tokens_per_second", "time", "resumed_from_step"}
COLOURS = {"2": (200, 30, 30), "10": (30, 200, 30), "sky": (30, 30, 200)}
SMALL = "--checkpoint=vitbert_small"

# Forms of own data, by the flags that name them.
FORMS = {
    "class_folders": "--data_dir=flat",
    "split_folders": "--data_dir=split",
    "image_csv": "--train=pictures.csv --test=split/test",
    "image_parquet": "--train=pictures.parquet",
    "image_records": "--data_dir=records",
    "text_csv": "--data_dir=csv",
    "pairs_tsv": "--data_dir=pairs",
    "glue_tsv": "--data_dir=pairs --task=rte",
    "text_jsonl": "--train=texts.jsonl --validation=csv/test.csv",
}
STEPS = {"class_folders": 12, "image_parquet": 6, "text_csv": 6, "pairs_tsv": 6}  # of those trained


def start(folder, line):
    """Starts a command of this tree in a folder."""
    name, *flags = shlex.split(line)
    module = name if "." in name else f"keras_vitbert.{name}"
    environment = {key: value for key, value in os.environ.items() if key not in CHANGING}
    return subprocess.Popen(
        [sys.executable, "-m", module, *flags],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, line):
    """What a command prints that must succeed."""
    process = start(folder, line)
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{line}: status {process.returncode}\n{out}{err}")
    return out.replace(str(folder), "FOLDER")


def two_at_a_time(function, items):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(items, pool.map(function, items), strict=True))


def numbers(value):
    """The numbers of a JSON value that do not depend on the clock."""
    if isinstance(value, dict):
        kept = {key: numbers(each) for key, each in value.items() if key not in CLOCK}
        return {key: each for key, each in kept.items() if each not in ({}, [], None)}
    if isinstance(value, list):
        return [numbers(each) for each in value]
    return value if isinstance(value, int | float) else None


def digests(value):
    """All digests in a JSON value, in order."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = {value} if re.fullmatch("[0-9a-f]{32,}", str(value)) else set()
    return sorted(found.union(*map(digests, inner)))


def run_record(folder):
    """What the folder of a run holds of model and data."""
    classes = folder / "classes.txt"
    inputs = json.loads((folder / "config.json").read_text())["inputs"]
    return {
        "summary": numbers(json.loads((folder / "summary.json").read_text())),
        # A teacher's digest differs between equal runs; its weights are recorded instead.
        "inputs": {name: digests(inputs[name]) for name in inputs if "teacher" not in name},
        "classes": classes.read_text().splitlines() if classes.exists() else [],
    }


def weights(folder):
    """A digest of each section of a run's last checkpoint: its arrays, by name."""
    import tensorflow as tf

    checkpoints = folder / "checkpoints"
    path = checkpoints / (checkpoints / "LAST").read_text().strip() / "state"
    reader = tf.train.load_checkpoint(str(path))
    found = {}
    for name in sorted(reader.get_variable_to_shape_map()):
        if not name.startswith("_"):  # TensorFlow's own graph of objects
            array = reader.get_tensor(name)
            digest = found.setdefault(name.split("/")[0], hashlib.sha256())
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return {name: digest.hexdigest() for name, digest in found.items()}


def sample(folder):
    run(folder, "pretrain --output_dir=sample --cache_dir=cache")
    runs = {"vitbert": "sample", "vit": "sample/teachers/vit", "bert": "sample/teachers/bert"}
    return {
        name: {**run_record(folder / path), "weights": weights(folder / path)}
        for name, path in runs.items()
    }


def resumed(folder):
    """A run that is stopped after its first checkpoint, and one that is not."""
    command = (
        "pretrain --variant=vitbert_no_kd --cache_dir=cache --config.steps=20 "
        "--config.steps_per_epoch=5 --config.checkpoint_interval=5 --config.validation_interval=10 "
        "--config.merge.mask_update_interval=3 --config.optimizer.warmup_steps=5 "
        "--config.model.dropout=0.1 --config.image_batch_size=32 --config.text_batch_size=16 "
        "--output_dir="
    )
    run(folder, f"{command}unbroken")
    process = start(folder, f"{command}stopped")
    while process.poll() is None and not (folder / "stopped/checkpoints/LAST").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    run(folder, f"{command}stopped")
    found = {
        name: {**run_record(folder / name), "weights": weights(folder / name)}
        for name in ("unbroken", "stopped")
    }
    changed = start(folder, f"{command}stopped --config.seed=1")
    named = "seed" in changed.communicate()[1]
    answer = {"status": changed.returncode, "named": named}
    return {"stopped_with": process.returncode, "changed": answer, **found}


def write_inputs(folder):
    """Writes the same images and texts in each of the forms."""
    import datasets
    from PIL import Image

    datasets.disable_progress_bars()
    draw = random.Random(0)
    for split, count in {"flat": 8, "split/training": 6, "split/val": 2, "split/test": 3}.items():
        for name, colour in COLOURS.items():
            for number in range(count):
                path = folder / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = bytes(draw.randrange(50) + colour[n % 3] for n in range(3 * 40 * 36))
                Image.frombytes("RGB", (40, 36), pixels).save(path)
    paths = sorted(str(path.relative_to(folder)) for path in folder.glob("flat/*/*.png"))
    labels = [path.split("/")[1] for path in paths]
    pictures = [{"file": path, "label": name} for path, name in zip(paths, labels, strict=True)]
    write_table(folder / "pictures.csv", pictures)
    encoded = [{"bytes": (folder / path).read_bytes(), "path": None} for path in paths]
    inside = datasets.Dataset.from_dict({"image": encoded, "label": labels})
    inside.to_parquet(folder / "pictures.parquet")

    def texts(count):
        for _ in range(count):
            label = draw.choice(("1", "2", "11"))
            words = draw.choices("the a house river was old warm and cold".split(), k=8)
            first, second = " ".join(words[:4]), " ".join([f"{label}:", *words[4:]])
            yield {"sentence1": first, "sentence2": second, "label": label}

    def single(rows):
        return [{"text": row["sentence2"], "label": row["label"]} for row in rows]

    train, test = list(texts(40)), list(texts(9))
    for name, rows in (("train", train), ("test", test)):
        write_table(folder / "csv" / f"{name}.csv", single(rows))
    binary = [{**row, "label": ("entailment", "no")[row["label"] == "1"]} for row in train + test]
    for name, rows in (("train", binary[:40]), ("dev", binary[40:])):
        write_table(folder / "pairs" / f"{name}.tsv", rows)
    lines = [json.dumps(row) for row in single(train)]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")


def write_table(path, rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def own_data(folder):
    write_inputs(folder)
    run(
        folder,
        "pipelines.imagenet --train_folder=split/training --validation_folder=split/val "
        "--train_shards=2 --validation_shards=1 --output=records",
    )
    return two_at_a_time(lambda form: tuned(folder, form), FORMS)


def tuned(folder, form):
    """What a dry run says about data, by its first words, and what a short training gives."""
    command = f"finetune {SMALL} {FORMS[form]} --output_dir=runs/{form}"
    found, label = {}, ""
    for line in run(folder, f"{command} --dry_run").splitlines():
        label = line[2:12].strip() or label
        found.setdefault(label, []).append(line[12:])
    record = {"dry_run": {name: found[name] for name in found.keys() - {"device", "folder"}}}
    if form not in STEPS:
        return record
    run(folder, f"{command} --config.steps={STEPS[form]} --config.batch=8 --predictions={form}.csv")
    with (folder / f"{form}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [{k: v for k, v in row.items() if not k.startswith("prob")} for row in rows]
    with (folder / f"{form}.csv").open() as file:
        columns = file.readline().strip()
    return {**record, "columns": columns, "rows": rows, **run_record(folder / "runs" / form)}


def vitbert_small(folder):
    write_inputs(folder)
    flags = ("--image=flat/10/0.png", "--text='The [MASK] is warm.'", "--file=masked.csv")
    write_table(folder / "masked.csv", [{"text": f"The {x} [MASK] ."} for x in ("old", "cold")])
    return two_at_a_time(
        lambda flag: run(folder, f"predict {SMALL} --format=json {flag}").splitlines(), flags
    )


PARTS = (sample, resumed, own_data, vitbert_small)


def flat(value, path=""):
    """The leaves of a JSON value by their dotted paths."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, each in items for k, v in flat(each, f"{path}.{name}").items()}
    return {path.lstrip("."): value}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [part.__name__ for part in PARTS]
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    parser.add_argument("--only", choices=names, action="append", help="parts to run")
    parser.add_argument("--write", action="store_true", help="record instead of comparing")
    arguments = parser.parse_args()
    differences = 0
    for part in PARTS:
        name = part.__name__
        if name not in (arguments.only or names):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = json.loads(json.dumps(part(pathlib.Path(folder))))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
        if arguments.write:
            records[name] = found
            RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
            continue
        before, now = flat(records.get(name, {}), name), flat(found, name)
        for path in sorted(before.keys() | now.keys()):
            was, is_now = before.get(path, "nothing"), now.get(path, "nothing")
            if was != is_now:
                differences += 1
                print(f"{path}: {was!r} was recorded, now {is_now!r}", flush=True)
    print("recorded" if arguments.write else f"{differences} differences")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())
