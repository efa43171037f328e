"""Opens the texts of a task, from TFDS or a user's own."""

import dataclasses

from pipelines.command_line import say
from pipelines.tasks import tfds_data
from pipelines.tasks.labelled_rows import class_order, read_rows
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text.casing import is_lower


def read_tfds(task, data_dir, download):
    """The rows of a task of TensorFlow Datasets.

    Args:
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        data_dir: str, TFDS' data folder.
        download: bool, whether TFDS may fetch missing data.

    Returns:
        (list of str, the classes; dict of a split to `LabelledRows`).

    Raises:
        ValueError: something is missing or damaged.
    """
    builder = tfds_data.open_builder(task.tfds, data_dir, download)
    rows = {
        split: tfds_data.read_rows(builder, split, task.columns) for split in ("train", *task.tests)
    }
    return tfds_data.class_names(builder), rows


def read_own(places, config, classes=None, skip_damaged=0, asked_for=(), columns=None):
    """The rows of a user's own tables; reports what is left out.

    Args:
        places: dict of a split to a `pipelines.tasks.own_data.Place`, `train` first if present.
        config: `keras_vitbert.configs.fine_tuning.FineTuning`.
        classes: list of str, those of a trained model; those of the first split by default.
        skip_damaged: int, how many damaged rows may be left out.
        asked_for: collection of str, the splits that flags name; they must have labels.
        columns: dict, those of a trained model: `sentences`, one or two str, and `label`, str. They
            are read where the config names no others and a table has them.

    Returns:
        (list of str, the classes; dict of a split to `LabelledRows`).

    Raises:
        ValueError: something is missing or damaged.
    """
    given = [name for name in config.data.sentence_columns.split(",") if name]
    known = {"sentences": (), "label": "", **(columns or {})}
    owner, rows = "the trained model", {}
    for split, place in places.items():
        tables = place.tables()
        there = tables[0].columns
        if rows and known["label"] not in there and split not in asked_for and split == "test":
            say(f"{place}: has no column {known['label']!r}, so nothing is measured on it")
            continue
        sentences = given or (known["sentences"] if set(known["sentences"]) <= set(there) else ())
        label = config.data.label_column or (known["label"] if known["label"] in there else "")
        found = read_rows(tables, sentences, label, skip_damaged)
        skip_damaged -= found.left_out
        if len(known["sentences"]) not in (0, len(found.sentence_columns)):
            raise ValueError(
                f"{found.source}: has a different number of sentence columns from {owner}; name "
                "them in data.sentence_columns"
            )
        if not rows:  # the next splits have the columns of the first one, if they are present
            known = {"sentences": found.sentence_columns, "label": found.label_column}
            owner = found.source
        rows[split] = found
    if classes is None:
        classes = sorted(set(next(iter(rows.values())).labels), key=class_order)
    return classes, rows


def encoded(rows, classes, vocabulary, config, max_length):
    """Texts as token ids.

    Args:
        rows: `LabelledRows`.
        classes: list of str.
        vocabulary: list of str.
        config: `keras_vitbert.configs.fine_tuning.FineTuning`.
        max_length: int, tokens of a text.

    Returns:
        `LabelledTexts`.

    Raises:
        ValueError: the class of a row is not among `classes`.
    """
    indices = {name: index for index, name in enumerate(classes)}
    for place, label in enumerate(rows.labels):
        if label not in indices:
            raise ValueError(
                f"{rows.source}: the class {label!r} (of {rows.first[place][:40]!r} ...) is not "
                f"among those of the training examples, {', '.join(classes[:10])}; remove it, or "
                "add it to them"
            )
    labels = [indices[label] for label in rows.labels]
    buckets = [length for length in config.buckets if length < max_length]
    texts = LabelledTexts.encode(
        rows.first,
        rows.second,
        labels,
        vocabulary,
        [*buckets, max_length],
        is_lower(config.data.case, vocabulary),
    )
    return dataclasses.replace(texts, rows=rows)
