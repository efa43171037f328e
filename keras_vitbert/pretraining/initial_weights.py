"""Weights that pre-training starts from instead of random ones."""

from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.model.transfer import transfer
from keras_vitbert.trained.loading import load
from pipelines.command_line import UserError, say


def open_initial(path, config, variant, data):
    """Opens a checkpoint, and tries whether its weights fit a run.

    Args:
        path: str, anything that `keras_vitbert.load` takes.
        config: `ConfigDict` of the run.
        variant: `keras_vitbert.configs.variants.Variant`.
        data: `keras_vitbert.pretraining.data.Data`.

    Returns:
        `ViTBertBackbone` of the checkpoint, whose weights `transfer` copies into that of the run.

    Raises:
        UserError: there is no checkpoint, or it has another architecture or vocabulary.
    """
    try:
        trained = load(path)
        if variant.text and trained.vocabulary not in (None, data.vocabulary):
            raise UserError(
                f"{path}: has another vocabulary; give it as --config.data.vocabulary, with texts "
                "tokenized by it"
            )
        network = build_network(config.model, images=variant.images, text=variant.text)
        done = transfer(trained.backbone, network.backbone)
    except UserError as error:
        text = str(error)
        raise UserError(
            f"--initial_weights={text if text.startswith(path) else f'{path}: {text}'}"
        ) from error
    say(f"starts from {path}: {', '.join(f'{part} {how}' for part, how in done.items())}")
    return trained.backbone
