"""Writes ImageNet, or other labelled images, as TFRecords in the usual ImageNet format.

    python -m pipelines.imagenet --output=DIR SOURCE [-- --direct_num_workers=N]

SOURCE is one of
    --train_tar=ILSVRC2012_img_train.tar --validation_tar=ILSVRC2012_img_val.tar
        the two original files, one of them or both; nothing is unpacked. They are read in random
        order: keep them on a solid-state disk
    --tfds_data_dir=DIR
        a prepared `imagenet2012` of TensorFlow Datasets; with --manual_dir=DIR, a folder that holds
        the two original files, TFDS prepares it there first
    --folder=DIR
        a folder that holds train/ and val/ or validation/, each with one image folder per class;
        or --train_folder=DIR and --validation_folder=DIR

It writes DIR/train-00000-of-01024 and so on, DIR/validation-00000-of-00128 and so on, a manifest
for each, and DIR/classes.txt: line i names the class of label i. 0 is background.

Images are shuffled. Each is decoded in full and stored byte for byte, but PNG, GIF, BMP, WebP and
CMYK files become RGB JPEGs; the manifest counts them. The command finds all damaged images before
it fails because of them, unless --max_bad_records allows them. The same command resumes a run that
was stopped. What follows `--` says where the work is done, see `pipelines.wikipedia`.
"""

import contextlib
import os
import sys

from pipelines import command_line
from pipelines.command_line import MAX_SEED
from pipelines.files import make_folder, write_atomically
from pipelines.flags import define_flags
from pipelines.prepare import shard_job

SHARDS = {"train": 1024, "validation": 128}  # of ImageNet
MIN_IMAGES_PER_SHARD = 300  # smaller sets get fewer shards

_TARS = ("train_tar", "validation_tar")
_FOLDERS = ("train_folder", "validation_folder")
_SOURCES = (*_TARS, "tfds_data_dir", "folder", *_FOLDERS)


def default_shards(split, count):
    """How many shards a split has by default.

    Args:
        split: str, `train` or `validation`.
        count: int, its images.

    Returns:
        int.
    """
    return max(1, min(SHARDS[split], count // MIN_IMAGES_PER_SHARD))


def write_classes(output, classes):
    """Writes `classes.txt`, one class per line.

    Args:
        output: str, the folder, local or `gs://`.
        classes: list of str.

    Raises:
        ValueError: the file exists with other classes.
    """
    import tensorflow as tf

    path = os.path.join(output, "classes.txt")
    text = "".join(f"{name}\n" for name in classes)
    if not tf.io.gfile.exists(path):
        write_atomically(path, text)
        return
    with tf.io.gfile.GFile(path) as stream:
        if stream.read() != text:
            raise ValueError(
                f"{path}: does not list the {len(classes):,} classes of these images; give "
                "another --output"
            )


def main(argv):
    """The command.

    Args:
        argv: list of str, without the program's name.
    """
    values, workers = _parse(argv)
    source = _check_source(values)
    output = values.output.rstrip("/") or "/"
    shard_job.check_job(os.path.join(output, "train"), workers)

    command_line.load_tensorflow()
    from pipelines.images import image_sources
    from pipelines.prepare import image_shards

    if source == "folder" and values.folder:
        splits = image_sources.find_folders(values.folder)
    elif source != "tfds":
        flags = _TARS if source == "tar" else _FOLDERS
        splits = {flag.split("_")[0]: values[flag].value for flag in flags if values[flag].value}
    make_folder(output)
    if source == "tfds":
        from pipelines.prepare import imagenet_tfds

        if values.manual_dir:
            imagenet_tfds.prepare(values.tfds_data_dir, values.manual_dir)
        jobs = imagenet_tfds.find_splits(values.tfds_data_dir)
        counts = {split: job.count for split, job in jobs.items()}
        classes = next(iter(jobs.values())).classes
    else:
        image_sources.check_sources(source, splits, values.validation_labels)
        lists, classes = image_sources.find_images(source, splits, values.validation_labels)
        counts = {split: len(images) for split, images in lists.items()}
    prefixes = {split: os.path.join(output, split) for split in counts}
    shards = {
        split: shard_job.choose_shards(
            prefixes[split],
            values[f"{split}_shards"].value,
            default_shards(split, count),
            count,
            "images",
        )
        for split, count in counts.items()
    }
    write_classes(output, classes)
    for split in counts:
        prefix = prefixes[split]
        if source == "tfds":
            making = contextlib.nullcontext(jobs[split])
        else:
            settings = {"source": source, "split": split, "seed": values.seed}
            images = lists[split].shuffled((values.seed, list(SHARDS).index(split)))
            making = image_shards.listed_job(images, classes, settings, f"{prefix}.progress")
        with making as job:
            done = shard_job.run_job(
                job,
                prefix,
                shards[split],
                workers,
                max_bad_records=values.max_bad_records,
            )
        _show_converted(prefix, done)


def _parse(argv):
    fewer = f"fewer where a file would hold less than {MIN_IMAGES_PER_SHARD} images"
    values = define_flags(
        ("output", None, "Folder of the files that are written, local or gs://."),
        ("train_tar", None, "ILSVRC2012_img_train.tar: a tar file of one tar file per class."),
        ("validation_tar", None, "ILSVRC2012_img_val.tar."),
        (
            "validation_labels",
            None,
            "The class of each image of --validation_tar, one name per line, in the order of the "
            "images' names. Default: ImageNet's, which come with tensorflow-datasets.",
        ),
        ("tfds_data_dir", None, "Folder in which TFDS keeps prepared data sets."),
        ("manual_dir", None, "Folder of the original tar files, for TFDS to prepare."),
        ("folder", None, "Folder that holds train/ and val/ or validation/."),
        ("train_folder", None, "Folder that holds one folder of training images per class."),
        ("validation_folder", None, "The same of validation images."),
        ("train_shards", None, f"Training files. Default: {SHARDS['train']}, {fewer}.", 1),
        ("validation_shards", None, f"Validation files. Default: {SHARDS['validation']}.", 1),
        ("seed", 0, "Seed of the order of the images; TFDS has an order of its own.", 0, MAX_SEED),
        ("max_bad_records", 0, "How many damaged images of a split may be left out.", 0),
    )
    return values, shard_job.parse_job_flags(values, argv, __doc__, ("output",))


def _check_source(values):
    """Which source the flags name: `tar`, `tfds` or `folder`."""
    given = [name for name in _SOURCES if values[name].value]
    if not given:
        raise ValueError(
            "no images; give --train_tar=FILE and --validation_tar=FILE, --tfds_data_dir=DIR, or "
            "--folder=DIR; see --help"
        )
    sources = [_TARS, ("tfds_data_dir",), ("folder",), _FOLDERS]
    if sum(any(name in given for name in names) for names in sources) > 1:
        raise ValueError(f"--{given[0]} and --{given[-1]} are two sources of images; give one")
    for flag, needed in (("manual_dir", "tfds_data_dir"), ("validation_labels", "validation_tar")):
        if values[flag].value and not values[needed].value:
            raise ValueError(f"--{flag} needs --{needed}; see --help")
    if given[0] in _TARS:
        return "tar"
    return "tfds" if given[0] == "tfds_data_dir" else "folder"


def _show_converted(prefix, counts):
    """Reports how many images were converted."""
    converted = [
        f"{count:,} {name.removeprefix('converted_').upper()}"
        for name, count in counts.items()
        if name.startswith("converted_") and count
    ]
    if converted:
        command_line.say(f"{prefix}: converted to RGB JPEG: {', '.join(converted)}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
