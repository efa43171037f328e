"""Finds a user's own data: its splits, their form, and whether they hold images or texts.

| form | is |
| --- | --- |
| `folders` | one folder of images per class |
| `records` | `train-00000-of-00128` and so on, as `pipelines.imagenet` writes them |
| `tables` | tables of texts, or of images and their labels, see `pipelines.tasks.tables` |
| `saved` | a data set of Hugging Face's `datasets`, as `save_to_disk` writes it |

For local data, all this is found without TensorFlow, so that a wrong path is reported at once.
"""

import dataclasses
import os
import re

from pipelines.command_line import one_line
from pipelines.files import json_object, reading
from pipelines.images import SUFFIXES as IMAGE_SUFFIXES
from pipelines.tasks.labelled_rows import SENTENCES
from pipelines.tasks.saved_datasets import open_saved
from pipelines.tasks.tables import SUFFIXES, is_table, open_table

FOLDERS, RECORDS, TABLES, SAVED = "folders", "records", "tables", "saved"
IMAGES, TEXT = "images", "text"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
# The names that folders and files of a split may have, case-insensitive. The splits are reported in
# this order, and the first one gives the result.
_NAMES = {
    TRAIN: ("train", "training"),
    TEST: ("test", "testing"),
    VALIDATION: ("validation", "valid", "val", "dev", "development"),
    "validation_matched": ("dev_matched", "validation_matched"),
    "validation_mismatched": ("dev_mismatched", "validation_mismatched"),
}
USUAL_NAMES = frozenset(name for names in _NAMES.values() for name in names)
# Columns of images: their bytes, or their paths.
IMAGE_COLUMNS = tuple(
    (name,)
    for name in (
        *("image", "img", "image_path", "img_path", "image_file", "image_name", "path"),
        *("file_path", "filepath", "file", "file_name", "filename"),
    )
)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a split lies.

    Attributes:
        form: str, `folders`, `records`, `tables` or `saved`.
        paths: tuple of str: a folder; a pattern of files; tables; a data set's folder.
    """

    form: str
    paths: tuple[str, ...]

    def __str__(self):
        return ", ".join(self.paths)

    def tables(self):
        """The tables of the forms `tables` and `saved`: list of `pipelines.tasks.tables.Table`."""
        return [(open_saved if self.form == SAVED else open_table)(path) for path in self.paths]


def find_splits(data_dir="", files=None, anything=True):
    """Finds the splits of a user's own data.

    Args:
        data_dir: str, a folder, local or `gs://`; may be empty.
        files: dict of `train`, `validation` or `test` to what the flag of that name holds: one
            folder of images per class, a table, or a saved data set. They replace what `data_dir`
            holds.
        anything: bool, whether a table of any name, and a folder of images without splits, count as
            training examples. In TFDS' data folder they are something else.

    Returns:
        dict of the name of a split to a `Place`, `train` first; empty if `data_dir` holds nothing
        of a known form.

    Raises:
        ValueError: something is missing or ambiguous.
    """
    found = _in_folder(data_dir, anything) if data_dir else {}
    for split, path in (files or {}).items():
        found[split] = _given(path, f"--{split}={path}")
    return {split: found[split] for split in _NAMES if split in found}


def kind_of(splits):
    """Whether data are images or texts.

    Args:
        splits: dict, from `find_splits`; not empty.

    Returns:
        str, `images` or `text`.

    Raises:
        ValueError: this cannot be decided.
    """
    place = next(iter(splits.values()))
    if place.form in (FOLDERS, RECORDS):
        return IMAGES
    if place.form == SAVED:
        return _kind_of_saved(place.paths[0])
    return _kind_of_table(place.paths[0])


def nothing_found(data_dir):
    """The message for a folder that holds nothing of a known form.

    Args:
        data_dir: str.

    Returns:
        str.
    """
    there = sorted(_names(data_dir))
    shown = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
    return (
        f"--data_dir={data_dir}: holds neither a folder of images per class (train/CLASS/*.jpg, or "
        f"CLASS/*.jpg) nor a table ({', '.join(SUFFIXES)}) nor a saved data set, but "
        f"{shown or 'nothing'}; give another folder, or --train=FILE"
    )


def _in_folder(folder, anything):
    """The splits in a folder: dict of a name to a `Place`."""
    if not _is_folder(folder):
        raise ValueError(f"--data_dir={folder}: no such folder; fix the path")
    names = _names(folder)
    saved = _saved_splits(folder, names)
    if saved:
        return saved
    folders = {}
    for split, usual in _NAMES.items():
        known = [name for name in names if name.lower() in usual]
        known = [name for name in known if _is_folder(os.path.join(folder, name))]
        _check_one(known, folder)
        if known:
            folders[split] = os.path.join(folder, known[0])
    if TRAIN in folders:
        return {split: _given(path, path) for split, path in folders.items()}
    records = {split: f"{split}-*-of-*" for split in (TRAIN, VALIDATION)}
    records = {
        split: Place(RECORDS, (os.path.join(folder, pattern),))
        for split, pattern in records.items()
        if any(re.fullmatch(rf"{split}-\d+-of-\d+", name) for name in names)
    }
    if TRAIN in records:
        return records
    tables = _tables(folder, [name for name in names if is_table(name)], anything)
    if tables or folders:
        return tables or {split: _given(path, path) for split, path in folders.items()}
    if anything and _is_flat(folder, names):
        return {TRAIN: Place(FOLDERS, (folder,))}
    return {}


def _tables(folder, names, anything):
    """The tables in a folder, by the split that their names give."""
    splits = {}
    for split, usual in _NAMES.items():
        forms = {}
        for name in sorted(names):
            form = re.sub(r"-\d+(-of-\d+\.\w+)$", r"\1", name.lower())  # of all shards of a table
            if re.sub(r"(-of-\d+)?\.\w+$", "", form) in usual:
                forms.setdefault(form, []).append(name)
        _check_one([found[0] for found in forms.values()], folder)
        for found in forms.values():
            splits[split] = Place(TABLES, tuple(os.path.join(folder, name) for name in found))
    if splits or not anything:
        return splits
    names = [name for name in names if not name.endswith(".json")]  # which may be anything
    if len(names) == 1:
        return {TRAIN: Place(TABLES, (os.path.join(folder, names[0]),))}
    if names:
        raise ValueError(
            f"--data_dir={folder}: holds {', '.join(sorted(names)[:8])}, none of which is named as "
            "a split; say which is which with --train=FILE, --validation=FILE and --test=FILE"
        )
    return splits


def _check_one(names, folder):
    """Refuses several files or folders of one split."""
    if len(names) > 1:
        both = " and ".join(sorted(names))
        raise ValueError(
            f"--data_dir={folder}: holds both {both}; keep one, or give each split with --train, "
            "--validation and --test instead of --data_dir"
        )


def _given(path, label):
    """The `Place` of a file or a folder that holds one split."""
    if not _is_folder(path):
        if not _exists(path):
            raise ValueError(f"{label}: no such file or folder; fix the path")
        if not is_table(path):
            raise ValueError(
                f"{label}: is not a table; give a file that ends with {', '.join(SUFFIXES)}"
            )
        return Place(TABLES, (path,))
    names = _names(path)
    return Place(SAVED if _is_saved(path, names, label) else FOLDERS, (path,))


def _is_saved(folder, names, label):
    """Whether a folder is a saved data set of one split; such a remote folder is refused."""
    if "state.json" not in names or "dataset_info.json" not in names:
        return False
    _check_local(folder, label)
    return True


def _check_local(folder, label):
    if "://" in folder:
        raise ValueError(f"{label}: a saved data set must be local; copy it to this machine")


def _saved_splits(folder, names):
    label = f"--data_dir={folder}"
    if "dataset_dict.json" in names:
        _check_local(folder, label)
        stored = _read_json(os.path.join(folder, "dataset_dict.json"), "splits", list)
        splits = {}
        for split, usual in _NAMES.items():
            known = [name for name in map(str, stored) if name.lower() in usual]
            _check_one(known, folder)
            if known:
                splits[split] = Place(SAVED, (os.path.join(folder, known[0]),))
        return splits
    return {TRAIN: Place(SAVED, (folder,))} if _is_saved(folder, names, label) else {}


def _is_flat(folder, names):
    """Whether a folder holds folders that hold images."""
    paths = [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return any(
        inner.lower().endswith(IMAGE_SUFFIXES)
        for path in filter(_is_folder, paths)
        for inner in _names(path)
    )


def _kind_of_saved(folder):
    features = _read_json(os.path.join(folder, "dataset_info.json"), "features", dict)
    is_image = [
        isinstance(each, dict) and each.get("_type") == "Image" for each in features.values()
    ]
    return IMAGES if any(is_image) else TEXT


def _read_json(path, key, kind):
    """A list or dict in a file that `datasets` wrote."""
    with reading(path) as (file, _):
        content = file.read()
    try:
        found = json_object(content).get(key)
        if not isinstance(found, kind):
            raise ValueError(f"{key} is {found!r:.40}")
    except ValueError as error:
        raise ValueError(
            f"{path}: is damaged ({one_line(error)}); save the data set again"
        ) from error
    return found


def _kind_of_table(path):
    table = open_table(path)
    if table.image_columns:
        return IMAGES
    written = {name.strip().lower(): name for name in table.columns}
    paths = [written[name] for (name,) in IMAGE_COLUMNS if name in written]
    sentences = any({name.lower() for name in names} <= written.keys() for names in SENTENCES)
    first = next(iter(table.read(paths[:1])), None) if paths else None
    if first is None or first.damage or not str(first.values[0]).lower().endswith(IMAGE_SUFFIXES):
        return TEXT
    if sentences:
        raise ValueError(
            f"{path}: has images and texts; say which are to be classified with --task=images or "
            "--task=texts"
        )
    return IMAGES


# TensorFlow is loaded only for remote paths.


def _is_folder(path):
    return _files(path).isdir(path)


def _exists(path):
    return _files(path).exists(path)


def _names(path):
    return [name.rstrip("/") for name in _files(path).listdir(path)]


def _files(path):
    if "://" not in path:
        return _Local
    import tensorflow as tf

    return tf.io.gfile


class _Local:
    isdir, exists, listdir = os.path.isdir, os.path.exists, os.listdir
