"""Finds the images of ImageNet's two tar files, and those of folders with a folder a class.

Of the tar files only the headers are read: an image is known by its place in the file, and nothing
is unpacked. Classes are numbered in the order of their names, as ImageNet's are.
"""

import itertools
import os
import tarfile

from pipelines import package_data
from pipelines.command_line import UserError, one_line
from pipelines.images.image_lists import WHOLE_FILE, ImageList, open_binary, read_bytes

SUFFIXES = (".jpeg", ".jpg", ".png", ".gif", ".bmp")  # of the images in a folder, in any case

_TFDS = "tensorflow_datasets"
_VALIDATION_LABELS = "datasets/imagenet2012/validation_labels.txt"
_CLASSES = "datasets/imagenet2012/labels.txt"


def list_train_tar(path):
    """Lists the images of `ILSVRC2012_img_train.tar`, a tar file with a tar file a class.

    Args:
        path: str, local or `gs://`.

    Returns:
        (`ImageList`, list of str with the names of the classes in order).

    Raises:
        UserError: it cannot be read, is cut short, or is made otherwise.
    """
    with _opened(path) as stream:
        archives = _members(stream, path)
        for name, *_ in archives:
            if not name.endswith(".tar"):
                raise UserError(
                    f"{path}: holds {name!r}, expected a tar file a class such as n01440764.tar; "
                    "give the original ILSVRC2012_img_train.tar"
                )
        archives.sort(key=lambda archive: os.path.basename(archive[0]))
        classes = [os.path.basename(name).removesuffix(".tar") for name, *_ in archives]
        _check_names(classes, path)
        parts = []
        for label, (name, offset, size) in enumerate(archives):
            images = _members(stream, f"{path}: {name}", offset, offset + size)
            parts.append((label, *_columns(images)))
    return _not_empty(ImageList.of(path, parts), path), classes


def list_validation_tar(path, labels_path=None, classes=None):
    """Lists the images of `ILSVRC2012_img_val.tar`, whose labels come from another file.

    Args:
        path: str, local or `gs://`.
        labels_path: str, a file with the name of a class a line, in the order of the images' names.
            By default the one that tensorflow-datasets brings.
        classes: list of str, the classes of the training images, if they are known.

    Returns:
        (`ImageList`, list of str with the names of the classes in order).

    Raises:
        UserError: a file cannot be read, or they do not fit together.
    """
    with _opened(path) as stream:
        images = sorted(_members(stream, path))
    if labels_path:
        labels, known = _lines(labels_path), classes
    else:
        labels_path = _tfds_file(_VALIDATION_LABELS)
        labels, known = _lines(labels_path), classes or _lines(_tfds_file(_CLASSES))
    if len(labels) != len(images):
        raise UserError(
            f"{path} holds {len(images):,} images, {labels_path} {len(labels):,} labels; give the "
            "file of these images with --validation_labels=FILE"
        )
    if known is None:
        known = sorted(set(labels))
        _check_names(known, labels_path)
    numbers = {name: label for label, name in enumerate(known)}
    for line, name in enumerate(labels, 1):
        if name not in numbers:
            raise UserError(
                f"{labels_path}, line {line}: {name!r} is none of the {len(known):,} classes "
                f"({known[0]} to {known[-1]}); write the name of a class a line, in the order of "
                "the images' names"
            )
    parts = [([numbers[name] for name in labels], *_columns(images))]
    return _not_empty(ImageList.of(path, parts), path), list(known)


def list_folder(path, classes=None):
    """Lists the images of a folder that holds a folder a class.

    Names that begin with a dot are passed over, and files that are not named as images. Images may
    lie in folders within a class's folder.

    Args:
        path: str, local or `gs://`.
        classes: list of str, the classes of the training images, if they are known.

    Returns:
        (`ImageList`, list of str with the names of the classes in order).

    Raises:
        UserError: there are no images, or there is a class that is not among `classes`.
    """
    found, names_by_class = [], {}
    for folder, folders, files in _walk(path):
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
        raise UserError(f"{path}: holds no folder; give one that holds a folder a class")
    _check_names(found, path)
    for name in found:
        if classes is not None and name not in classes:
            raise UserError(
                f"{path}: {name!r} is none of the {len(classes):,} classes of the training images; "
                "remove that folder, or add it to them"
            )
        if not names_by_class.get(name):
            raise UserError(
                f"{path}: the class {name!r} has no image ({', '.join(SUFFIXES)}); remove that "
                "folder, or fill it"
            )
    classes = found if classes is None else classes
    numbers = {name: label for label, name in enumerate(classes)}
    parts = []
    for name in found:
        names = names_by_class[name]
        parts.append((numbers[name], names, [0] * len(names), [WHOLE_FILE] * len(names)))
    return ImageList.of(path, parts), list(classes)


def _members(stream, name, start=0, stop=None):
    """The files of a tar file as `(name, offset, size)`, by its headers alone.

    Args:
        stream: the opened file.
        name: str, for messages.
        start, stop: int, the part of the file that is this tar file; all of it by default.
    """
    members = []
    damaged = UserError(f"{name}: is cut short, damaged or no tar file; copy or download it again")
    try:
        stream.seek(0, os.SEEK_END)
        end = stream.tell()
        stop = end if stop is None else stop
        if stop > end:
            raise damaged
        stream.seek(start)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if member.size < 0 or member.offset_data + member.size > stop:
                    raise damaged
                if member.isfile():
                    members.append((member.name, member.offset_data, member.size))
                archive.members.clear()  # it would keep them all
            # Python takes a damaged header, and the end of the file, for the end of the tar file.
            # That is marked by blocks of zeros.
            stream.seek(archive.offset)
            if archive.offset >= stop or stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise damaged
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f"{name}: is damaged, or no tar file without compression ({one_line(error)}); give the "
            "original file, or download it again"
        ) from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({one_line(error)}); mend the path") from error
    return members


def _columns(members):
    return tuple(list(column) for column in zip(*members, strict=True)) or ([], [], [])


def _opened(path):
    try:
        return open_binary(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; mend the path") from error


def _walk(path):
    """`os.walk` of a folder, local or `gs://`, through links."""
    if "://" not in path:
        if not os.path.isdir(path):
            raise UserError(f"{path}: no such folder; mend the path")
        return os.walk(path, followlinks=True)
    import tensorflow as tf

    if not tf.io.gfile.isdir(path):
        raise UserError(f"{path}: no such folder; mend the path")
    return tf.io.gfile.walk(path)


def _lines(path):
    """The lines of a text file without the empty ones at its end."""
    try:
        return [line.strip() for line in read_bytes(path).decode().rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({one_line(error)})") from error


def _tfds_file(relative_path):
    try:
        return package_data.find_package_file(_TFDS, relative_path)
    except UserError:
        raise UserError(
            "the labels of ImageNet's validation images come with tensorflow-datasets, which is "
            "not installed; run: pip install tensorflow-datasets, or give --validation_labels=FILE"
        ) from None


def _check_names(classes, source):
    """Classes are lines of a text file, each once."""
    for name in classes:
        if name != name.strip() or not name.isprintable() or not name:
            raise UserError(f"{source}: {name!r} cannot be the name of a class; rename it")
    for name, following in itertools.pairwise(classes):
        if name == following:
            raise UserError(f"{source}: the class {name!r} is there twice; keep one")


def _not_empty(images, path):
    if not len(images):
        raise UserError(f"{path}: holds no images; give the original file")
    return images
