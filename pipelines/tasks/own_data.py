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
from types import ModuleType

from pipelines.images import SUFFIXES as IMAGE_SUFFIXES
from pipelines.tasks import labelled_rows
from pipelines.tasks.tables import SUFFIXES, Table, is_table, open_saved, open_table

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


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a split lies."""

    form: str
    paths: tuple[str, ...]  # a folder; a pattern of files; tables; a data set's folder

    def __str__(self) -> str:
        return ", ".join(self.paths)

    def tables(self) -> list[Table]:
        """The tables of the forms `tables` and `saved`."""
        return [(open_saved if self.form == SAVED else open_table)(path) for path in self.paths]


def find_splits(
    data_dir: str = "", files: dict[str, str] | None = None, anything: bool = True
) -> dict[str, Place]:
    """Finds the place of each split of a user's own data, `train` first; none in TFDS' own folder.

    `files` of `train`, `validation` or `test` replace what `data_dir` holds: one folder of images
    per class, a table, or a saved data set; `data_dir` may be a table, too. With `anything` a table
    of any name, and a folder of images without splits, count as training examples; in TFDS' folder
    they are something else.
    """
    files = files or {}
    for path in (data_dir, *files.values()):
        if path and not _exists(path):
            raise ValueError(f"{path}: no such file or folder")
    places = {}
    if data_dir:
        is_folder = _is_folder(data_dir)
        places = _in_folder(data_dir, anything) if is_folder else {TRAIN: _of_one_split(data_dir)}
    places |= {split: _of_one_split(path) for split, path in files.items()}
    if anything and not places:
        nothing = "no data are given: neither data_dir nor train"
        raise ValueError(_nothing_found(data_dir) if data_dir else nothing)
    return {split: places[split] for split in _NAMES if split in places}


def kind_of(splits: dict[str, Place], asked: str = "") -> str:
    """Whether data are `images` or `text`; a table with both is what is `asked` for."""
    place = next(iter(splits.values()))
    if place.form in (FOLDERS, RECORDS):
        return IMAGES
    table = place.tables()[0]
    has_texts = bool(labelled_rows.usual_columns(table.columns, labelled_rows.SENTENCES))
    if asked == TEXT and has_texts:
        return TEXT
    if table.image_columns:
        return IMAGES
    paths = labelled_rows.usual_columns(table.columns, labelled_rows.IMAGES)
    first = next(table.read(paths), None) if paths else None
    if first is None or first.damage or not str(first.values[0]).lower().endswith(IMAGE_SUFFIXES):
        return TEXT
    if has_texts and not asked:
        raise ValueError(f"{place}: has images and texts; name the task, images or texts")
    return IMAGES


def _in_folder(folder: str, anything: bool) -> dict[str, Place]:
    """The splits in a folder."""
    names = _names(folder)
    if _is_saved(names):
        return {TRAIN: Place(SAVED, (folder,))}
    usual = [name for name in names if name.lower() in USUAL_NAMES]
    inner = [name for name in usual if _is_folder(os.path.join(folder, name))]
    folders = {split: _of_one_split(*paths) for split, paths in _by_split(folder, inner).items()}
    if TRAIN in folders:
        return folders
    records = {
        split: Place(RECORDS, (os.path.join(folder, f"{split}-*-of-*"),))
        for split in (TRAIN, VALIDATION)
        if any(re.fullmatch(rf"{split}-\d+-of-\d+", name) for name in names)
    }
    if TRAIN in records:
        return records
    tables = [name for name in names if is_table(name)]
    if splits := _by_split(folder, tables):
        return {split: Place(TABLES, paths) for split, paths in splits.items()}
    loose = [name for name in tables if not name.endswith(".json")]  # may be anything
    if folders or not anything:
        return folders
    if len(loose) == 1:
        return {TRAIN: Place(TABLES, (os.path.join(folder, loose[0]),))}
    return {TRAIN: Place(FOLDERS, (folder,))} if not loose and _is_flat(folder, names) else {}


def _nothing_found(data_dir: str) -> str:
    """The message for a folder that holds nothing of a known form."""
    there = sorted(_names(data_dir))
    shown = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
    return (
        f"{data_dir}: holds neither a folder of images per class (train/CLASS/*.jpg, or "
        f"CLASS/*.jpg) nor a saved data set nor a table ({', '.join(SUFFIXES)}) that is alone or "
        f"named train, but {shown or 'nothing'}"
    )


def _by_split(folder: str, names: list[str]) -> dict[str, tuple[str, ...]]:
    """The paths of those that are named after a split; the shards of a table belong together."""
    splits = {}
    for split, usual in _NAMES.items():
        groups = {}
        for name in sorted(names):
            whole = re.sub(r"-\d+(-of-\d+\.\w+)$", r"\1", name)
            stem = re.sub(r"(-of-\d+)?\.\w+$", "", whole) if is_table(name) else name
            if stem.lower() in usual:
                groups.setdefault(whole, []).append(name)
        if len(groups) > 1:
            both = " and ".join(sorted(group[0] for group in groups.values()))
            raise ValueError(
                f"{folder}: holds both {both}; keep one, or name the files of each split"
            )
        for group in groups.values():
            splits[split] = tuple(os.path.join(folder, name) for name in group)
    return splits


def _of_one_split(path: str) -> Place:
    """The `Place` of a file or a folder that holds one split."""
    if not _is_folder(path):
        return Place(TABLES, (path,))
    return Place(SAVED if _is_saved(_names(path)) else FOLDERS, (path,))


def _is_saved(names: list[str]) -> bool:
    """Whether the files of a folder are a saved data set of one split."""
    return {"state.json", "dataset_info.json"} <= set(names)


def _is_flat(folder: str, names: list[str]) -> bool:
    """Whether a folder holds folders that hold images."""
    paths = [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return any(
        inner.lower().endswith(IMAGE_SUFFIXES)
        for path in filter(_is_folder, paths)
        for inner in _names(path)
    )


def _is_folder(path: str) -> bool:
    return _gfile().isdir(path) if "://" in path else os.path.isdir(path)


def _exists(path: str) -> bool:
    return _gfile().exists(path) if "://" in path else os.path.exists(path)


def _names(path: str) -> list[str]:
    names = _gfile().listdir(path) if "://" in path else os.listdir(path)
    return [name.rstrip("/") for name in names]


def _gfile() -> ModuleType:
    import tensorflow as tf  # local data need none

    return tf.io.gfile
