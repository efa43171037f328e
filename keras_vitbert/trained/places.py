"""Looks whether the path of a model exists, before anything heavy is loaded."""

import os


def require_place(path: str) -> None:
    """Refuses the path of a model where nothing is.

    A name without a folder may be that of a preset, and a remote path is not looked at:
    `keras_vitbert.trained.finding.find` says whether they exist.
    """
    is_local = "/" in path and "://" not in path
    if is_local and not any(map(os.path.exists, (path, f"{path}.index"))):  # of Google's BERT
        raise ValueError(
            f"{path}: no such folder or file; fix the path, or give hf://OWNER/NAME or the name of "
            "a preset"
        )
