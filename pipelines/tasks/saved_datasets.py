"""Data sets of Hugging Face's `datasets`, as its `save_to_disk` writes them."""

from pipelines.command_line import install, one_line
from pipelines.tasks.tables import ROWS_AT_ONCE, Table, arrow_table


def open_saved(folder: str) -> Table:
    """Opens a saved data set of one split, with `state.json`; its rows stay on disk until read.

    Raises:
        ValueError: it cannot be read, or `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"{folder}: reading it needs datasets; run: {install('datasets')}"
        ) from error

    try:
        saved = datasets.load_from_disk(folder)
        arrow = saved.with_format("arrow")[:]
    except Exception as error:  # of any damage: it fails in many ways
        raise ValueError(f"{folder}: {type(error).__name__}: {one_line(error)[:200]}") from error

    def batches(names):
        return arrow.select(names).to_batches(max_chunksize=ROWS_AT_ONCE)

    return arrow_table(folder, arrow.schema, batches, saved.features.to_dict())
