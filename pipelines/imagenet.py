"""Writes ImageNet, or other labelled images, as TFRecords in the usual ImageNet format.

    python -m pipelines.imagenet --output=DIR SOURCE [-- --direct_num_workers=N]

SOURCE is one of
    --train_tar=ILSVRC2012_img_train.tar --validation_tar=ILSVRC2012_img_val.tar
        the two original files, one of them or both; nothing is unpacked. They are read in random
        order: keep them on a solid-state disk
    --tfds_data_dir=DIR
        `imagenet2012` of TensorFlow Datasets, prepared; with --manual_dir=DIR, a folder that holds
        the two original files, TFDS prepares it there first
    --folder=DIR
        a folder that holds train/ and val/ or validation/, each with a folder of images a class;
        or --train_folder=DIR and --validation_folder=DIR

It writes DIR/train-00000-of-01024 and so on, DIR/validation-00000-of-00128 and so on, a manifest of
each, and DIR/classes.txt: line i names the class of label i. 0 is background.

Images are shuffled. Each is decoded in full and stored byte for byte, but PNG, GIF, BMP and CMYK
files become RGB JPEGs, which the manifest counts. A damaged one ends the work when all are known,
unless --max_bad_records allows it. A run that was stopped goes on by the same command. What follows
`--` says where the work is done, see `pipelines.wikipedia`.
"""

import contextlib
import os
import sys

from pipelines import command_line
from pipelines.command_line import UserError
from pipelines.files import make_folder, write_atomically
from pipelines.images import image_sources, imagenet_tfds, jpeg
from pipelines.images.image_shards import ListedImagesJob
from pipelines.jobs import shard_job

SHARDS = {"train": 1024, "validation": 128}  # of ImageNet
MIN_IMAGES_PER_SHARD = 300  # smaller sets get fewer shards

_TARS = ("train_tar", "validation_tar")
_FOLDERS = ("train_folder", "validation_folder")
_SOURCES = (*_TARS, "tfds_data_dir", "folder", *_FOLDERS)
_VALIDATION_NAMES = ("val", "validation")


def find_images(source, splits, validation_labels=None):
    """Lists the images of tar files or folders.

    Args:
        source: str, `tar` or `folder`.
        splits: dict of `train` and `validation`, or one of them, to a path.
        validation_labels: str, see `image_sources.list_validation_tar`.

    Returns:
        (dict of split to `ImageList`, list of str with the names of the classes in order).

    Raises:
        UserError: a source is not as it should be.
    """
    lists, classes = {}, None
    for split, path in splits.items():
        if source == "folder":
            lists[split], classes = image_sources.list_folder(path, classes)
        elif split == "train":
            lists[split], classes = image_sources.list_train_tar(path)
        else:
            lists[split], classes = image_sources.list_validation_tar(
                path, validation_labels, classes
            )
        _say(f"{path}: {len(lists[split]):,} images of {len(classes):,} classes")
    return lists, classes


@contextlib.contextmanager
def listed_job(images, classes, settings, folder):
    """Gives the job that writes the images of a list in an order that depends on the settings.

    Args:
        images: `ImageList`.
        classes: list of str.
        settings: dict with `source`, `split` and `seed`.
        folder: str, of the output, which keeps the list as long as the block runs.
    """
    images = images.shuffled((settings["seed"], list(SHARDS).index(settings["split"])))
    with images.stored(folder) as stored:
        yield ListedImagesJob(stored, images.digest(), tuple(classes), len(images), settings)


