"""Finds the images of ImageNet's two tar files, and those of folders with one folder per class.

Only the headers of the tar files are read: an image is found by its place in the file, and nothing
is unpacked. Classes are numbered in the order of their names, as ImageNet's are.
"""

import itertools
import os
import tarfile

import tensorflow as tf

from pipelines.command_line import one_line, say
from pipelines.files import reading, walk
from pipelines.images import SUFFIXES
from pipelines.images.image_lists import WHOLE_FILE, ImageList, read_bytes
from pipelines.package_data import find_package_file

_VALIDATION_LABELS = "datasets/imagenet2012/validation_labels.txt"
_CLASSES = "datasets/imagenet2012/labels.txt"


def find_images(source, splits, validation_labels=None):
    """Lists the images of tar files or folders.

    Args:
        source: str, `tar` or `folder`.
        splits: dict of `train` and `validation`, or one of them, to a path.
        validation_labels: str, see `list_validation_tar`.

    Returns:
        (dict of split to `ImageList`, list of str with the names of the classes in order).

    Raises:
        ValueError: a source is not as it should be.
    """
    lists, classes = {}, None
    for split, path in splits.items():
        if source == "folder":
            lists[split], classes = list_folder(path, classes)
        elif split == "train":
            lists[split], classes = list_train_tar(path)
        else:
            lists[split], classes = list_validation_tar(path, validation_labels, classes)
        say(f"{path}: {len(lists[split]):,} images of {len(classes):,} classes")
    return lists, classes


def check_sources(source, splits, validation_labels=None):
    """Refuses missing sources before the first one is listed, which may take minutes.

    Args:
        source, splits, validation_labels: as in `find_images`.

    Raises:
        ValueError: names the path.
    """
    for path in splits.values():
        if source == "folder":
            _check_folder(path)
        else:
            with reading(path):
                pass
    if validation_labels:
        _lines(validation_labels)


def find_folders(folder):
    """The folders of the splits in a folder.

    Args:
        folder: str, local or `gs://`.

    Returns:
        dict of `train` and `validation`, or one of them, to a path.

    Raises:
        ValueError: there are none, or two for one split.
    """
    if not tf.io.gfile.isdir(folder):
        raise ValueError(f"--folder={folder}: no such folder; fix the path")
    found = {}
    for name, split in (("train", "train"), ("val", "validation"), ("validation", "validation")):
        path = os.path.join(folder, name)
        if tf.io.gfile.isdir(path):
            if split in found:
                raise ValueError(f"--folder={folder}: holds both val and validation; remove one")
            found[split] = path
    if not found:
        raise ValueError(
            f"--folder={folder}: holds neither train nor val nor validation; give their parent, or "
            "--train_folder=DIR and --validation_folder=DIR"
        )
    return found


def list_train_tar(path):
    """Lists the images of `ILSVRC2012_img_train.tar`, a tar file with one tar file per class.

    Args:
        path: str, local or `gs://`.

    Returns:
        (`ImageList`, list of str with the names of the classes in order).

    Raises:
        ValueError: it cannot be read, is cut short, or has another structure.
    """
    archives = _members(path)
    for name, *_ in archives:
        if not name.endswith(".tar"):
            raise ValueError(
                f"{path}: holds {name!r}, expected one tar file per class such as n01440764.tar; "
                "give the original ILSVRC2012_img_train.tar"
            )
    archives.sort(key=lambda archive: os.path.basename(archive[0]))
    classes = [os.path.basename(name).removesuffix(".tar") for name, *_ in archives]
    _check_names(classes, path)
    images = [
        (label, *image)
        for label, archive in enumerate(archives)
        for image in _members(path, *archive)
    ]
    return _not_empty(ImageList.of(path, images), path), classes


def list_validation_tar(path, labels_path=None, classes=None):
    """Lists the images of `ILSVRC2012_img_val.tar`, whose labels come from another file.

    Args:
        path: str, local or `gs://`.
        labels_path: str, a file with one class name per line, in the order of the images' names.
            By default the one that comes with tensorflow-datasets.
        classes: list of str, the classes of the training images, if they are known.

    Returns:
        (`ImageList`, list of str with the names of the classes in order).

    Raises:
        ValueError: a file cannot be read, or the two do not match.
    """
    images = sorted(_members(path))
    if labels_path:
        labels, known = _lines(labels_path), classes
    else:
        labels_path = find_package_file("tensorflow_datasets", _VALIDATION_LABELS)
        labels = _lines(labels_path)
        known = classes or _lines(find_package_file("tensorflow_datasets", _CLASSES))
    if len(labels) != len(images):
        raise ValueError(
            f"{path} holds {len(images):,} images, {labels_path} {len(labels):,} labels; give the "
            "file of these images with --validation_labels=FILE"
        )
    if known is None:
        known = sorted(set(labels))
        _check_names(known, labels_path)
    numbers = {name: label for label, name in enumerate(known)}
    for line, name in enumerate(labels, 1):
        if name not in numbers:
            raise ValueError(
                f"{labels_path}, line {line}: {name!r} is not one of the {len(known):,} "
                f"classes ({known[0]} to {known[-1]}); write one class name per line, in the order "
                "of the images' names"
            )
    images = [(numbers[name], *image) for name, image in zip(labels, images, strict=True)]
    return _not_empty(ImageList.of(path, images), path), list(known)


