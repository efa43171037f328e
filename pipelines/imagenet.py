"""Writes ImageNet, or other labelled images, as TFRecords in the usual ImageNet format.

    python -m pipelines.imagenet --output=DIR SOURCE [-- --direct_num_workers=N]

SOURCE is one of
    --train_tar=ILSVRC2012_img_train.tar --validation_tar=ILSVRC2012_img_val.tar
        the two original files, one of them or both; nothing is unpacked. They are read in random
        order: keep them on a solid-state disk
    --tfds_data_dir=DIR
        a prepared `imagenet2012` of TensorFlow Datasets
    --folder=DIR
        a folder that holds train/ and val/ or validation/, each with one image folder per class;
        or --train_folder=DIR and --validation_folder=DIR

It writes DIR/train-00000-of-01024 and so on, DIR/validation-00000-of-00128 and so on, a manifest
for each, and DIR/classes.txt: line i names the class of label i. 0 is background.

Images are shuffled. Each is decoded in full and stored byte for byte, but PNG, GIF, BMP, WebP and
CMYK files become RGB JPEGs; the manifest counts them. The command finds all damaged images before
it fails because of them, unless --skip_damaged allows them. The same command resumes a run that
was stopped. What follows `--` says where the work is done, see `pipelines.wikipedia`.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from pipelines import command_line
from pipelines.command_line import MAX_SEED
from pipelines.files import make_folder
from pipelines.flags import define_flags
from pipelines.prepare import jobs

_SOURCES = {  # flags that name images: which kind of source, and of which split
    "train_tar": ("tar", "train"),
    "validation_tar": ("tar", "validation"),
    "train_folder": ("folder", "train"),
    "validation_folder": ("folder", "validation"),
    "folder": ("folders", None),
    "tfds_data_dir": ("tfds", None),
}


def main(argv: list[str]) -> None:
    """The command, with its arguments without the program's name."""
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
        ("folder", None, "Folder that holds train/ and val/ or validation/."),
        ("train_folder", None, "Folder that holds one folder of training images per class."),
        ("validation_folder", None, "The same of validation images."),
        ("train_shards", None, "Training files. Default: 1024, fewer of less than 300 images.", 1),
        ("validation_shards", None, "Validation files. Default: 128, likewise.", 1),
        ("seed", 0, "Seed of the order of the images; TFDS has an order of its own.", 0, MAX_SEED),
        jobs.SKIP_DAMAGED,
    )
    workers = jobs.parse_job_flags(values, argv, str(__doc__), ("output",))
    given = {name: kind for name, kind in _SOURCES.items() if values[name].value}
    if len({kind for kind, _ in given.values()}) != 1:
        raise ValueError(
            f"give images from one source: --train_tar=FILE and --validation_tar=FILE, "
            f"--tfds_data_dir=DIR, or --folder=DIR, not {' and '.join(given) or 'none'}"
        )
    if values.validation_labels and not values.validation_tar:
        raise ValueError("--validation_labels needs --validation_tar; see --help")
    output = values.output.rstrip("/") or "/"
    command_line.load_tensorflow()
    with contextlib.ExitStack() as stack:
        for split, job in _jobs(values, given, output, stack).items():
            prefix, shards = os.path.join(output, split), values[f"{split}_shards"].value
            jobs.run_job(job, prefix, shards, workers, values.skip_damaged)


def _jobs(
    values: Any, given: dict[str, tuple], output: str, stack: contextlib.ExitStack
) -> Mapping[str, jobs.ShardJob]:
    """The job of each split; `stack` keeps their lists of images in files."""
    from pipelines.images import image_sources
    from pipelines.prepare import image_shards

    (source, _), *_ = given.values()
    if source == "tfds":
        prepared = image_shards.find_tfds_splits(values.tfds_data_dir)
        make_folder(output)
        image_shards.write_classes(output, list(next(iter(prepared.values())).classes))
        return prepared
    splits = {split: values[name].value for name, (_, split) in given.items()}
    if source == "folders":
        source, splits = "folder", image_sources.find_folders(values.folder)
    make_folder(output)
    image_sources.check_sources(source, splits, values.validation_labels)
    lists, classes = image_sources.find_images(source, splits, values.validation_labels)
    image_shards.write_classes(output, classes)
    listed = {}
    for split, images in lists.items():
        shuffled = images.shuffle((values.seed, list(image_shards.SHARDS).index(split)))
        listed[split] = image_shards.ListedImagesJob(
            stack.enter_context(shuffled.store_in(os.path.join(output, f"{split}.progress"))),
            shuffled.digest(),
            tuple(classes),
            len(shuffled),
            {"source": source, "split": split, "seed": values.seed},
        )
    return listed


if __name__ == "__main__":
    sys.exit(command_line.run(main))
