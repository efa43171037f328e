"""Whether two lists name the same classes in the same order."""

import functools
import re

import keras_hub
import numpy as np

_SYNSET = r"n\d{8}"
_UNKNOWN_SHARE = 0.05


def first_difference(ours, theirs):
    """The first index at which two lists of class names differ.

    Case, underscores and hyphens do not count. A name may be a comma-separated list of synonyms:
    one in common is enough. A WordNet id, such as n01440764, stands for ImageNet's name of its
    class. Other lists use other names for some classes, so a few names that belong to none of the
    ids do not count as a difference.

    Args:
        ours, theirs: lists of str, of the same length.

    Returns:
        int, or None if they name the same classes.
    """
    known = set().union(*map(_meanings, ours))
    unknown = []
    for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        meanings = _meanings(their)
        if _meanings(our) & meanings:
            continue
        if not re.fullmatch(_SYNSET, our) or meanings & known:
            return index
        unknown.append(index)
    return unknown[0] if len(unknown) > _UNKNOWN_SHARE * len(ours) else None


def _meanings(name):
    """All names of a class, normalised: set of str."""
    if re.fullmatch(_SYNSET, name):
        return {name, *filter(None, [_imagenet_names().get(name)])}
    return {_spelled(synonym) for synonym in name.split(",")}


def _spelled(name):
    return " ".join(re.sub(r"[_-]", " ", name).lower().split())


@functools.cache
def _imagenet_names():
    """WordNet id to name of ImageNet's 1,000 classes."""
    best = keras_hub.utils.decode_imagenet_predictions(
        np.eye(1000, dtype=np.float32), top=1, include_synset_ids=True
    )
    return {synset: _spelled(name) for [(synset, name, _)] in best}