def default_shards(split, count):
    """How many shards a split of `count` images is written to."""
    return max(1, min(SHARDS[split], count // MIN_IMAGES_PER_SHARD))


def find_folders(folder):
    """The folders of the splits in `folder`: dict of split to path.

    Raises:
        UserError: there are none, or two for one split.
    """
    import tensorflow as tf

    if not tf.io.gfile.isdir(folder):
        raise UserError(f"--folder={folder}: no such folder; mend the path")
    found = {}
    for split, names in (("train", ("train",)), ("validation", _VALIDATION_NAMES)):
        paths = [os.path.join(folder, name) for name in names]
        paths = [path for path in paths if tf.io.gfile.isdir(path)]
        if len(paths) > 1:
            raise UserError(f"--folder={folder}: holds both val and validation; remove one")
        if paths:
            found[split] = paths[0]
    if not found:
        raise UserError(
            f"--folder={folder}: holds neither train nor val nor validation; give their parent, or "
            "--train_folder=DIR and --validation_folder=DIR"
        )
    return found


def write_classes(output, classes):
    """Writes `classes.txt`, one class a line.

    Raises:
        UserError: there is one with other classes.
    """
    import tensorflow as tf

    path = os.path.join(output, "classes.txt")
    text = "".join(f"{name}\n" for name in classes)
    if not tf.io.gfile.exists(path):
        write_atomically(path, text)
        return
    with tf.io.gfile.GFile(path) as stream:
        if stream.read() != text:
            raise UserError(
                f"{path}: lists other classes than the {len(classes):,} of these images; give "
                "another --output"
            )


def main(argv):
    """The command."""
    argv, beam_args = shard_job.split_beam_arguments(argv)
    values = _parse(argv)
    source = _check_source(values)

    command_line.load_tensorflow()
    output = values.output.rstrip("/") or "/"
    if source == "folder" and values.folder:
        splits = find_folders(values.folder)
    elif source != "tfds":
        flags = _TARS if source == "tar" else _FOLDERS
        splits = {flag.split("_")[0]: values[flag].value for flag in flags if values[flag].value}
    make_folder(output, "output")
    if source == "tfds":
        if values.manual_dir:
            imagenet_tfds.prepare(values.tfds_data_dir, values.manual_dir)
        jobs = imagenet_tfds.find_splits(values.tfds_data_dir)
        counts = {split: job.count for split, job in jobs.items()}
        classes = next(iter(jobs.values())).classes
    else:
        lists, classes = find_images(source, splits, values.validation_labels)
        counts = {split: len(images) for split, images in lists.items()}
    shards = {split: _shards(values, split, count) for split, count in counts.items()}
    write_classes(output, classes)
    for split in counts:
        prefix = os.path.join(output, split)
        if source == "tfds":
            making = contextlib.nullcontext(jobs[split])
        else:
            settings = {"source": source, "split": split, "seed": values.seed}
            making = listed_job(lists[split], classes, settings, f"{prefix}.progress")
        with making as job:
            done = shard_job.run_job(
                job,
                prefix,
                shards[split],
                beam_args,
                unit="images",
                max_bad_records=values.max_bad_records,
            )
        _show_converted(prefix, done)


def _shards(values, split, count):
    """The number of files of a split."""
    shards = values[f"{split}_shards"].value or default_shards(split, count)
    if shards > count:
        raise UserError(f"--{split}_shards={shards}: there are {count:,} images; give fewer")
    return shards


def _parse(argv):
    from absl import flags

    values = flags.FlagValues()
    for name, text in (
        ("output", "Folder of the files that are written, local or gs://."),
        ("train_tar", "ILSVRC2012_img_train.tar: a tar file of a tar file a class."),
        ("validation_tar", "ILSVRC2012_img_val.tar."),
        (
            "validation_labels",
            "The class of each image of --validation_tar, one name a line, in the order of the "
            "images' names. Default: ImageNet's, which come with tensorflow-datasets.",
        ),
        ("tfds_data_dir", "Folder in which TFDS keeps prepared data sets."),
        ("manual_dir", "Folder of the original tar files, for TFDS to prepare."),
        ("folder", "Folder that holds train/ and val/ or validation/."),
        ("train_folder", "Folder that holds a folder of training images a class."),
        ("validation_folder", "The same of validation images."),
    ):
        flags.DEFINE_string(name, None, text, flag_values=values)
    fewer = f"fewer where a file would hold less than {MIN_IMAGES_PER_SHARD} images"
    for name, default, lowest, text in (
        (
            "train_shards",
            None,
            1,
            f"Training files. Default: {SHARDS['train']}, {fewer}.",
        ),
        ("validation_shards", None, 1, f"Validation files. Default: {SHARDS['validation']}."),
        ("seed", 0, 0, "Seed of the order of the images; TFDS has an order of its own."),
        ("max_bad_records", 0, 0, "How many damaged images of a split may be left out."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=lowest, flag_values=values)
    command_line.parse_flags(values, argv, __doc__)
    return values


def _check_source(values):
    """Which source the flags name: `tar`, `tfds` or `folder`."""
    given = [name for name in _SOURCES if values[name].value]
    if not given:
        raise UserError(
            "no images; give --train_tar=FILE and --validation_tar=FILE, --tfds_data_dir=DIR, or "
            "--folder=DIR; --help tells more"
        )
    if not values.output:
        raise UserError("--output is missing; give the folder to write to")
    sources = [_TARS, ("tfds_data_dir",), ("folder",), _FOLDERS]
    if sum(any(name in given for name in names) for names in sources) > 1:
        raise UserError(f"--{given[0]} and --{given[-1]} are two sources of images; give one")
    for flag, needed in (("manual_dir", "tfds_data_dir"), ("validation_labels", "validation_tar")):
        if values[flag].value and not values[needed].value:
            raise UserError(f"--{flag} needs --{needed}; --help tells more")
    if given[0] in _TARS:
        return "tar"
    return "tfds" if given[0] == "tfds_data_dir" else "folder"


def _show_converted(prefix, counts):
    """Says how many images are not stored as they were."""
    converted = [
        f"{counts[name]:,} {kind.upper()}"
        for kind in jpeg.KINDS
        if counts.get(name := f"converted_{kind}")
    ]
    if converted:
        _say(f"{prefix}: converted to RGB JPEG: {', '.join(converted)}")


def _say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
