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

from pipelines import command_line
from pipelines.command_line import MAX_SEED
from pipelines.files import make_folder
from pipelines.flags import define_flags
from pipelines.prepare import jobs

_TARS = ("train_tar", "validation_tar")
_FOLDERS = ("train_folder", "validation_folder")
_SOURCES = (*_TARS, "tfds_data_dir", "folder", *_FOLDERS)


def main(argv):
    """The command, with its arguments without the program's name."""
    values, workers = _parse(argv)
    source = _check_source(values)
    output = values.output.rstrip("/") or "/"
    jobs.check_output(os.path.join(output, "train"), workers)

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

        found = imagenet_tfds.find_splits(values.tfds_data_dir)
        classes = next(iter(found.values())).classes
        opened = {split: contextlib.nullcontext(job) for split, job in found.items()}
    else:
        image_sources.check_sources(source, splits, values.validation_labels)
        lists, classes = image_sources.find_images(source, splits, values.validation_labels)
        opened = {
            split: image_shards.listed_job(
                images.shuffled((values.seed, list(image_shards.SHARDS).index(split))),
                classes,
                {"source": source, "split": split, "seed": values.seed},
                os.path.join(output, f"{split}.progress"),
            )
            for split, images in lists.items()
        }
    image_shards.write_classes(output, classes)
    for split, opening in opened.items():
        prefix = os.path.join(output, split)
        with opening as job:
            shards = jobs.choose_shards(prefix, values[f"{split}_shards"].value, *job.size())
            counts = jobs.run_job(job, prefix, shards, workers, values.skip_damaged)
        converted = ", ".join(
            f"{count:,} {name.removeprefix('converted_').upper()}"
            for name, count in counts.items()
            if name.startswith("converted_") and count
        )
        if converted:
            command_line.say(f"{prefix}: converted to RGB JPEG: {converted}")


def _parse(argv):
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
    return values, jobs.parse_job_flags(values, argv, __doc__, ("output",))


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
    if values.validation_labels and not values.validation_tar:
        raise ValueError("--validation_labels needs --validation_tar; see --help")
    if given[0] in _TARS:
        return "tar"
    return "tfds" if given[0] == "tfds_data_dir" else "folder"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
