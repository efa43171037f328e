"""Weights that pre-training starts from instead of random ones."""

import dataclasses

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.model.transfer import transfer
from keras_vitbert.trained.loading import load
from pipelines.command_line import UserError, say
from pipelines.text.wordpiece import vocabulary_hash


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """Weights that fit a run's backbone.

    Attributes:
        backbone: `ViTBertBackbone` of the run's shape.
        fresh: tuple of str, its embeddings that are random: the checkpoint has none for them.
    """

    backbone: ViTBertBackbone
    fresh: tuple[str, ...]

    def give_to(self, backbone, strategy):
        """Copies all weights but the fresh ones.

        Args:
            backbone: `ViTBertBackbone` of the run.
            strategy: `tf.distribute.Strategy` that it was built under.
        """
        with strategy.scope():
            for ours, theirs in zip(backbone.weights, self.backbone.weights, strict=True):
                if not set(ours.path.split("/")) & set(self.fresh):
                    ours.assign(theirs.value)


def open_initial(path, config, variant, data):
    """Opens a checkpoint and fits its weights to a run.

    Args:
        path: str, anything that `keras_vitbert.load` takes.
        config: `ConfigDict` of the run.
        variant: `keras_vitbert.configs.variants.Variant`.
        data: `keras_vitbert.pretraining.data.Data`.

    Returns:
        `InitialWeights`.

    Raises:
        UserError: there is no checkpoint, or it has another architecture or vocabulary.
    """
    try:
        trained = load(path)
        theirs, ours = trained.vocabulary, data.vocabulary
        if variant.text and theirs and vocabulary_hash(theirs) != vocabulary_hash(ours):
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
    return InitialWeights(
        network.backbone, tuple(part for part, how in done.items() if how == "fresh")
    )
