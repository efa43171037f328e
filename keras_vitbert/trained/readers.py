"""Reads a model of another project, whichever it is."""

from keras_vitbert.trained import google, hugging_face, keras_hub_presets, sources
from keras_vitbert.trained.architectures import Weights
from pipelines.command_line import one_line

_READERS = {
    sources.HUGGING_FACE: hugging_face.read,
    sources.PRESET: keras_hub_presets.read,
    sources.GOOGLE_BERT: google.read_bert,
    sources.GOOGLE_VIT: google.read_vit,
}


def read(source: sources.Source) -> Weights:
    """Reads a BERT or ViT of another project.

    Raises:
        ValueError: it is another model, or a part of it is missing or damaged.
    """
    try:
        return _READERS[source.kind](source)
    # Where a file is damaged or has another content, libraries raise many kinds of errors.
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"{source.label}: cannot be read as {source.kind}: {kind}{one_line(error)[:400]}"
        ) from error
