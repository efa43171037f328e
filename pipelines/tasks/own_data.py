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

from pipelines.files import json_object, reading
from pipelines.images import SUFFIXES as IMAGE_SUFFIXES
from pipelines.tasks.labelled_rows import SENTENCES
from pipelines.tasks.saved_datasets import open_saved
from pipelines.tasks.tables import SUFFIXES, Table, is_table, open_table

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
        form: `folders`, `records`, `tables` or `saved`.
        paths: a folder; a pattern of files; tables; a data set's folder.
    """

    form: str
    paths: tuple[str, ...]

    def __str__(self):
        return ", ".join(self.paths)

    def tables(self) -> list[Table]:
        """The tables of the forms `tables` and `saved`."""
        return [(open_saved if self.form == SAVED else open_table)(path) for path in self.paths]


def find_splits(
    data_dir: str = "", files: dict[str, str] | None = None, anything: bool = True
) -> dict[str, Place]:
    """Finds the splits of a user's own data.

    Args:
        data_dir: a folder, local or `gs://`; may be empty.
        files: of `train`, `validation` or `test`: one folder of images per class, a table, or a
            saved data set. They replace what `data_dir` holds.
        anything: whether a table of any name, and a folder of images without splits, count as
            training examples. In TFDS' data folder they are something else.

    Returns:
        The place of each split, `train` first; empty if `data_dir` holds nothing of a known form.

    Raises:
        ValueError: something is missing or ambiguous.
    """
    files = files or {}
    for path in (data_dir, *files.values()):
        if path and not _files(path).exists(path):
            raise ValueError(f"{path}: no such file or folder")
    found = _in_folder(data_dir, anything) if data_dir else {}
    found |= {split: _of_one_split(path) for split, path in files.items()}
    return {split: found[split] for split in _NAMES if split in found}


def kind_of(splits: dict[str, Place]) -> str:
    """Whether data are `images` or `text`.

    Args:
        splits: from `find_splits`; not empty.

    Raises:
        ValueError: this cannot be decided.
    """
    place = next(iter(splits.values()))
    if place.form in (FOLDERS, RECORDS):
        return IMAGES
    if place.form == SAVED:
        return _kind_of_saved(place.paths[0])
    return _kind_of_table(place.paths[0])


def nothing_found(data_dir: str) -> str:
    """The message for a folder that holds nothing of a known form."""
    there = sorted(_names(data_dir))
    shown = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
    return (
        f"{data_dir}: holds neither a folder of images per class (train/CLASS/*.jpg, or "
        f"CLASS/*.jpg) nor a saved data set nor a table ({', '.join(SUFFIXES)}) that is alone or "
        f"named train, but {shown or 'nothing'}"
    )


def _in_folder(folder, anything):
    """The splits in a folder: dict of a name to a `Place`."""
    names = _names(folder)
    if "dataset_dict.json" in names and (saved := _saved_splits(folder)):
        return saved
    if _is_saved(names):
        return {TRAIN: Place(SAVED, (folder,))}
    folders = {}
    for split, usual in _NAMES.items():
        known = [name for name in names if name.lower() in usual]
        known = [name for name in known if _is_folder(os.path.join(folder, name))]
        if known:
            folders[split] = _of_one_split(os.path.join(folder, _only(known, folder)))
    if TRAIN in folders:
        return folders
    records = {
        split: Place(RECORDS, (os.path.join(folder, f"{split}-*-of-*"),))
        for split in (TRAIN, VALIDATION)
        if any(re.fullmatch(rf"{split}-\d+-of-\d+", name) for name in names)
    }
    if TRAIN in records:
        return records
    names_of_tables = [name for name in names if is_table(name)]
    if found := _tables(folder, names_of_tables) or folders:
        return found
    loose = [name for name in names_of_tables if not name.endswith(".json")]  # may be anything
    if anything and len(loose) == 1:
        return {TRAIN: Place(TABLES, (os.path.join(folder, loose[0]),))}
    if anything and not loose and _is_flat(folder, names):
        return {TRAIN: Place(FOLDERS, (folder,))}
    return {}


def _tables(folder, names):
    """The tables in a folder, by the split that their names give."""
    splits = {}
    for split, usual in _NAMES.items():
        forms = {}
        for name in sorted(names):
            form = re.sub(r"-\d+(-of-\d+\.\w+)$", r"\1", name.lower())  # of all shards of a table
            if re.sub(r"(-of-\d+)?\.\w+$", "", form) in usual:
                forms.setdefault(form, []).append(name)
        if forms:
            _only([found[0] for found in forms.values()], folder)
            [found] = forms.values()
            splits[split] = Place(TABLES, tuple(os.path.join(folder, name) for name in found))
    return splits


def _only(names, folder):
    """The only one of several names of one split."""
    if len(names) > 1:
        raise ValueError(
            f"{folder}: holds both {' and '.join(sorted(names))}; keep one, or name the files of "
            "each split"
        )
    return names[0]


def _of_one_split(path):
    """The `Place` of a file or a folder that holds one split."""
    if not _is_folder(path):
        return Place(TABLES, (path,))
    return Place(SAVED if _is_saved(_names(path)) else FOLDERS, (path,))


def _is_saved(names):
    """Whether the files of a folder are a saved data set of one split."""
    return {"state.json", "dataset_info.json"} <= set(names)


def _saved_splits(folder):
    stored = _read_json(os.path.join(folder, "dataset_dict.json"), "splits", list)
    splits = {}
    for split, usual in _NAMES.items():
        known = [name for name in map(str, stored) if name.lower() in usual]
        if known:
            splits[split] = Place(SAVED, (os.path.join(folder, _only(known, folder)),))
    return splits


def _is_flat(folder, names):
    """Whether a folder holds folders that hold images."""
    paths = [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return any(
        inner.lower().endswith(IMAGE_SUFFIXES)
        for path in filter(_is_folder, paths)
        for inner in _names(path)
    )


def _kind_of_saved(folder):
    features = _read_json(os.path.join(folder, "dataset_info.json"), "features", dict).values()
    kinds = [each.get("_type") for each in features if isinstance(each, dict)]
    return IMAGES if "Image" in kinds else TEXT


def _read_json(path, key, kind):
    """A list or dict in a file that `datasets` wrote."""
    with reading(path) as (file, _):
        content = file.read()
    try:
        found = json_object(content).get(key)
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise ValueError(f"{path}: names no {key}; save the data set again")
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
        raise ValueError(f"{path}: has images and texts; name the task, images or texts")
    return IMAGES


def _is_folder(path):
    return _files(path).isdir(path)


def _names(path):
    return [name.rstrip("/") for name in _files(path).listdir(path)]


def _files(path):
    """What looks at a path; TensorFlow is loaded only for remote ones."""
    if "://" not in path:
        return _Local
    import tensorflow as tf

    return tf.io.gfile


class _Local:
    isdir, exists, listdir = os.path.isdir, os.path.exists, os.listdir