def list_folder(path, classes=None):
    """Lists the images of a folder that holds one folder per class.

    Names that begin with a dot and files without the suffix of an image are left out. Images may
    lie in folders within a class's folder.

    Args:
        path: str, local or `gs://`.
        classes: list of str, the classes of the training images, if they are known.

    Returns:
        (`ImageList`, list of str with the names of the classes in order).

    Raises:
        ValueError: there are no images, there is a class that is not among `classes`, or a folder
            cannot be listed.
    """
    found, names_by_class = [], {}
    _check_folder(path)
    for folder, folders, files in walk(path):
        folders[:] = sorted(name.rstrip("/") for name in folders if not name.startswith("."))
        below = os.path.relpath(folder, path) if folder.rstrip("/") != path.rstrip("/") else ""
        if not below:
            found = folders[:]
            continue
        names_by_class.setdefault(below.split("/")[0], []).extend(
            f"{below}/{name}"
            for name in sorted(files)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        )
    if not found:
        raise ValueError(f"{path}: holds no folder; give one that holds one folder per class")
    _check_names(found, path)
    for name in found:
        if classes is not None and name not in classes:
            raise ValueError(
                f"{path}: {name!r} is not one of the {len(classes):,} classes of the training "
                "images; remove that folder, or add it to them"
            )
        if not names_by_class.get(name):
            raise ValueError(
                f"{path}: the class {name!r} has no image ({', '.join(SUFFIXES)}); remove that "
                "folder, or fill it"
            )
    classes = found if classes is None else classes
    numbers = {name: label for label, name in enumerate(classes)}
    images = [
        (numbers[name], file, 0, WHOLE_FILE) for name in found for file in names_by_class[name]
    ]
    return ImageList.of(path, images), list(classes)


def _members(path, archive="", start=0, size=None):
    """The files of a tar file as `(name, offset, size)`, from its headers alone.

    Args:
        path: str, local or `gs://`.
        archive: str, the name of a tar file within the one at `path`, to list that instead.
        start, size: int, the part of the file that is this tar file; all of it by default.
    """
    name = f"{path}: {archive}" if archive else path
    members = []
    damaged = ValueError(f"{name}: is cut short, damaged or no tar file; copy or download it again")
    try:
        with reading(path) as (stream, end):
            stop = end if size is None else start + size
            if stop > end:
                raise damaged
            stream.seek(start)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    if member.size < 0 or member.offset_data + member.size > stop:
                        raise damaged
                    if member.isfile():
                        members.append((member.name, member.offset_data, member.size))
                    tar.members.clear()  # it would keep them all
                # Python mistakes a damaged header, or the end of the file, for the end of the tar
                # file, which blocks of zeros mark.
                stream.seek(tar.offset)
                if tar.offset >= stop or stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise damaged
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{name}: is damaged, or no tar file without compression ({one_line(error)}); give the "
            "original file, or download it again"
        ) from error
    return members


def _check_folder(path):
    if not tf.io.gfile.isdir(path):
        raise ValueError(f"{path}: no such folder; fix the path")


def _lines(path):
    """The lines of a text file without the empty ones at its end."""
    try:
        return [line.strip() for line in read_bytes(path).decode().rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({one_line(error)})") from error


def _check_names(classes, source):
    """Refuses names that cannot be lines of a text file, and names that are not unique."""
    for name in classes:
        if name != name.strip() or not name.isprintable() or not name:
            raise ValueError(f"{source}: {name!r} cannot be the name of a class; rename it")
    for name, following in itertools.pairwise(classes):
        if name == following:
            raise ValueError(f"{source}: the class {name!r} occurs twice; keep one")


def _not_empty(images, path):
    if not len(images):
        raise ValueError(f"{path}: holds no images; give the original file")
    return images
